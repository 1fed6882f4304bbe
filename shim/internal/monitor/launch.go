package monitor

import (
	"context"
	"fmt"
	"math"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/shim/internal/fault"
	"github.com/cgshim/cgshim/shim/internal/rungroup"
)

// launchPatience is how long a launch may go on after the run was cancelled, also if there is no stop timeout: the
// program may have started already, and what it did then is to be told.
const launchPatience = 2 * time.Second

// A Launch is a run that has no program yet: one that is cancelled has what is going on given up after the stop timeout, and one with a
// wall time limit some time after that.
type Launch struct {
	Group                 *rungroup.Group // given up when a cgroup above its own is frozen
	WallTime, StopTimeout time.Duration   // as in Run
	Signals               *Signals

	// Early are the signals that have come, for Run.Early.
	Early []os.Signal
	// GaveUp is why the launch was not waited for any longer: a launch takes a millisecond, unless the program's file, interpreter or
	// directory is on a file system that does not answer. Nil: it was not given up.
	GaveUp error
}

// TakeEarly takes the signals that have come by now.
func (l *Launch) TakeEarly() { l.Early = append(l.Early, l.Signals.Pending()...) }

// Cancelled reports whether one of the signals that have come cancels the run.
func (l *Launch) Cancelled() bool { return slices.ContainsFunc(l.Early, l.Signals.Cancels) }

// Supervise watches what is going on until stop is called, and calls giveUp to have it end. Until then Early and GaveUp are its own.
func (l *Launch) Supervise(ctx context.Context, giveUp func()) (stop func()) {
	l.Signals.Await()
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		l.supervise(ctx, quit, giveUp)
	}()
	return func() {
		close(quit)
		<-done
	}
}

func (l *Launch) supervise(ctx context.Context, quit <-chan struct{}, giveUp func()) {
	cancelled, signals := ctx.Done(), l.Signals.Channel
	// The wall time is counted from the program's start, which a slow machine must not take for a hang.
	late := newTimer(l.WallTime > 0, min(l.WallTime, math.MaxInt64-KillTimeout)+KillTimeout)
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
	timeout := max(l.StopTimeout, launchPatience)
	if l.Cancelled() {
		cancel(timeout)
	}
	frozen := time.NewTimer(0)
	defer frozen.Stop()
	for {
		select {
		case <-quit:
			return
		case <-cancelled:
			cancelled = nil
			cancel(timeout)
		case sig, open := <-signals:
			if !open {
				signals = nil
				continue
			}
			l.Early = append(l.Early, sig)
			number, fromTerminal := l.Signals.Number(sig)
			switch {
			case Cancels(number) && fromTerminal && !end.IsZero(): // the second Ctrl-C
				cancel(launchPatience)
			case Cancels(number):
				cancel(timeout)
			}
		case <-frozen.C:
			if l.GaveUp != nil {
				continue // for another reason, and the stage is dying
			}
			if l.GaveUp = l.Group.FrozenAbove(); l.GaveUp != nil {
				giveUp()
				<-quit
				return
			}
			frozen.Reset(frozenInterval)
		case <-patience.C:
			l.GaveUp = fmt.Errorf("%w: %w", fault.ErrToldToStop, unix.EINTR)
			giveUp()
		case <-late.C:
			l.GaveUp = fmt.Errorf("%w: %w", fault.ErrNotStarted, unix.ETIMEDOUT)
			giveUp()
		}
	}
}

// frozenInterval is how often a launch that takes long looks whether a group above has been frozen.
const frozenInterval = 500 * time.Millisecond

// newTimer is a timer that is running, or one to be Reset.
func newTimer(running bool, d time.Duration) *time.Timer {
	t := time.NewTimer(max(d, 0))
	if !running {
		t.Stop()
	}
	return t
}
