package shim

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cgshim/cgshim/cgroup"
)

func TestMemoryLimit(t *testing.T) {
	parent := newParent(t)
	cfg := self(t, parent, "eat")
	cfg.Limits.Memory = 32 << 20
	res := mustRun(t, cfg)
	if res.Verdict != MemoryLimit || deref(res.Signal) != 9 || res.OOMKills == nil || *res.OOMKills < 1 ||
		!slices.Contains(res.LimitsHit, "memory") || res.ExitStatus() != 137 || res.Error != nil {
		t.Errorf("%s", res.JSON(false))
	}
	if res.PeakMemoryBytes == nil || *res.PeakMemoryBytes < 24<<20 || *res.PeakMemoryBytes > 40<<20 {
		t.Errorf("peak %v of a program that was killed at 32 MiB", deref(res.PeakMemoryBytes))
	}
}

// The same program without the limit: what kills it above is the limit.
func TestMemoryEnough(t *testing.T) {
	cfg := self(t, newParent(t), "eat")
	cfg.Limits.Memory = 2 << 30
	res := mustRun(t, cfg)
	if res.Verdict != OK || deref(res.OOMKills) != uint64(0) || len(res.LimitsHit) != 0 {
		t.Errorf("%s", res.JSON(false))
	}
	if res.PeakMemoryBytes == nil || *res.PeakMemoryBytes < 128<<20 {
		t.Errorf("peak %v of a program that touches 128 MiB", deref(res.PeakMemoryBytes))
	}
}

// The main program survives its grandchild's OOM on v1, and exits 0 if it is faster than the notification.
func TestMemoryLimitOfGrandchild(t *testing.T) {
	cfg := self(t, newParent(t), "eat")
	cfg.Args = []string{"/bin/sh", "-c", `("$0"; exit 0) 2>/dev/null; exit 0`, cfg.Args[0]}
	cfg.Limits.Memory = 32 << 20
	res := mustRun(t, cfg)
	if res.Verdict != MemoryLimit || res.OOMKills == nil || *res.OOMKills < 1 || !slices.Contains(res.LimitsHit, "memory") {
		t.Errorf("%s", res.JSON(false))
	}
}

// An OOM kill ends the run: the main program, which would sleep for hours, does not survive it.
func TestMemoryLimitEndsRun(t *testing.T) {
	cfg := self(t, newParent(t), "eat")
	cfg.Args = []string{"/bin/sh", "-c", `"$0" 2>/dev/null; exec sleep 10000`, cfg.Args[0]}
	cfg.Limits.Memory = 32 << 20
	res := mustRun(t, cfg)
	if res.Verdict != MemoryLimit || deref(res.Signal) != 9 || deref(res.LeftoverKilled) != uint64(0) {
		t.Errorf("%s", res.JSON(false))
	}
}

func TestPIDsLimit(t *testing.T) {
	parent := newParent(t)
	// One task: the shell's own fork fails, and with it the shell.
	cfg := shell(parent, "exec 2>/dev/null; /bin/true & wait; /bin/true; exit 0")
	cfg.Limits.PIDs = 1
	res := mustRun(t, cfg)
	if res.Verdict != NonzeroExit || deref(res.PIDsPeak) != uint64(1) {
		t.Errorf("at 1: %s", res.JSON(false))
	}
	assertDenied(t, res)

	// Two tasks: the subshell's fork fails, the program goes on, and its own exit status counts.
	cfg.Args[2] = "exec 2>/dev/null; (/bin/true & wait; /bin/true); exit 0"
	cfg.Limits.PIDs = 2
	res = mustRun(t, cfg)
	if res.Verdict != OK || deref(res.ExitCode) != 0 || deref(res.PIDsPeak) != uint64(2) {
		t.Errorf("at 2: %s", res.JSON(false))
	}
	assertDenied(t, res)

	// Enough tasks: nothing is hit.
	cfg.Limits.PIDs = 16
	if res = mustRun(t, cfg); res.Verdict != OK || deref(res.PIDsDenied) != uint64(0) || len(res.LimitsHit) != 0 {
		t.Errorf("at 16: %s", res.JSON(false))
	}
}

func assertDenied(t *testing.T, res *Result) {
	t.Helper()
	if res.PIDsDenied == nil || *res.PIDsDenied < 1 || !slices.Equal(res.LimitsHit, []string{"pids"}) {
		t.Errorf("a refused fork is not counted: %s", res.JSON(false))
	}
}

