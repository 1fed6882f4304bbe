package monitor

import (
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// takeSignals takes those that have come. The end of the context is a SIGTERM.
func (w *watcher) takeSignals() []os.Signal {
	if w.inbox != nil {
		return w.inbox.take()
	}
	return w.Signals.Pending()
}

// forward passes a signal on. A cancelling one gives the program until the stop timeout, and one from the
// terminal no more than until the next.
func (w *watcher) forward(sig os.Signal) {
	number, fromTerminal := w.Signals.Number(sig)
	if !fromTerminal && number != 0 {
		// Our unreaped child: the pid is the program's or a zombie's.
		_ = unix.Kill(w.Group.Program, number)
	}
	policy := signalPolicy[number]
	switch {
	case policy.stops:
		w.suspendUntil = time.Now().Add(suspendPatience)
		w.alarms.suspend.set(0)
	case policy.cancels && !w.Cancelled:
		w.Cancelled = true
		w.alarms.stop.set(w.StopTimeout)
	case policy.cancels && fromTerminal:
		w.alarms.stop.set(0)
	}
}

// SignalLag is how long to wait for a signal that is already on its way through this process; killLag is for one of which there is no
// sign but a SIGKILL that we have not sent.
const (
	SignalLag = 100 * time.Millisecond
	killLag   = 5 * time.Millisecond
)

// drainSignals notices a cancelling signal that came to cgshim and program alike, and ended the program
// before cgshim looked. To the members of a process group the kernel sends a signal before any of them can be seen
// to have ended, so that it has come, if it comes at all; but not all the way: that is waited for if the program
// died of such a signal.
func (w *watcher) drainSignals() {
	late := w.inbox.close()
	if w.EndedBy != "" {
		return // --grace's SIGTERM, and the verdict is there
	}
	late = append(late, w.Signals.Pending()...)
	w.Cancelled = w.Cancelled || slices.ContainsFunc(late, w.Signals.Cancels)
	patience := time.Duration(0)
	switch {
	case Cancels(w.DiedOf):
		patience = SignalLag
	case w.DiedOf == unix.SIGKILL && !w.Killed: // which somebody may have sent after another, to a cgshim that was stopped
		patience = killLag
	}
	// No channel and no timer: it would take a thread to feed them, see the threads that shim reserves.
	for end := time.Now().Add(patience); !w.Cancelled && time.Now().Before(end) && w.Signals.any(); {
		pause := unix.NsecToTimespec(int64(time.Millisecond))
		_, _ = unix.Ppoll(nil, &pause, nil) // which a signal ends
		w.Cancelled = slices.ContainsFunc(w.Signals.Pending(), w.Signals.Cancels)
	}
}
