// Command cgshim runs one program under resource limits and reports what it used, as one JSON object.
//
// Terminal rules: the result goes to the result descriptor and nowhere else. If that is not stderr, a
// run that failed also says so on stderr, as "cgshim: error: …" and "cgshim: hint: …". Nothing else is
// ever printed, except by subcommands that are for printing. Only this file exits.
package main

import (
	"os"
	"runtime"

	"github.com/cgshim/cgshim/cmd/cgshim/internal/signals"
	_ "github.com/cgshim/cgshim/cmd/cgshim/internal/stack"
	"github.com/cgshim/cgshim/reexec"
)

// version is set by the Makefile with -ldflags.
var version = "0.1.0-dev"

// Everything is done in an init function, and main is never called. An init function runs on the process's first thread, which has to
// be the parent of a run's program. In main, runtime.LockOSThread would have to make another thread first.
func init() {
	if !underTest {
		os.Exit(start(os.Args[1:]))
	}
}

// underTest is true in the tests' binary, of which this package is a part.
var underTest bool

func main() {
	runtime.LockOSThread()
	os.Exit(start(os.Args[1:]))
}

// start refuses to be a privileged copy of cgshim that any user may execute.
func start(args []string) int {
	if how := reexec.Raised(); how != "" && !onlyPrints(args) {
		return refuseRaised(how, args)
	}
	return dispatch(args)
}

// dispatch decides by the first argument alone whether it is a subcommand: "cgshim -- version" and
// "cgshim --mem 64M version" run a program called version.
func dispatch(args []string) int {
	if len(args) == 0 {
		return runCommand(nil)
	}
	switch s := findSubcommand(args[0]); {
	case s == nil:
		return runCommand(args)
	case s.run == nil: // "run"
		return runCommand(args[1:])
	default:
		signals.GiveBack()
		if s.name != args[0] { // an alias
			args = args[:1]
		}
		return execute(s.name, args[1:])
	}
}