func TestWallTime(t *testing.T) {
	cfg := shell(newParent(t), "exec sleep 10000")
	cfg.WallTime = 200 * time.Millisecond
	res := mustRun(t, cfg)
	if res.Verdict != WallTimeLimit || deref(res.Signal) != 9 || !slices.Equal(res.LimitsHit, []string{"wall_time"}) ||
		res.Enforced["wall_time"] != "timer" || deref(res.LeftoverKilled) != uint64(0) {
		t.Errorf("%s", res.JSON(false))
	}
	if *res.WallSeconds < 0.2 {
		t.Errorf("killed after %v s of 0.2", *res.WallSeconds)
	}
	if *res.CPUSeconds >= *res.WallSeconds {
		t.Errorf("sleeping is no CPU time: %v s of %v", *res.CPUSeconds, *res.WallSeconds)
	}
}

// Every process that the limit kills dies, also those of other sessions and those that ignore signals.
func TestWallTimeKillsAll(t *testing.T) {
	cfg := shell(newParent(t), `trap "" TERM HUP INT; sleep 10000 & (sleep 10000 & sleep 10000) & wait`)
	cfg.WallTime = 300 * time.Millisecond
	if res := mustRun(t, cfg); res.Verdict != WallTimeLimit || deref(res.LeftoverKilled) != uint64(0) {
		t.Errorf("%s", res.JSON(false)) // killed by the limit, so nobody outlived the program by itself
	}
}

func TestCPUTime(t *testing.T) {
	parent := newParent(t)
	for name, script := range map[string]string{
		"one process":   "while :; do :; done",
		"two processes": "while :; do :; done & while :; do :; done",
		// The main program only waits: what counts is the sum.
		"child": "(while :; do :; done); exit 0",
	} {
		cfg := shell(parent, script)
		cfg.CPUTime = 200 * time.Millisecond
		res := mustRun(t, cfg)
		if res.Verdict != CPUTimeLimit || deref(res.Signal) != 9 || !slices.Equal(res.LimitsHit, []string{"cpu_time"}) ||
			res.Enforced["cpu_time"] != "timer" {
			t.Errorf("%s: %s", name, res.JSON(false))
		}
		if res.CPUSeconds == nil || *res.CPUSeconds < 0.2 {
			t.Errorf("%s: killed after %v s of 0.2", name, deref(res.CPUSeconds))
		}
	}
}

// A limit that is not used up ends nothing, however long the program sleeps.
func TestCPUTimeNotUsed(t *testing.T) {
	cfg := shell(newParent(t), "sleep 0.5; exit 3")
	cfg.CPUTime = 30 * time.Second
	cfg.WallTime = safety
	if res := mustRun(t, cfg); res.Verdict != NonzeroExit || len(res.LimitsHit) != 0 {
		t.Errorf("%s", res.JSON(false))
	}
}

// A limit whose controller is missing is an error, never silently left out.
func TestLimitRefused(t *testing.T) {
	cfg := shell(newParent(t), "exit 0")
	cfg.Limits.CPUSetCPUs = "8000"
	res := mustRun(t, cfg)
	if res.Verdict != Failed || res.Error.Step != "limit" || res.PID != nil || !strings.Contains(res.Error.Message, "8000") {
		t.Errorf("%s", res.JSON(false))
	}
}

// The kernel kills for a limit above the run's: a warning names it, and the verdict is how the program ended.
func TestMemoryLimitAbove(t *testing.T) {
	parent := newParent(t)
	host, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	above, err := host.Create(parent+"/above", cgroup.Options{Controllers: []cgroup.Controller{cgroup.Memory}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := above.Remove(); err != nil {
			t.Error(err)
		}
	})
	if err := above.Set(cgroup.Limits{Memory: 32 << 20}); err != nil {
		t.Fatal(err)
	}
	cfg := self(t, parent+"/above", "eat")
	p := newPool(t, PoolConfig{Jobs: 1, Parent: parent + "/above"})
	for _, limit := range []int64{0, 256 << 20} {
		cfg.Limits.Memory = limit
		for _, res := range []*Result{mustRun(t, cfg), poolRun(t, p, cfg)} {
			if res.Verdict != Signaled || deref(res.Signal) != 9 || len(res.LimitsHit) != 0 || len(res.Warnings) != 1 ||
				!strings.Contains(res.Warnings[0], `"`+parent+`/above" (33554432 bytes)`) {
				t.Errorf("%d: %s", limit, res.JSON(false))
			}
		}
	}
}
