// Package flags knows the flags of cgshim: their names and help, how a command line or a request of cgshim batch is read, and what
// the values mean. It changes nothing, and runs nothing.
//
// There are three ways to read a command line. ReadPlain reads the usual one by hand, because the flag library takes a twentieth of a
// short run to get ready. The library, with the flags of Run, reads all others that are right. Scan reads one that is refused,
// because its result has to go to the place that it names.
//
// Whatever has read them, the flags are Values, and NewConfig makes a shim.Config of those.
package flags

import (
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cgshim/cgshim/shim"
)

// FDVariable is the environment variable that names the default descriptor for the result.
const FDVariable = "CGSHIM_FD"

const (
	categoryLimits    = "Limits"
	categoryProgram   = "Program"
	categoryResult    = "Result"
	categoryPlacement = "Placement"
	categoryCaller    = "Caller"
	categoryOther     = "Other"
)

// The help of flags that cgshim batch has, too.
const (
	AliveUsage  = "cancel when descriptor VALUE, a pipe or a socket, has no other end any more"
	CallerUsage = "cancel when the parent process has ended: the immediate one, be it a shell or sudo"
)

// A Kind is how a flag is given.
type Kind int

// The kinds. Unknown is that of a flag that does not exist.
const (
	Unknown Kind = iota
	Text         // with one value; the last one counts
	List         // with one value, and it may be repeated
	Switch       // without a value
)

// The library works a flag's names out with a regular expression, for each pair of flags: half a
// millisecond of every run. These types know their names.
type (
	names    []string
	textFlag struct {
		*cli.StringFlag
		names
		placeholder string
	}
	switchFlag struct {
		*cli.BoolFlag
		names
	}
	listFlag struct {
		*cli.StringSliceFlag
		names
		placeholder string
	}
)

func (f textFlag) Names() []string   { return f.names }
func (f switchFlag) Names() []string { return f.names }
func (f listFlag) Names() []string   { return f.names }

// String is the help. That of the library would be twice as wide: "--env K=V [ --env K=V ]".
func (f listFlag) String() string { return (&cli.StringFlag{Name: f.Name, Usage: f.Usage}).String() }

// NewText makes a flag with one value. In the usage, the word VALUE stands for the placeholder.
func NewText(category, name, placeholder, usage string, aliases ...string) cli.Flag {
	return textFlag{&cli.StringFlag{
		Name: name, Aliases: aliases, Category: category,
		Usage: strings.ReplaceAll(usage, "VALUE", "`"+placeholder+"`"),
	}, append(names{name}, aliases...), placeholder}
}

// NewList makes a flag that can be repeated.
func NewList(category, name, placeholder, usage string) cli.Flag {
	return listFlag{&cli.StringSliceFlag{
		Name: name, Category: category, Usage: strings.ReplaceAll(usage, "VALUE", "`"+placeholder+"`") + " (repeatable)",
		KeepSpace: true, // because the library would trim the value
	}, names{name}, placeholder}
}

// NewSwitch makes a flag without a value.
func NewSwitch(category, name, usage string, aliases ...string) cli.Flag {
	return switchFlag{
		&cli.BoolFlag{Name: name, Aliases: aliases, Category: category, Usage: usage, DisableDefaultText: true},
		append(names{name}, aliases...),
	}
}

// KindOf returns the kind of a flag that one of these functions has made.
func KindOf(f cli.Flag) Kind {
	switch f.(type) {
	case textFlag:
		return Text
	case listFlag:
		return List
	case switchFlag:
		return Switch
	}
	return Unknown
}

// placeholder returns the name of the flag's value in the help. A switch has none.
func placeholder(f cli.Flag) string {
	switch f := f.(type) {
	case textFlag:
		return f.placeholder
	case listFlag:
		return f.placeholder
	}
	return ""
}

// Help makes the flag that every command has.
func Help() cli.Flag { return NewSwitch(categoryOther, "help", "show this", "h") }

// systemPaths says what --fs-system allows.
func systemPaths() string {
	readOnly, readWrite := shim.SystemPaths()
	return strings.Join(readOnly, " ") + " to read, " + strings.Join(readWrite, " ") + " to write"
}

