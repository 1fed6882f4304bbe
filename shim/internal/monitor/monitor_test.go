package monitor

import (
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/shim/internal/rungroup"
)

// reports is a Report for those who want to see none.
type reports struct{ t *testing.T }

func (r reports) Error(step string, err error) { r.t.Errorf("%s: %v", step, err) }
func (r reports) Warn(text string)             { r.t.Error(text) }
func (r reports) LimitReached(limit string, endsRun bool) {
	r.t.Errorf("limit %s, ends run: %v", limit, endsRun)
}
func (r reports) Sample(cgroup.Stats) { r.t.Error("a sample") }

// A timer that fires after the program has ended changes nothing.
func TestKillOfFinishedRun(t *testing.T) {
	runtime.LockOSThread() // as shim does
	defer runtime.UnlockOSThread()
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w := &watcher{Run: &Run{
		Group: &rungroup.Group{Program: cmd.Process.Pid}, Started: time.Now(), Signals: &Signals{Number: number},
		TakesLonger: func(bool) bool { return true }, Report: reports{t},
	}}
	w.open()
	defer w.close()
	w.loop(t.Context())
	w.kill(WallTime)
	w.timeIsUp(CPUTime)
	if w.EndedBy != "" || w.Killed || w.Ended.IsZero() {
		t.Errorf("%+v", w.Outcome)
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(cmd.Process.Pid, &status, 0, nil); err != nil || !status.Exited() || status.ExitStatus() != 0 {
		t.Errorf("status %#x, %v", status, err)
	}
}
