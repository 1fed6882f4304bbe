// Command cgshim runs one program under resource limits and reports what it used, as one JSON object.
//
// Terminal rules: the result goes to the result descriptor and nowhere else. Where that is not stderr, a
// run that failed also says so on stderr, as "cgshim: error: …" and "cgshim: hint: …". Nothing else is
// ever printed, except what help and version were asked for. Only this file exits.
package main

import (
	"os"
	"runtime"
	"slices"

	_ "github.com/cgshim/cgshim/cmd/cgshim/internal/stack"
	"github.com/cgshim/cgshim/reexec"
	"github.com/cgshim/cgshim/shim"
)

// version is set by the Makefile with -ldflags.
var version = "0.1.0-dev"

// The command is over before main would be called. An init function runs on the process's first thread, which a run's program
// has to have for its parent; runtime.LockOSThread, in main, would have to make another thread first.
func init() {
	if !underTest {
		os.Exit(start(os.Args[1:]))
	}
}

// underTest is for the tests' binary, of which this package is a part.
var underTest bool

func main() {
	runtime.LockOSThread()
	os.Exit(start(os.Args[1:]))
}

// start refuses to be a privileged copy of cgshim that anybody may execute.
func start(args []string) int {
	if how := reexec.Raised(); how != "" && (len(args) == 0 || !slices.Contains(harmless, args[0])) {
		return refuseRaised(how, args)
	}
	return dispatch(args)
}

// dispatch decides by the first argument alone whether it is a subcommand: "cgshim -- version" and
// "cgshim --mem 64M version" run a program called version.
func dispatch(args []string) int {
	if len(args) > 0 {
		switch args[0] {
		case "help", "--help", "-h":
			return runCommand([]string{"--help"})
		case "version", "--version":
			return printOut("cgshim " + version + "\n")
		case "schema":
			return printOut(shim.Schema)
		case "gc":
			return collectGarbage(args[1:])
		case "doctor":
			return examine(args[1:])
		case "ps":
			return listRuns(args[1:])
		case "stat", "kill", "freeze", "thaw":
			return controlRuns(args[0], args[1:])
		case "batch":
			return runBatch(args[1:])
		case "completion":
			return printCompletion(args[1:])
		case "run":
			args = args[1:]
		}
	}
	return runCommand(args)
}
