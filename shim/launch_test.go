package shim

import (
	"context"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The terminal sends its end to program and cgshim at once; the signal may take longer to come out here than the
// program takes to die of it. Regression: the verdict was signaled then.
func TestSignalBehindTheEnd(t *testing.T) {
	parent := newParent(t)
	for _, sig := range []os.Signal{unix.SIGHUP, TerminalSignal(unix.SIGHUP)} {
		signals := make(chan os.Signal)
		cfg := shell(parent, "kill -HUP $$")
		cfg.Signals = signals
		cfg.OnEvent = func(Event) {
			go func() {
				time.Sleep(25 * time.Millisecond) // the program is dead by then
				signals <- sig
			}()
		}
		if res := Run(context.Background(), cfg); res.Verdict != Cancelled || deref(res.Signal) != int(unix.SIGHUP) {
			t.Errorf("%v: %s", sig, res.JSON(false))
		}
	}
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
