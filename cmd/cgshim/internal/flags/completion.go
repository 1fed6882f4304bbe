package flags

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cgshim/cgshim/shim"
)

// Completion returns the script with which a shell completes command lines of cgshim. The commands are its subcommands, with flags of
// this package. It reports false if there is no script for the shell.
func Completion(shell string, commands []*cli.Command) (script string, ok bool) {
	c := newCompletion(commands)
	switch shell {
	case "bash":
		return c.bash(), true
	case "zsh":
		return c.zsh(), true
	case "fish":
		return c.fish(), true
	}
	return "", false
}

// shells are the arguments of "cgshim completion".
const shells = "bash zsh fish"

// A completion has the parts of a script.
type completion struct {
	run      []flagHelp    // the flags of a run
	commands []commandHelp // the subcommands but "run", whose arguments are those of cgshim without a subcommand
	names    string        // of all subcommands
}

// A commandHelp has what a script says of a subcommand.
type commandHelp struct {
	name  string
	flags []flagHelp
	words string // its arguments, if there are only a few; else ""
}

// A flagHelp has what a script says of a flag.
type flagHelp struct {
	names      []string // with their dashes
	usage      string
	takesValue bool
	kind       string // of its value, see valueKind
}

func newCompletion(commands []*cli.Command) *completion {
	c := &completion{run: flagHelps(Run())}
	var names []string
	for _, command := range commands {
		names = append(names, command.Name)
	}
	c.names = strings.Join(names, " ")
	for _, command := range commands {
		help := commandHelp{name: command.Name, flags: flagHelps(command.Flags)}
		switch help.name {
		case "run":
			continue
		case "help":
			help.words = c.names
		case "completion":
			help.words = shells
		}
		c.commands = append(c.commands, help)
	}
	return c
}

// valueKind returns what a flag's value is, if a shell can complete it: a key of words, "file", "dir", "user" or "device".
func valueKind(name string) string {
	switch name {
	case "stdin", "stdout", "stderr", "output", "fs-ro", "fs-rw":
		return "file"
	case "chdir":
		return "dir"
	case "device-read-bps", "device-write-bps", "device-read-iops", "device-write-iops":
		return "device"
	case "user", "net", "shield", "ulimit", "manager", "signal":
		return name
	}
	return ""
}

// words returns the values of a kind that has only a few.
func words(kind string) string {
	switch kind {
	case "net":
		return "none host"
	case "shield":
		return "auto on off"
	case "manager":
		return "auto cgroupfs systemd"
	case "ulimit":
		return strings.Join(slices.Sorted(slices.Values(shim.RlimitNames())), "= ") + "="
	case "signal":
		return strings.Join(signalNames(), " ")
	}
	return ""
}

func flagHelps(list []cli.Flag) []flagHelp {
	// Neither a zsh spec nor a fish description may contain these.
	quotes := strings.NewReplacer("`", "", "'", "", "[", "", "]", "")
	var helps []flagHelp
	for _, f := range list {
		doc := f.(cli.DocGenerationFlag)
		help := flagHelp{usage: quotes.Replace(doc.GetUsage()), takesValue: doc.TakesValue(), kind: valueKind(f.Names()[0])}
		for _, name := range f.Names() {
			help.names = append(help.names, dashed(name))
		}
		helps = append(helps, help)
	}
	return helps
}

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// selected joins the names of the flags that are wanted.
func selected(list []flagHelp, sep string, wanted func(flagHelp) bool) string {
	var names []string
	for _, f := range list {
		if wanted(f) {
			names = append(names, f.names...)
		}
	}
	return strings.Join(names, sep)
}

func anyFlag(flagHelp) bool { return true }

func valued(f flagHelp) bool { return f.takesValue }

func ofKind(kind string) func(flagHelp) bool {
	return func(f flagHelp) bool { return f.kind == kind }
}
