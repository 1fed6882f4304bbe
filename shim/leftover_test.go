package shim

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
)

func TestLeftover(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pids")
	res := mustRun(t, self(t, newParent(t), "leave", file))
	if res.Verdict != OK || deref(res.LeftoverKilled) != uint64(2) {
		t.Errorf("%s", res.JSON(false))
	}
	content, err := os.ReadFile(file)
	if err != nil || len(strings.Fields(string(content))) != 2 {
		t.Fatalf("%q, %v", content, err)
	}
	for _, pid := range strings.Fields(string(content)) {
		if alive(pid) {
			t.Errorf("process %s outlives the run", pid)
		}
	}
}

// alive says whether a process runs. A zombie does not: init reaps it when it gets to it.
func alive(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z") && !strings.HasPrefix(state, "X")
}

// The program makes a group of its own in the run's, and leaves a process there.
func TestLeftoverInSubgroup(t *testing.T) {
	parent := newParent(t)
	host, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	dir := host.MountPoint(cgroup.PIDs) + parent + "/outer/inner"
	cfg := shell(parent, `mkdir "$0" || exit; sleep 10000 & echo $! >"$0/cgroup.procs"; sleep 10000 & exit 0`, dir)
	cfg.Name = "outer"
	if res := mustRun(t, cfg); res.Verdict != OK || deref(res.LeftoverKilled) != uint64(2) || res.Error != nil {
		t.Errorf("%s", res.JSON(false))
	}
}

// A CPU time that can't be read can't be enforced: the run is killed, says so, and is cleaned up like any
// other. Regression: it left a zombie.
func TestCPUTimeUnreadable(t *testing.T) {
	host, err := cgroup.Detect()
	if err != nil || host.Version() != cgroup.V1 {
		t.Skip("requires writable cgroups: of v1, where the hierarchy that counts can be taken away")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cfg := shell(newParent(t), "exec sleep 10000")
	cfg.CPUTime = 50 * time.Millisecond
	r := newRun(&cfg, nil)
	res := newResources(r.cfg, r.report, r.gate)
	program, err := r.start(t.Context(), res)
	if err != nil {
		t.Fatal(err)
	}
	mount := host.MountPoint(cgroup.CPUAcct)
	if err := os.WriteFile(mount+"/cgroup.procs", []byte(fmt.Sprint(program.PID)), 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(mount + res.group.Cgroup.Path()); err != nil {
		t.Fatal(err)
	}
	outcome := r.watch(context.Background(), res, program)
	end := res.finish(program, &outcome)
	res.release()
	if result := r.report.finished(end); result.Verdict != Failed || result.Error == nil || result.Error.Step != "cpu-time" {
		t.Errorf("%s", result.JSON(false))
	}
	assertNoChild(t)
}

// Two runs share a parent that the first one had to make. Its end takes nothing from the second one.
func TestSharedParent(t *testing.T) {
	parent := newParent(t)
	var runs [2]<-chan *Result
	var cancels [2]context.CancelFunc
	for i := range runs {
		ready, wait := readiness(t)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		runs[i], cancels[i] = started(t, ctx, shell(parent, diesAtOnce, ready), wait), cancel
	}
	for i := range runs {
		cancels[i]()
		res := finished(t, runs[i])
		if res.Verdict != Cancelled || res.Error != nil {
			t.Fatalf("%s", res.JSON(false))
		}
		for _, mount := range cgroupMounts(t) {
			assertNoGroup(t, mount+*res.Cgroup)
		}
	}
	// It was in use when the first one ended, and is not the second one's: Config.Parent says that it stays.
	for _, mount := range cgroupMounts(t) {
		_ = unix.Rmdir(mount + parent)
	}
}

// A parent that the caller has made is the caller's to remove.
func TestParentOfCaller(t *testing.T) {
	parent := newParent(t)
	host, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	made, err := host.Create(parent, cgroup.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if res := mustRun(t, shell(parent, "exit 0")); res.Verdict != OK || res.Error != nil {
			t.Errorf("%s", res.JSON(false))
		}
		if _, err := os.Stat(host.MountPoint(cgroup.Memory) + parent); err != nil {
			t.Errorf("the caller's group is gone: %v", err)
		}
	}
	if err := made.Remove(); err != nil {
		t.Error(err)
	}
}
