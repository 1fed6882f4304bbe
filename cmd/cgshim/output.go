package main

import (
	"errors"
	"io/fs"
	"os"

	"github.com/cgshim/cgshim/cmd/cgshim/internal/deliver"
	"github.com/cgshim/cgshim/cmd/cgshim/internal/flags"
	"github.com/cgshim/cgshim/shim"
	"github.com/cgshim/cgshim/shim/runs"
)

// printOut writes to standard output, and returns the exit status.
func printOut(text string) int {
	if _, err := os.Stdout.WriteString(text); err != nil {
		_ = deliver.Complain(&shim.ErrorInfo{Message: err.Error()})
		return shim.ExitFailed
	}
	return 0
}

// printed is printOut for a caller that wants an error. The error has been complained of.
func printed(text string) error {
	if printOut(text) != 0 {
		return errNotPrinted
	}
	return nil
}

// complainOfRun is complainOf for an error about a run, which may be another user's.
func complainOfRun(err error) int {
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		err = flags.WithHint(err, "that run is somebody else's: do it as its user, or as root (sudo)")
	}
	return complainOf(err)
}

// errNotPrinted is an error that printOut has complained of.
var errNotPrinted = errors.New("standard output can't be written")

// complainOf says on stderr what went wrong, and what to do about it.
func complainOf(err error) int {
	e := &shim.ErrorInfo{Message: err.Error()}
	hint := ""
	var own interface{ Hint() string }
	switch {
	case errors.As(err, &own):
		hint = own.Hint()
	case errors.Is(err, runs.ErrNoRun):
		hint = "cgshim ps lists those that there are; for those below another cgroup: --parent"
	case errors.Is(err, runs.ErrOutOfReach):
		hint = "cgshim gc is for what dead ones have left; cgshim kill --signal KILL for the others"
	}
	if hint != "" {
		e.Hint = &hint
	}
	_ = deliver.Complain(e)
	return shim.ExitFailed
}
