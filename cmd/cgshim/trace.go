package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cmd/cgshim/internal/deliver"
)

// traceVariable is the environment variable that makes cgshim write to stderr, at its end, how long each phase took.
const traceVariable = "CGSHIM_TRACE"

// A trace has the phases of a run that are over. A nil trace records nothing.
type trace struct {
	boot   time.Duration
	begin  time.Time
	phases []phase
}

type phase struct {
	name string
	end  time.Time
}

// newTrace returns nil unless the environment asks for a trace.
func newTrace() *trace {
	if os.Getenv(traceVariable) != "1" {
		return nil
	}
	t := &trace{begin: time.Now()}
	var cpu unix.Timespec
	if unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &cpu) == nil {
		t.boot = time.Duration(cpu.Nano())
	}
	return t
}

func (t *trace) end(name string) {
	if t != nil {
		t.phases = append(t.phases, phase{name, time.Now()})
	}
}

// print writes a line for each phase: how long it took, and when it was over, in milliseconds since main. For the time before main it
// has the CPU time, because the process can't look up when it began.
func (t *trace) print() {
	if t == nil {
		return
	}
	var text strings.Builder
	line := func(name string, took, at time.Duration) {
		fmt.Fprintf(&text, "cgshim: trace: %-9s %8.3f ms  at %8.3f\n", name, took.Seconds()*1e3, at.Seconds()*1e3)
	}
	line("boot", t.boot, 0)
	before := t.begin
	for _, p := range t.phases {
		line(p.name, p.end.Sub(before), p.end.Sub(t.begin))
		before = p.end
	}
	_ = deliver.Tell(text.String())
}
