package main

import (
	"os"
	"sync"

	"github.com/cgshim/cgshim/cmd/cgshim/internal/signals"
	"github.com/cgshim/cgshim/shim"
)

// caughtSignals are those that have come since the start of the process, and come from now on. They are for one reader.
type caughtSignals struct{}

// Pending takes those that have come.
func (caughtSignals) Pending() (list []os.Signal) {
	for {
		sig, ok := nextSignal()
		if !ok {
			return list
		}
		list = append(list, sig)
	}
}

// Channel is where all go from now on.
func (caughtSignals) Channel() <-chan os.Signal { return signalChannel() }

// signalChannel has a goroutine, and that a thread, which a run of a millisecond has no use for.
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
