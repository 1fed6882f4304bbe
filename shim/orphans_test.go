package shim

import (
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/shim/internal/seam"
	"github.com/cgshim/cgshim/shim/internal/sys"
)

// A process that has children of its own waits for the orphans of a run, and for nobody else.
func TestReapOrphans(t *testing.T) {
	defer unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	defer func(before func(int) (string, bool)) { seam.UnifiedPath = before }(seam.UnifiedPath)
	for name, where := range map[string]func(int) (string, bool){
		"as cgroup2 tells":  seam.UnifiedPath,
		"as they were seen": func(int) (string, bool) { return "", false },
	} {
		script := "(sleep 1000 &); (sleep 1000 &)"
		if name == "as cgroup2 tells" { // which needs nobody to look while they are alive
			script = "(sleep 0.01 &); (sleep 0.3 &); sleep 0.5; " + script
		}
		seam.UnifiedPath = where
		parent := newParent(t)
		own := exec.Command("/bin/true")
		if err := own.Start(); err != nil {
			t.Fatal(err)
		}
		living := exec.Command("/bin/sleep", "1000")
		if err := living.Start(); err != nil {
			t.Fatal(err)
		}
		cfg := shell(parent, script)
		cfg.ReapOrphans = true
		r := mustRun(t, cfg)
		if r.Verdict != OK || deref(r.LeftoverKilled) != uint64(2) {
			t.Errorf("%s: %s", name, r.JSON(false))
		}
		left := children(func(p *sys.Process) bool { return p.PID != own.Process.Pid && p.PID != living.Process.Pid })
		if len(left) > 0 {
			t.Errorf("%s: children are left: %v", name, left)
			for _, pid := range left {
				_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
			}
		}
		if err := own.Wait(); err != nil {
			t.Errorf("%s: another child has been waited for: %v", name, err)
		}
		_ = living.Process.Kill()
		if err := living.Wait(); err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The dead do not count while the run goes on.
func TestReapOrphansMeanwhile(t *testing.T) {
	defer unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	for _, alone := range []bool{false, true} {
		cfg := shell(newParent(t), "sleep 0.2; for i in 1 2 3 4 5 6 7 8 9 10; do (sleep 0.01 & sleep 0.01 & sleep 0.01 &); sleep 0.3; done")
		cfg.ReapOrphans, cfg.Subreaper, cfg.Limits.PIDs = !alone, alone, 20
		if r := mustRun(t, cfg); r.Verdict != OK || deref(r.PIDsDenied) != uint64(0) {
			t.Errorf("alone %v: %s", alone, r.JSON(false))
		}
	}
}

func TestPoolReapOrphansRefuses(t *testing.T) {
	p := newPool(t, PoolConfig{Jobs: 1})
	if p.ReapOrphans() == nil {
		t.Error("not on the first thread, or with other children")
	}
}
