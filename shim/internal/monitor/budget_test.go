package monitor

import (
	"testing"
	"time"

	"github.com/cgshim/cgshim/cgroup"
)

// With fewer CPUs than it takes, a check would come too late: also a fraction of a CPU is a part of a period on all of them, which
// uses up the budget as fast.
func TestCPUCount(t *testing.T) {
	online, err := cgroup.OnlineCPUs()
	if err != nil {
		t.Fatal(err)
	}
	if got := cpuCount(time.Second); got != len(online) {
		t.Errorf("%d of %d", got, len(online))
	}
	if got := cpuCount(0); got != 1 {
		t.Errorf("without a CPU time limit: %d", got)
	}
}

// An idle run with next to nothing left of its budget is looked at less and less often; one that goes on
// using it, as often as before.
func TestCPUBudget(t *testing.T) {
	b := cpuBudget{cpus: 4}
	if got := b.wait(time.Second); got != 250*time.Millisecond {
		t.Errorf("a second on 4 CPUs: %v", got)
	}
	for rest := 2 * time.Millisecond; rest > time.Millisecond; rest -= 100 * time.Microsecond {
		if got := b.wait(rest); got != cpuCheckMin {
			t.Errorf("busy, %v left: %v", rest, got)
		}
	}
	last := cpuCheckMin
	for range 20 {
		got := b.wait(time.Millisecond)
		if got < last || got > cpuCheckIdle {
			t.Errorf("idle: %v after %v", got, last)
		}
		last = got
	}
	if last != cpuCheckIdle {
		t.Errorf("idle for long: %v", last)
	}
	if got := b.wait(time.Millisecond / 2); got != cpuCheckMin {
		t.Errorf("busy again: %v", got)
	}
}
