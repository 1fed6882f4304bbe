package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
)

func TestResultString(t *testing.T) {
	number := func(n uint64) *uint64 { return &n }
	code, signal, killed := 3, 9, "SIGKILL"
	wall, cpu := Seconds(1.25), Seconds(0.001)
	for want, r := range map[string]*Result{
		"no verdict":         {},
		"ok":                 {Verdict: OK},
		"cancelled: x":       {Verdict: Cancelled, Error: &ErrorInfo{Step: "cancelled", Message: "x"}},
		"signaled: signal 9": {Verdict: Signaled, Signal: &signal},
		"nonzero-exit: exit status 3, wall 1.250 s, CPU 0.001 s, memory 1.5 MiB":     {Verdict: NonzeroExit, ExitCode: &code, WallSeconds: &wall, CPUSeconds: &cpu, PeakMemoryBytes: number(3 << 19)},
		"memory-limit: SIGKILL, memory 1023 bytes, limits hit: memory pids":          {Verdict: MemoryLimit, Signal: &signal, SignalName: &killed, PeakMemoryBytes: number(1023), LimitsHit: []string{"memory", "pids"}},
		`error: exec "x": no such file or directory, warnings: no cgroup: y; net: z`: {Verdict: Failed, Error: &ErrorInfo{Message: `exec "x": no such file or directory`}, Warnings: []string{"no cgroup: y", "net: z"}},
		"ok: memory 4.0 TiB": {Verdict: OK, PeakMemoryBytes: number(1 << 42)},
	} {
		if got := fmt.Sprintf("%v", r); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestErrorInfoIsAnError(t *testing.T) {
	cause := &cgroup.Error{Op: "create", Path: "/x", Err: unix.EACCES}
	for name, r := range map[string]*Result{
		"set up":  SetupError(&Config{}, "cgroup", cause),
		"usage":   UsageError(&Config{}, cause),
		"explain": {Error: Explain(cause)},
	} {
		var err error = r.Error
		var e *cgroup.Error
		if err.Error() != r.Error.Message || !errors.Is(err, unix.EACCES) || !errors.As(err, &e) || e != cause {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := error(Unstarted(&Config{}).Error); !errors.Is(err, errUnwanted) {
		t.Errorf("never started: %v", err)
	}
	// In JSON it is the object that it was.
	line, err := json.Marshal(SetupError(&Config{}, "kill", cgroup.ErrNotEmpty).Error)
	if err != nil {
		t.Fatal(err)
	}
	var read ErrorInfo
	if err := json.Unmarshal(line, &read); err != nil || read.Step != "kill" || read.Message != "kill: processes do not die" || read.Unwrap() != nil {
		t.Errorf("%s: %+v, %v", line, read, err)
	}
}
