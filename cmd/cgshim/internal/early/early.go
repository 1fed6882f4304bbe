// Package early starts the stage of a run before the rest of the command is initialised: the two get ready at the same
// time, and a process that has done nothing yet is the cheapest to copy. So it imports next to nothing.
package early

import (
	"os"
	"slices"

	"github.com/cgshim/cgshim/reexec"
)

// Commands are the first arguments with which cgshim runs no program, or other than by a stage of its own.
var Commands = []string{
	"help", "--help", "-h", "version", "--version", "schema", "completion", "doctor", "ps", "stat", "kill", "freeze", "thaw", "gc", "batch",
}

func init() {
	if len(os.Args) > 1 && !slices.Contains(Commands, os.Args[1]) {
		reexec.Fork(os.Args)
	}
}
