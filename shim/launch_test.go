package shim

import (
	"context"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/shim/internal/monitor"
)

// The terminal sends its end to program and cgshim at once; the signal may take longer to come out here than the
// program takes to die of it. Regression: the verdict was signaled then.
func TestSignalBehindTheEnd(t *testing.T) {
	parent := newParent(t)
	for _, sig := range []os.Signal{unix.SIGHUP, TerminalSignal(unix.SIGHUP)} {
		late := 0
		for ; late < 20; late++ {
			signals, sent := make(chan os.Signal, 1), make(chan time.Time, 1)
			cfg := shell(parent, "kill -HUP $$")
			cfg.Signals = signals
			cfg.OnEvent = func(Event) {
				go func() {
					time.Sleep(monitor.SignalLag / 4) // the program is dead by then
					sent <- time.Now()
					signals <- sig
				}()
			}
			res := Run(context.Background(), cfg)
			if behind := (<-sent).Sub(endOf(t, res)); behind > monitor.SignalLag/2 {
				continue // the machine was busy, and the signal too late to be waited for
			}
			if res.Verdict != Cancelled || deref(res.Signal) != int(unix.SIGHUP) {
				t.Errorf("%v: %s", sig, res.JSON(false))
			}
			break
		}
		if late == 20 {
			t.Errorf("%v: it always comes too late", sig)
		}
	}
}

// endOf is when a run's program ended.
func endOf(t *testing.T, res *Result) time.Time {
	t.Helper()
	if res.StartedAt == nil || res.WallSeconds == nil {
		t.Fatalf("%s", res.JSON(false))
	}
	started, err := time.Parse(time.RFC3339Nano, *res.StartedAt)
	if err != nil {
		t.Fatal(err)
	}
	return started.Add(time.Duration(float64(*res.WallSeconds) * float64(time.Second)))
}

// A program that dies of such a signal by itself was not cancelled, and one that dies of another is not waited for.
func TestNoSignalBehindTheEnd(t *testing.T) {
	parent := newParent(t)
	for _, script := range []string{"kill -HUP $$", "kill -KILL $$"} {
		cfg := shell(parent, script)
		cfg.Signals = make(chan os.Signal)
		if res := Run(context.Background(), cfg); res.Verdict != Signaled {
			t.Errorf("%s: %s", script, res.JSON(false))
		}
	}
}
