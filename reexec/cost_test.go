package reexec

import (
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// ru_maxrss survives execve: a program whose parent shares its memory with it, as vfork does, reports
// the parent's peak as its own.
func TestMaxRSS(t *testing.T) {
	lock(t)
	ballast := make([]byte, 200<<20)
	for i := 0; i < len(ballast); i += 4096 {
		ballast[i] = 1
	}
	usage := run(t, &Spec{Args: []string{"/bin/true"}}, Join{}).usage
	// The race detector's own memory is in the stage, and so in the copy of it that the program was.
	limit := int64(8 << 10)
	if raceEnabled {
		limit = 64 << 10
	}
	if usage.Maxrss >= limit {
		t.Errorf("ru_maxrss of true is %d KiB, want less than %d", usage.Maxrss, limit)
	}
	cmd := exec.Command("/bin/true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	t.Logf("ru_maxrss %d KiB; through os/exec %d KiB", usage.Maxrss, cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss)
	runtime.KeepAlive(ballast)
}

// The stage's CPU time is not the program's. A stage of this size costs milliseconds, with the race
// detector tens: they would show. The bound is loose, and there is a floor for coarse clocks.
func TestCPUTime(t *testing.T) {
	lock(t)
	const runs, factor, floor = 20, 20, 100 * time.Millisecond
	var launched, plain time.Duration
	for range runs {
		usage := run(t, &Spec{Args: []string{"/bin/true"}}, Join{}).usage
		launched += time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
		cmd := exec.Command("/bin/true")
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		plain += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	if launched > factor*plain+floor {
		t.Errorf("%d runs of true used %v of CPU time, through os/exec %v", runs, launched, plain)
	}
	t.Logf("CPU time of true %v, through os/exec %v", launched/runs, plain/runs)
}
