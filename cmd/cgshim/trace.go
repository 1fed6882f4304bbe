package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// traceVariable makes cgshim tell on stderr, at its end, where the time went.
const traceVariable = "CGSHIM_TRACE"

// A trace is what it tells. The nil trace is none.
type trace struct {
	boot   time.Duration
	begin  time.Time
	phases []phase
}

type phase struct {
	name string
	end  time.Time
}

// newTrace is nil unless the environment asks for one.
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

// print writes a line for each phase: how long it took, and when it was over, in milliseconds since main. What is before
// main is told as CPU time: it has no beginning that could be looked up.
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
	_ = stderr.write([]byte(text.String()))
}
