package shim

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/shim/internal/monitor"
)

// A TerminalSignal is one that the terminal has sent to its foreground process group. The program is in that
// group, too, and has it already: it is not forwarded. A second one that cancels kills everything at once.
//
// SIGTTIN and SIGTTOU, by which a terminal stops background processes that use it, stop cgshim as they stop
// the program.
type TerminalSignal unix.Signal

// String is the name of the signal.
func (s TerminalSignal) String() string { return unix.Signal(s).String() }

// Signal is for os.Signal.
func (s TerminalSignal) Signal() {}

// ForwardedSignals lists the signals to install a handler for, before Run.
func ForwardedSignals() []os.Signal { return monitor.Forwarded() }

// Cancels reports whether a signal to cgshim cancels the run, besides being forwarded.
func Cancels(sig os.Signal) bool {
	number, _ := signalNumber(sig)
	return monitor.Cancels(number)
}

func newSignals(cfg *Config) *monitor.Signals {
	if cfg.Signals != nil {
		return &monitor.Signals{Channel: cfg.Signals, Number: signalNumber}
	}
	return &monitor.Signals{Source: cfg.SignalSource, Number: signalNumber}
}

// signalNumber is 0 for what is no signal of this system.
func signalNumber(sig os.Signal) (number unix.Signal, fromTerminal bool) {
	if terminal, ok := sig.(TerminalSignal); ok {
		return unix.Signal(terminal), true
	}
	number, _ = sig.(unix.Signal)
	return number, false
}
