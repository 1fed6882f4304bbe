package monitor

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/shim/internal/sys"
)

// A finish tells whether the program ended before its wall time was over, however late this process looks: it may have been
// stopped meanwhile, or had to wait for a CPU. The kernel does not keep the time at which a process has ended; but an epoll
// instance lists what is ready in the order in which it became so (see ep_poll_callback in fs/eventpoll.c), here a pidfd and
// a timer. Nobody waits for it: it is read once, after the end.
type finish struct{ epoll, timer int } // 0 is none

// First is what came first: the end of a run, or that of its wall time.
type First int

const (
	UnknownFirst First = iota
	EndFirst
	LimitFirst
)

// open is for a limit that is not over yet, on CLOCK_MONOTONIC; of another one nothing is known.
func (f *finish) open(pidfd int, limit time.Duration) {
	var err error
	if f.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		f.epoll = 0
		return
	}
	if f.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC); err != nil {
		f.timer = 0
		f.close()
		return
	}
	at := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(limit))}
	var now unix.Timespec // read after the pidfd is there: what has ended by then has ended before the limit
	if f.add(pidfd) != nil || f.add(f.timer) != nil || unix.TimerfdSettime(f.timer, unix.TFD_TIMER_ABSTIME, &at, nil) != nil ||
		unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) != nil || now.Nano() >= int64(limit) {
		f.close()
	}
}

func (f *finish) add(fd int) error {
	return unix.EpollCtl(f.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

// first is asked when the program has ended.
func (f *finish) first() First {
	if f.epoll == 0 {
		return UnknownFirst
	}
	var ready [2]unix.EpollEvent
	n, err := sys.IgnoringEINTR(func() (int, error) { return unix.EpollWait(f.epoll, ready[:], 0) })
	switch {
	case err != nil || n < 1:
		return UnknownFirst
	case int(ready[0].Fd) == f.timer:
		return LimitFirst
	}
	return EndFirst
}

func (f *finish) close() {
	for _, fd := range []*int{&f.epoll, &f.timer} {
		if *fd != 0 {
			_ = unix.Close(*fd)
			*fd = 0
		}
	}
}
