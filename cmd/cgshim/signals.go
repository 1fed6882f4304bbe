package main

import (
	"os"
	"sync"
	"syscall"

	"github.com/cgshim/cgshim/cmd/cgshim/internal/signals"
	"github.com/cgshim/cgshim/shim"
)

// catchSignals returns the signals that have come since the start of the process, and come from now on. It is for one
// reader.
var catchSignals = sync.OnceValues(func() (chan os.Signal, error) {
	if err := signals.Err(); err != nil {
		return nil, err
	}
	caught := make(chan os.Signal, 16)
	go signals.Read(func(sig syscall.Signal, fromTerminal bool) {
		if fromTerminal {
			caught <- shim.TerminalSignal(sig)
		} else {
			caught <- sig
		}
	})
	return caught, nil
})
