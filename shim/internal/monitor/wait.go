package monitor

import (
	"context"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/shim/internal/lifeline"
	"github.com/cgshim/cgshim/shim/internal/sys"
)

// AttendAfter is how long a run goes on without the goroutines of attend: so long may a signal have to wait.
const AttendAfter = 20 * time.Millisecond

// open prepares for wait.
func (w *watcher) open() {
	w.wake.open()
	var err error
	if w.pidfd, err = unix.PidfdOpen(w.Group.Program, 0); err != nil {
		w.pidfd = 0
	}
	w.traps = make(chan unix.Signal, 1)
	w.alarms.attend.set(AttendAfter)
	if w.pidfd == 0 {
		w.alarms.attend.set(0)
	}
	if w.OutputLimited != nil {
		w.OutputLimited.OnExceeded(w.wake.up)
	}
}

// close gives the descriptors back, when nobody waits any more.
func (w *watcher) close() {
	w.inbox.close()
	if w.leave != nil {
		w.leave()
	}
	if w.pidfd > 0 {
		_ = unix.Close(w.pidfd)
		w.pidfd = 0
	}
	w.finish.close()
	w.orphans.close()
	w.wake.close()
}

// wait waits until something has happened, or the next alarm. It reports whether there is an OOM event.
func (w *watcher) wait() (oom bool) {
	var all [4 + lifeline.Most]unix.PollFd
	for i, fd := range [...]int{w.wake.fd, w.pidfd, w.orphans.events} {
		all[i] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
		if fd == 0 {
			all[i].Fd = -1 // which is ignored
		}
	}
	all[3] = w.Group.OOM.PollFd()
	fds := w.Alive.PollFds(all[:4])
	var timeout *unix.Timespec
	if next := w.alarms.next(); !next.IsZero() {
		ts := unix.NsecToTimespec(int64(max(time.Until(next), 0)))
		timeout = &ts
	}
	if w.wake.fd == 0 && (timeout == nil || timeout.Nano() > int64(AttendAfter)) {
		ts := unix.NsecToTimespec(int64(AttendAfter)) // there was no descriptor left for it
		timeout = &ts
	}
	_, _ = unix.Ppoll(fds, timeout, nil) // EINTR is as good as a reason to look
	if fds[0].Revents != 0 {
		w.wake.down()
	}
	if fds[2].Revents != 0 {
		w.orphans.take()
	}
	w.Alive.Polled(fds[4:])
	return fds[3].Revents != 0
}

// over reports whether the run has ended.
func (w *watcher) over() bool {
	if !w.gone && w.pidfd > 0 && readable(w.pidfd) {
		info, err := waitid(w.Group.Program, unix.WNOHANG)
		switch {
		case err == nil && info.PID() == 0: // another process traces it, and has to see its end first
			_ = unix.Close(w.pidfd)
			w.pidfd = 0
			w.awaitEnd()
		case err == nil && !info.Ended(): // a stop, which takeTrap sees to
		default:
			w.programGone(&info)
		}
	}
	if w.end != nil {
		select {
		case <-w.end:
			w.gone = true
		default:
			return false
		}
	}
	return w.gone
}

func (w *watcher) programGone(info *sys.ChildInfo) {
	if info.Signaled() {
		w.DiedOf = info.Signal()
	}
	if !w.WaitAll {
		w.gone = true
		w.First = w.finish.first()
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.leave, w.end = cancel, make(chan struct{})
	_ = unix.Close(w.pidfd) // it stays readable
	w.pidfd = 0
	go func(end chan<- struct{}) {
		w.Group.WaitEmpty(ctx)
		close(end)
		w.wake.up()
	}(w.end)
}

func readable(fd int) bool {
	ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(ready, 0)
	return err == nil && n > 0
}

// waitid looks at a child. WNOWAIT leaves the zombie, and with it the pid, until everything is read: no signal
// of ours can hit a stranger, on kernels without pidfd too.
func waitid(pid, flags int) (sys.ChildInfo, error) {
	return sys.Waitid(unix.P_PID, pid, unix.WEXITED|unix.WNOWAIT|flags)
}

// attend starts what takes a goroutine: to hear of a program that stands still because it has made us its tracer, of
// which no descriptor tells; and of signals and the end of the context.
func (w *watcher) attend(ctx context.Context) {
	if w.Group.Reaps() && w.ChildEvents != nil {
		w.orphans.open(w.ChildEvents)
	}
	if !w.TakesLonger(w.pidfd == 0) {
		w.alarms.attend.set(AttendAfter) // until then the signals are looked at when this is
		return
	}
	w.awaitEnd()
	if w.pidfd > 0 && w.WallTime > 0 && !w.WaitAll {
		w.finish.open(w.pidfd, time.Duration(w.StartedNanos)+w.WallTime)
	}
	if w.Group.Reaps() && w.ChildEvents == nil {
		w.orphans.listen(w.wake.up)
	}
	w.Signals.Await()
	if w.Signals.Channel != nil || ctx.Done() != nil {
		w.inbox = newInbox(ctx, w.Signals.Channel, w.wake.up)
	}
}

// awaitEnd waits for the program in the background: for its stops, and if there is no pidfd for its end.
func (w *watcher) awaitEnd() {
	if w.end != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	var end chan struct{}
	if w.pidfd == 0 {
		end = make(chan struct{})
		w.end, w.leave = end, cancel
	}
	go func() {
		defer cancel()
		w.followEnd(ctx, end)
	}()
}

// followEnd returns when the program has ended; with end also when the run has.
func (w *watcher) followEnd(ctx context.Context, end chan<- struct{}) {
	for {
		info, err := waitid(w.Group.Program, 0)
		if err == nil && !info.Ended() { // a stop: these are reported of a child that we trace
			select {
			case w.traps <- info.Signal():
				w.wake.up()
			default: // that it stands is known
			}
			time.Sleep(trapPause)
			continue
		}
		if end == nil {
			return
		}
		if info.Signaled() {
			w.DiedOf = info.Signal()
		}
		if w.WaitAll {
			w.Group.WaitEmpty(ctx)
		}
		close(end)
		w.wake.up()
		return
	}
}

// trapPause bounds how often a stop is looked at that nobody ends.
const trapPause = time.Millisecond

// takeTrap lets a program go on that has made us its tracer (PTRACE_TRACEME), and stands at a signal, which it gets. The
// parent, which is to be the tracer, is this thread.
func (w *watcher) takeTrap() {
	select {
	case sig := <-w.traps:
		if sig == unix.SIGTRAP {
			sig = 0 // execve's
		}
		_, _, _ = unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_DETACH, uintptr(w.Group.Program), 0, uintptr(sig), 0, 0)
	default:
	}
}
