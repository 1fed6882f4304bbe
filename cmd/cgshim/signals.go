package main

import (
	"os"
	"sync"

	"github.com/cgshim/cgshim/cmd/cgshim/internal/signals"
	"github.com/cgshim/cgshim/shim"
)

// caughtSignals are the signals that have come since the start of the process, and those that will come. Only one reader gets them.
type caughtSignals struct{}

// Pending takes the signals that have come.
func (caughtSignals) Pending() (list []os.Signal) {
	for {
		sig, ok := nextSignal()
		if !ok {
			return list
		}
		list = append(list, sig)
	}
}

// Channel returns a channel that gets all signals from now on.
func (caughtSignals) Channel() <-chan os.Signal { return signalChannel() }

// signalChannel is made when it is needed, because its goroutine takes a thread, which a run of a millisecond can do without.
var signalChannel = sync.OnceValue(func() chan os.Signal {
	caught := make(chan os.Signal, 16)
	go func() {
		for signals.Wait() {
			if sig, ok := nextSignal(); ok {
				caught <- sig
			}
		}
	}()
	return caught
})

func nextSignal() (os.Signal, bool) {
	sig, fromTerminal, ok := signals.Next()
	if fromTerminal {
		return shim.TerminalSignal(sig), ok
	}
	return sig, ok
}
