package shim

import (
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/reexec"
	"github.com/cgshim/cgshim/shim/internal/sys"
)

// startStage starts a stage for one launch, with a guardian.
func (res *resources) startStage() (err error) {
	if res.stage, err = startStage(reexec.Options{Guardian: true}); err != nil {
		return err
	}
	res.later(func() {
		res.stage.Close() // now there is nothing left to guard
		res.noteStuck()
	})
	return nil
}

// startStage starts a stage. Without a terminal there is no job control, and the program has no business with our
// process group: it could make the kernel send SIGHUP to all in it.
func startStage(options reexec.Options) (*reexec.Stage, error) {
	if err := canMakeTimers(); err != nil {
		return nil, err
	}
	options.NewSession, options.Every = !sys.OnTerminal(), every
	return reexec.Start(options)
}

func (res *resources) noteStuck() {
	if pids := res.stage.Stuck(); len(pids) > 0 {
		res.report.Error("kill", fmt.Errorf("processes %v of the launch: %w", pids, cgroup.ErrNotEmpty))
	}
}

// hasTimers is that Go's poller is open, for the whole process and for good.
var hasTimers atomic.Bool

// canMakeTimers finds out whether there are descriptors for Go's poller. The first timer opens that, and if it can't be
// opened, the runtime ends the process.
func canMakeTimers() error {
	if hasTimers.Load() {
		return nil
	}
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		unix.Close(poll)
		return os.NewSyscallError("eventfd", err)
	}
	unix.Close(event)
	unix.Close(poll)
	time.AfterFunc(time.Hour, func() {}).Stop()
	hasTimers.Store(true)
	return nil
}

// every calls look every now and then, until stop is called.
func every(look func()) (stop func()) {
	var stopped atomic.Bool
	var timer *time.Timer
	timer = time.AfterFunc(time.Hour, func() {
		if !stopped.Load() {
			look()
			timer.Reset(everyNow)
		}
	})
	timer.Reset(everyFirst)
	return func() {
		stopped.Store(true)
		timer.Stop()
	}
}

// A stage starts in a fraction of everyFirst.
const everyFirst, everyNow = 20 * time.Millisecond, 500 * time.Millisecond
