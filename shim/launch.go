package shim

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/reexec"
	"github.com/cgshim/cgshim/shim/internal/place"
)

// Why a launch was given up. It takes a millisecond, unless the program's file, interpreter or directory is on
// a file system that does not answer.
var (
	errToldToStop = errors.New("told to stop before the program had started")
	errNotStarted = errors.New("the program had not started when its wall time was over")
)

// launchPatience is how long a launch may go on after the run was cancelled, also if there is no stop timeout: the
// program may have started already, and what it did then is to be told.
const launchPatience = 2 * time.Second

// gatePatience is how long a Stop of the pool waits for a launch that is slow.
const gatePatience = time.Second

// superviseLaunch does what supervise does, while there is no program yet: a run that is cancelled has what is going on
// given up after the stop timeout, and one with a wall time limit some time after that. Signals are kept for supervise.
func (r *run) superviseLaunch(ctx context.Context, giveUp func()) (stop func()) {
	r.awaitSignals()
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		r.watchLaunch(ctx, quit, giveUp)
	}()
	return func() {
		close(quit)
		<-done
	}
}

// superviseStage is superviseLaunch for the stage's part, which is over before anybody could lose his patience, mostly. If
// it is not, leave is called some time later: nobody else should wait for it.
func (r *run) superviseStage(ctx context.Context, spec *reexec.Spec, leave func()) (stop func()) {
	end := r.takeEarly
	spec.Slow = func() {
		late := time.AfterFunc(gatePatience, leave)
		supervised := r.superviseLaunch(ctx, r.stage.Interrupt)
		end = func() {
			late.Stop()
			supervised()
		}
	}
	return func() { end() }
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

// takeEarly takes the signals that have come by now.
func (r *run) takeEarly() {
	r.early = append(r.early, r.pendingSignals()...)
}

func (r *run) watchLaunch(ctx context.Context, quit <-chan struct{}, giveUp func()) {
	told, signals := ctx.Done(), r.cfg.Signals
	// The wall time is counted from the program's start, which a slow machine must not take for a hang.
	late := newTimer(r.cfg.WallTime > 0, min(r.cfg.WallTime, math.MaxInt64-killTimeout)+killTimeout)
	defer late.Stop()
	patience := newTimer(false, 0)
	defer patience.Stop()
	var end time.Time // of patience; what comes later never puts it off
	cancel := func(timeout time.Duration) {
		if at := time.Now().Add(timeout); end.IsZero() || at.Before(end) {
			end = at
			patience.Reset(timeout)
		}
	}
	timeout := max(r.cfg.stopTimeout(), launchPatience)
	if slices.ContainsFunc(r.early, cancels) {
		cancel(timeout)
	}
	frozen := time.NewTimer(0)
	defer frozen.Stop()
	for {
		select {
		case <-quit:
			return
		case <-told:
			told = nil
			cancel(timeout)
		case sig, open := <-signals:
			if !open {
				signals = nil
				continue
			}
			r.early = append(r.early, sig)
			_, fromTerminal := signalNumber(sig)
			switch {
			case cancels(sig) && fromTerminal && !end.IsZero(): // the second Ctrl-C
				cancel(launchPatience)
			case cancels(sig):
				cancel(timeout)
			}
		case <-frozen.C:
			if r.gaveUp != nil {
				continue // for another reason, and the stage is dying
			}
			if r.gaveUp = r.frozenAbove(); r.gaveUp != nil {
				giveUp()
				<-quit
				return
			}
			frozen.Reset(frozenInterval)
		case <-patience.C:
			r.gaveUp = fmt.Errorf("%w: %w", errToldToStop, unix.EINTR)
			giveUp()
		case <-late.C:
			r.gaveUp = fmt.Errorf("%w: %w", errNotStarted, unix.ETIMEDOUT)
			giveUp()
		}
	}
}

// frozenInterval is how often a launch that takes long looks whether a group above has been frozen.
const frozenInterval = 500 * time.Millisecond

// frozenAbove says that the program can't start because a group above its own is frozen.
func (r *run) frozenAbove() error {
	if r.group == nil {
		return nil
	}
	return place.FrozenAbove(r.group)
}
