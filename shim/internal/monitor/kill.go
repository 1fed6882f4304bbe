package monitor

import (
	"context"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/shim/internal/sys"
)

// checkCPU ends the run if its CPU time is used up, and otherwise says when to look again.
func (w *watcher) checkCPU() {
	used, err := w.Group.CPUUsage()
	switch rest := w.CPUTime - used; {
	case err != nil:
		// There is nothing left to enforce the limit with.
		w.Report.Error("cpu-time", err)
		w.EnforcementLost = true
		w.kill("")
	case rest <= 0:
		w.timeIsUp(CPUTime)
	default:
		w.alarms.cpu.set(w.budget.wait(rest))
	}
}

// cpuCount is how many CPUs the run can keep busy at once, and so how fast it can use up its CPU time.
// It is not runtime.NumCPU: that is our own affinity, which the program may widen. Nor the bandwidth
// limit: a whole period's quota can be used on all CPUs at once.
func cpuCount(limit time.Duration) int {
	if limit == 0 {
		return 1
	}
	if online, err := cgroup.OnlineCPUs(); err == nil {
		return len(online)
	}
	return runtime.NumCPU()
}

// timeIsUp ends the run for a time limit: at once, or with a SIGTERM and a grace.
func (w *watcher) timeIsUp(limit string) {
	if w.Grace == 0 || w.Group.OOMKilled() {
		w.kill(limit)
		return
	}
	if w.EndedBy == "" && !w.over() {
		w.blame(limit)
		_ = unix.Kill(w.Group.Program, unix.SIGTERM) // our unreaped child
		w.alarms.grace.set(w.Grace)
	}
}

// kill ends the run for a limit, or for none (""), unless it has ended already: a program that is done,
// or that the OOM killer got first, is not killed by a timer.
func (w *watcher) kill(limit string) {
	if w.over() {
		return
	}
	if w.Group.OOMKilled() {
		limit = Memory
	}
	if w.EndedBy == "" && limit != "" {
		w.blame(limit)
	}
	if limit != Memory { // for which the kernel has killed already
		w.Group.ReadSample() // afterwards there is nothing left to see
	}
	// By its pid, too, which is our unreaped child's: root, or whose the groups around are, may have left the run's.
	_ = unix.Kill(w.Group.Program, unix.SIGKILL)
	ctx, cancel := context.WithTimeout(context.Background(), KillTimeout)
	defer cancel()
	if err := w.Group.Kill(ctx); err != nil {
		w.Report.Error("kill", err)
		w.Unkillable = true
	}
	w.Killed = true
}

// blame makes a limit the one that ended the run.
func (w *watcher) blame(limit string) {
	w.EndedBy = limit
	w.Report.LimitReached(limit, true)
}

// suspendPatience is how long a program may take to stop, after it has been asked to. One that does not
// stop would not without cgshim either; and nobody would enforce its limits while cgshim is stopped.
const suspendPatience = 5 * time.Second

// suspend stops this process, as the program's Ctrl-Z does without it, so that the shell notices. It goes on with
// SIGCONT, which the program gets as well. The limits of time go on, too: they are seen to afterwards.
func (w *watcher) suspend() {
	p, err := sys.ReadProcess(w.Group.Program)
	switch {
	case err == nil && p.Stopped:
		_ = unix.Kill(os.Getpid(), unix.SIGSTOP)
	case err == nil && time.Now().Before(w.suspendUntil):
		w.alarms.suspend.set(2 * time.Millisecond)
	}
}