// Run makes the flags of a run, in the order of the help. Docs and tests read them, too.
func Run() []cli.Flag {
	text, on, list := NewText, NewSwitch, NewList
	return []cli.Flag{
		text(categoryLimits, "mem", "SIZE", "RAM: at VALUE (64M) the kernel kills the run", "memory", "m"),
		text(categoryLimits, "swap", "SIZE", "VALUE of swap on top of --mem (default: none)"),
		text(categoryLimits, "mem-high", "SIZE", "RAM: above VALUE (48M) the kernel slows the run down, and kills nobody (cgroup v2)"),
		text(categoryLimits, "pids", "N", "VALUE tasks, threads included: then fork fails with EAGAIN", "pids-limit"),
		text(categoryLimits, "cpus", "F", "VALUE CPUs of bandwidth (0.5, 2): above it the program is throttled"),
		text(categoryLimits, "cpu-weight", "N", "share under contention, VALUE from 1 to 10000 (default 100)"),
		text(categoryLimits, "cpu-shares", "N", "share under contention in cgroup v1's unit, VALUE from 2 to 262144 (default 1024)"),
		text(categoryLimits, "cpuset-cpus", "LIST", "run on the CPUs in VALUE (0-2,7) only"),
		text(categoryLimits, "cpuset-mems", "LIST", "take memory from the NUMA nodes in VALUE only"),
		list(categoryLimits, "device-read-bps", "DEV:RATE", "throttle reads from a disk to VALUE (/dev/sda:8M) bytes a second"),
		list(categoryLimits, "device-write-bps", "DEV:RATE", "throttle writes to a disk to VALUE (/dev/sda:8M) bytes a second"),
		list(categoryLimits, "device-read-iops", "DEV:RATE", "throttle reads to VALUE (/dev/sda:100) operations a second"),
		list(categoryLimits, "device-write-iops", "DEV:RATE", "throttle writes to VALUE (/dev/sda:100) operations a second"),
		text(categoryLimits, "cpu-time", "DUR", "VALUE of CPU time of all processes together: then the run is killed"),
		text(categoryLimits, "wall-time", "DUR", "VALUE of elapsed time (1.5s, 300ms): then the run is killed"),
		text(categoryLimits, "grace", "DUR", "when time is up: SIGTERM, and the kill after VALUE (default 0)"),
		text(categoryLimits, "output-limit", "SIZE", "VALUE of output, stdout and stderr together: then the run is killed"),
		list(categoryLimits, "ulimit", "NAME=SOFT[:HARD]", "set a resource limit: VALUE (nofile=64, stack=8M, core=0)"),
		text(categoryLimits, "net", "MODE", "VALUE none: no network but loopback; host (default): the caller's"),
		text(categoryLimits, "shield", "MODE", "VALUE auto (default): no signals to, and no look into, other processes; on: or an error; off"),
		list(categoryLimits, "fs-ro", "PATH", "files: read and execute what is beneath VALUE, and nothing elsewhere"),
		list(categoryLimits, "fs-rw", "PATH", "files: write, create and remove beneath VALUE, too"),
		on(categoryLimits, "fs-system", "files: what programs need: "+systemPaths()),

		text(categoryProgram, "chdir", "DIR", "run the program in VALUE"),
		list(categoryProgram, "env", "K=V", "set VALUE in the program's environment"),
		on(categoryProgram, "clear-env", "start from an empty environment"),
		on(categoryProgram, "keep-env", "with --user: keep HOME, USER and LOGNAME, too"),
		text(categoryProgram, "stdin", "FILE", "read standard input from VALUE"),
		text(categoryProgram, "stdout", "FILE", "write standard output to VALUE, made or emptied before"),
		text(categoryProgram, "stderr", "FILE", "write standard error to VALUE, which may be that of --stdout"),
		text(categoryProgram, "user", "USER[:GROUP]", "run it as VALUE, names or numbers"),
		on(categoryProgram, "allow-new-privs", "let set-user-ID programs work (default: no_new_privs)"),
		text(categoryProgram, "oom-score-adj", "N", "VALUE from -999 to 1000 says how soon the kernel kills it (default: before cgshim)"),
		list(categoryProgram, "keep-fd", "N", "let it inherit descriptor VALUE; others from 3 up are closed"),

		text(categoryResult, "fd", "N", "write the result to descriptor VALUE (default 2, or $CGSHIM_FD)"),
		text(categoryResult, "output", "FILE", "write the result to VALUE, whole or not at all"),
		on(categoryResult, "pretty", "spread the result over several lines"),
		on(categoryResult, "events", "write a line for the start, each limit and each sample, too"),
		text(categoryResult, "sample", "DUR", "read the counters every VALUE (at least 1ms)"),

		text(categoryPlacement, "name", "NAME", "VALUE of the run's cgroup (default: a unique one)"),
		text(categoryPlacement, "parent", "CGROUP", "create it below VALUE (default: what is ours, or "+shim.DefaultParent+")"),
		text(categoryPlacement, "manager", "WHO", "VALUE makes that parent: cgroupfs, systemd (a scope), or auto (default)"),
		on(categoryPlacement, "nest", "move whoever shares our cgroup into one below it, if the kernel wants that"),
		on(categoryPlacement, "best-effort", "go on where a limit can't be enforced, and say so in the result"),
		text(categoryPlacement, "stop-timeout", "DUR", "after a stopping signal, kill after VALUE (default 5s)"),
		on(categoryPlacement, "wait-all", "the run ends when its last process ends, not when PROG does"),

		text(categoryCaller, "alive-fd", "N", AliveUsage),
		on(categoryCaller, "die-with-caller", CallerUsage),

		Help(),
	}
}
