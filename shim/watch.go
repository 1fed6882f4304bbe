package shim

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
)

// A watch is for what a run waits for. That is one ppoll(2), over the program's pidfd and a few other descriptors: a
// program of a millisecond needs no goroutine, whose thread would have to be made, and one of an hour wakes nobody up.
// What no descriptor tells, goroutines tell by wake; they are there when a run takes longer, see attend.
type watch struct {
	wake  waker
	pidfd int // 0 without (before Linux 5.3), or if somebody else is to see the program's end first

	finish finish // with a wall time
	first  first  // of the program's end and that of its wall time, as far as finish tells

	gone  bool          // the program is
	end   chan struct{} // closed by whoever waits for the end without a pidfd, or of the last process; nil is nobody
	traps chan unix.Signal
	leave context.CancelFunc // ends the wait for the last process; nil is nobody's
	relay *relay
}

// alarms are the times at which a run has to do something.
type alarms struct {
	wall, cpu, stop, grace, suspend, sample, samplePeak, oom, baseline, attend, lost alarm
}

func (t *alarms) all() [11]*alarm {
	return [...]*alarm{&t.wall, &t.cpu, &t.stop, &t.grace, &t.suspend, &t.sample, &t.samplePeak, &t.oom, &t.baseline, &t.attend, &t.lost}
}

// An alarm is one of them. The zero alarm is not set.
type alarm struct{ at time.Time }

func (a *alarm) set(in time.Duration) { a.at = time.Now().Add(max(in, 0)) }

func (a *alarm) isSet() bool { return !a.at.IsZero() }

// due says whether it is time, once.
func (a *alarm) due(now time.Time) bool {
	if !a.isSet() || now.Before(a.at) {
		return false
	}
	a.at = time.Time{}
	return true
}

// attendAfter is how long a run goes on without the goroutines of attend: so long may a signal have to wait.
const attendAfter = 20 * time.Millisecond

// watchEnd prepares for wait.
func (r *run) watchEnd(t *alarms) {
	w := &r.watch
	w.wake.open()
	var err error
	if w.pidfd, err = unix.PidfdOpen(r.program.PID, 0); err != nil {
		w.pidfd = 0
	}
	w.traps = make(chan unix.Signal, 1)
	t.attend.set(attendAfter)
	if w.pidfd == 0 {
		t.attend.set(0)
	}
	if r.output != nil {
		r.output.onExceeded(w.wake.up)
	}
}

// A waker ends a wait, from any goroutine. It is an eventfd; the zero waker, or one for which there was no descriptor, is
// none.
type waker struct {
	mu sync.Mutex
	fd int
}

func (w *waker) open() {
	if fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err == nil {
		w.fd = fd
	}
}

func (w *waker) up() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fd != 0 {
		_, _ = unix.Write(w.fd, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // there is always room
	}
}

// close is for the descriptor: who comes late must not write to another one of the same number.
func (w *waker) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fd != 0 {
		_ = unix.Close(w.fd)
		w.fd = 0
	}
}

// wait waits until something has happened, or the next alarm. It says whether there is an OOM event.
func (r *run) wait(t *alarms) (oom bool) {
	w := &r.watch
	var fds [3]unix.PollFd
	for i, fd := range [...]int{w.wake.fd, w.pidfd} {
		fds[i] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
		if fd == 0 {
			fds[i].Fd = -1 // which is ignored
		}
	}
	fds[2] = r.oom.here.PollFd()
	var next time.Time
	for _, a := range t.all() {
		if a.isSet() && (next.IsZero() || a.at.Before(next)) {
			next = a.at
		}
	}
	var timeout *unix.Timespec
	if !next.IsZero() {
		ts := unix.NsecToTimespec(int64(max(time.Until(next), 0)))
		timeout = &ts
	}
	if w.wake.fd == 0 && (timeout == nil || timeout.Nano() > int64(attendAfter)) {
		ts := unix.NsecToTimespec(int64(attendAfter)) // there was no descriptor left for it
		timeout = &ts
	}
	_, _ = unix.Ppoll(fds[:], timeout, nil) // EINTR is as good as a reason to look
	if fds[0].Revents != 0 {
		var buf [8]byte
		_, _ = unix.Read(w.wake.fd, buf[:])
	}
	return fds[2].Revents != 0
}

