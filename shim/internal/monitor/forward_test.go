package monitor

import (
	"context"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/shim/internal/rungroup"
)

// number takes every signal for one of somebody else's than the terminal's.
func number(sig os.Signal) (unix.Signal, bool) { return sig.(unix.Signal), false }

// A program that dies of a signal that cancels may have got it with us; one that dies of another is not waited for.
func TestDrainSignals(t *testing.T) {
	for name, test := range map[string]struct {
		diedOf unix.Signal
		killed string
		waits  bool
	}{
		"its own SIGHUP":  {diedOf: unix.SIGHUP, waits: true},
		"SIGKILL":         {diedOf: unix.SIGKILL},
		"--grace":         {diedOf: unix.SIGTERM, killed: WallTime},
		"not of a signal": {},
	} {
		least := time.Hour
		for range 5 { // on a busy machine one may take long
			w := &watcher{
				Run:     &Run{Signals: &Signals{Channel: make(chan os.Signal), Number: number}},
				Outcome: Outcome{DiedOf: test.diedOf, EndedBy: test.killed},
			}
			begun := time.Now()
			w.drainSignals()
			least = min(least, time.Since(begun))
		}
		if waits := least >= SignalLag; waits != test.waits {
			t.Errorf("%s: it waits %v for a signal", name, least)
		}
	}
}

// Signals that come again, as of somebody who holds Ctrl-C, do not put off the end of a launch that hangs; nor does
// one that came before this launch, which was tried again.
func TestLaunchIsGivenUp(t *testing.T) {
	hold := func(signals chan<- os.Signal, quit <-chan struct{}) {
		for {
			select {
			case signals <- unix.SIGINT:
				time.Sleep(launchPatience / 10)
			case <-quit:
				return
			}
		}
	}
	terminal := func(sig os.Signal) (unix.Signal, bool) { return sig.(unix.Signal), true }
	for name, l := range map[string]*Launch{
		"again and again": {Signals: &Signals{Channel: make(chan os.Signal), Number: terminal}},
		"before":          {Signals: &Signals{Number: number}, Early: []os.Signal{unix.SIGTERM}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			quit := make(chan struct{})
			defer close(quit)
			if l.Signals.Channel != nil {
				signals := make(chan os.Signal)
				l.Signals.Channel = signals
				go hold(signals, quit)
			}
			l.Group = new(rungroup.Group)
			gaveUp := make(chan struct{}, 100)
			stop := l.Supervise(context.Background(), func() { gaveUp <- struct{}{} })
			defer stop()
			select {
			case <-gaveUp:
			case <-time.After(10 * launchPatience):
				t.Error("it is still waited for")
			}
		})
	}
}

func TestSignalPolicy(t *testing.T) {
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT} {
		if policy, ok := signalPolicy[sig]; !ok || !policy.cancels {
			t.Errorf("%v does not cancel", sig)
		}
	}
	for _, sig := range []unix.Signal{unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH, unix.SIGCONT} {
		if policy, ok := signalPolicy[sig]; !ok || policy.cancels {
			t.Errorf("%v is not just forwarded", sig)
		}
	}
	// SIGCHLD comes with every run, SIGURG from Go's scheduler.
	for _, sig := range Forwarded() {
		if sig == unix.SIGCHLD || sig == unix.SIGURG || sig == unix.SIGKILL {
			t.Errorf("%v is forwarded", sig)
		}
	}
	if len(Forwarded()) != len(signalPolicy) {
		t.Errorf("%v", Forwarded())
	}
}