// over says whether the run has ended.
func (r *run) over() bool {
	w := &r.watch
	if !w.gone && w.pidfd > 0 && readable(w.pidfd) {
		var info childInfo
		err := waitNow(r.program.PID, &info)
		switch {
		case err == nil && info.pid == 0: // another process traces it, and has to see its end first
			_ = unix.Close(w.pidfd)
			w.pidfd = 0
			r.awaitEnd()
		case err == nil && info.code > cldDumped: // a stop, which is seen to before
		default:
			r.programGone(&info)
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

func (r *run) programGone(info *childInfo) {
	if info.code == cldKilled || info.code == cldDumped {
		r.diedOf = unix.Signal(info.status)
	}
	if !r.cfg.WaitAll {
		r.watch.gone = true
		r.watch.first = r.watch.finish.first()
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.watch.leave, r.watch.end = cancel, make(chan struct{})
	_ = unix.Close(r.watch.pidfd) // it stays readable
	r.watch.pidfd = 0
	go func(end chan<- struct{}) {
		r.waitEmpty(ctx)
		close(end)
		r.watch.wake.up()
	}(r.watch.end)
}

func readable(fd int) bool {
	ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(ready, 0)
	return err == nil && n > 0
}

// waitNow looks at a child. WNOWAIT leaves the zombie, and with it the pid, until teardown has read everything: no signal
// of ours can hit a stranger, on kernels without pidfd too.
func waitNow(pid int, info *childInfo) error { return waitid(pid, info, unix.WNOHANG) }

func waitid(pid int, info *childInfo, flags int) error {
	for {
		err := unix.Waitid(unix.P_PID, pid, (*unix.Siginfo)(unsafe.Pointer(info)), unix.WEXITED|unix.WNOWAIT|flags, nil)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// childInfo is a siginfo_t as waitid(2) fills it in, on 64-bit Linux.
type childInfo struct {
	signo, errno, code, _ int32
	pid, uid, status      int32
	_                     [100]byte
}

const cldKilled, cldDumped = 2, 3 // how it ended: by a signal, see sigaction(2); what is greater is no end

// attend starts what takes a goroutine: to hear of a program that stands still because it has made us its tracer, of
// which no descriptor tells; and of signals and the end of the context.
func (r *run) attend(ctx context.Context, again *alarm) {
	if r.slot == nil && r.group != nil {
		r.group.Tune(cgroup.Tuning{KeepOpen: r.cfg.Sample > 0}) // the rest was for a run of a few milliseconds
	}
	if !r.reserveLate() {
		again.set(attendAfter) // until then the signals are looked at when this is
		return
	}
	r.awaitEnd()
	if r.slot == nil && r.group != nil && r.stopSweep == nil {
		r.stopSweep = r.sweep()
	}
	if r.watch.pidfd > 0 && r.cfg.WallTime > 0 && !r.cfg.WaitAll {
		r.watch.finish.open(r.watch.pidfd, time.Duration(r.program.StartedNanos)+r.cfg.WallTime)
	}
	r.awaitSignals()
	if r.cfg.Signals != nil || ctx.Done() != nil {
		r.watch.relay = newRelay(ctx, r.cfg.Signals, r.watch.wake.up)
	}
}

// awaitEnd waits for the program in the background: for its stops, and if there is no pidfd for its end.
func (r *run) awaitEnd() {
	w := &r.watch
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
		r.followEnd(ctx, end)
	}()
}

// followEnd returns when the program has ended; with end also when the run has.
func (r *run) followEnd(ctx context.Context, end chan<- struct{}) {
	for {
		var info childInfo
		err := waitid(r.program.PID, &info, 0)
		if err == nil && info.code > cldDumped { // a stop: these are reported of whom we trace
			select {
			case r.watch.traps <- unix.Signal(info.status):
				r.watch.wake.up()
			default: // that it stands is known
			}
			time.Sleep(trapPause)
			continue
		}
		if end == nil {
			return
		}
		if info.code == cldKilled || info.code == cldDumped {
			r.diedOf = unix.Signal(info.status)
		}
		if r.cfg.WaitAll {
			r.waitEmpty(ctx)
		}
		close(end)
		r.watch.wake.up()
		return
	}
}

// trapPause bounds how often a stop is looked at that nobody ends.
const trapPause = time.Millisecond

// takeTrap lets a program go on that stands still, see untrace.
func (r *run) takeTrap() {
	select {
	case sig := <-r.watch.traps:
		r.untrace(sig)
	default:
	}
}

// takeSignals takes those that have come. The end of the context is a SIGTERM.
func (r *run) takeSignals(ctx context.Context) (list []os.Signal) {
	if r.watch.relay != nil {
		return r.watch.relay.take()
	}
	return r.pendingSignals()
}

// pendingSignals takes what Config.Signals holds by now, without a wait. A closed one is looked at no more.
func (r *run) pendingSignals() (list []os.Signal) {
	if r.cfg.Signals == nil && r.cfg.SignalSource != nil {
		return r.cfg.SignalSource.Pending()
	}
	for {
		select {
		case sig, open := <-r.cfg.Signals:
			if !open {
				r.cfg.Signals = nil
			} else {
				list = append(list, sig)
			}
		default:
			return list
		}
	}
}

// awaitSignals has the signals come by the channel, where that can be waited for.
func (r *run) awaitSignals() {
	if source := r.cfg.SignalSource; r.cfg.Signals == nil && source != nil {
		r.cfg.Signals, r.cfg.SignalSource = source.Channel(), nil
	}
}

// close gives the descriptors back, when nobody waits any more.
func (w *watch) close() {
	w.relay.end()
	if w.leave != nil {
		w.leave()
	}
	if w.pidfd > 0 {
		_ = unix.Close(w.pidfd)
		w.pidfd = 0
	}
	w.finish.close()
	w.wake.close()
}

// A relay keeps signals for who waits in a system call.
type relay struct {
	mu         sync.Mutex
	list       []os.Signal
	quit, done chan struct{}
}

func newRelay(ctx context.Context, signals <-chan os.Signal, wake func()) *relay {
	l := &relay{quit: make(chan struct{}), done: make(chan struct{})}
	told := ctx.Done()
	keep := func(sig os.Signal) {
		l.mu.Lock()
		l.list = append(l.list, sig)
		l.mu.Unlock()
		wake()
	}
	go func() {
		defer close(l.done)
		for {
			select {
			case <-l.quit:
				return
			case <-told:
				told = nil
				keep(unix.SIGTERM)
			case sig, open := <-signals:
				if !open {
					signals = nil
					continue
				}
				keep(sig)
			}
		}
	}()
	return l
}

func (l *relay) take() []os.Signal {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.list
	l.list = nil
	return list
}

// end ends the relay, and returns what has not been taken. What comes later stays in the channel.
func (l *relay) end() []os.Signal {
	if l == nil {
		return nil
	}
	select {
	case <-l.quit:
	default:
		close(l.quit)
	}
	<-l.done
	return l.take()
}

// waitEmpty waits for the last process. What goes wrong there is found by teardown, which looks, too.
func (r *run) waitEmpty(ctx context.Context) {
	if r.group != nil {
		_ = r.group.WaitEmpty(ctx)
		return
	}
	for pause := time.Millisecond; len(r.strays()) > 0 && ctx.Err() == nil; pause = min(2*pause, 50*time.Millisecond) {
		time.Sleep(pause)
	}
}
