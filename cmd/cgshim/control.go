package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cmd/cgshim/internal/flags"
	"github.com/cgshim/cgshim/shim"
	"github.com/cgshim/cgshim/shim/runs"
)

// The subcommands for runs that are under way: ps lists them, the others take some by name or cgroup path.

const namesHelp = `
NAME is a run's name, as cgshim ps has it, or the path of its cgroup.`

const killHelp = `Sends a signal to the cgshim of each run; TERM cancels the run. KILL is not sent, but kills all processes of the
run at once.` + namesHelp

func findFlags() []cli.Flag {
	return []cli.Flag{flags.NewList("", "parent", "CGROUP", "look for runs below VALUE only")}
}

func listFlags() []cli.Flag {
	return append([]cli.Flag{flags.NewSwitch("", "json", "print a JSON object for each run")}, findFlags()...)
}

func killFlags() []cli.Flag {
	return append([]cli.Flag{flags.NewText("", "signal", "SIGNAL", "send VALUE, a name or a number (default TERM)")}, findFlags()...)
}

// A control has the arguments of a subcommand.
type control struct {
	parents []string // where to look; none is everywhere
	json    bool
	manager string
	nest    bool
	signal  unix.Signal
	jobs    int
	pin     bool
	events  bool
	caller  flags.Given // --alive-fd and --die-with-caller
	names   []string
}

// parseControl parses the arguments of a subcommand by its flags. Flags and names may be mixed; after "--" there are only names.
func parseControl(c *cli.Context) (*control, error) {
	return parseMixed(c.Command.Name, c.Args().Slice(), c.Command.Flags)
}

func parseMixed(command string, args []string, list []cli.Flag) (*control, error) {
	c := &control{signal: unix.SIGTERM, caller: flags.Given{}}
	for i := 0; i < len(args); i++ {
		if args[i] == "--" {
			c.names = append(c.names, args[i+1:]...)
			break
		}
		if !strings.HasPrefix(args[i], "-") {
			c.names = append(c.names, args[i])
			continue
		}
		flag, value, hasValue := strings.Cut(args[i], "=")
		switch kind := lookUp(list, flag); {
		case kind == flags.Unknown:
			return nil, fmt.Errorf("%s %q: no such flag; there is %s", command, flag, flagNames(list))
		case kind == flags.Switch && hasValue:
			return nil, fmt.Errorf("%s %q: takes no value", command, args[i])
		case kind != flags.Switch && !hasValue:
			if i++; i == len(args) {
				return nil, fmt.Errorf("%s %s: no value", command, flag)
			}
			value = args[i]
		}
		if err := c.set(strings.TrimPrefix(flag, "--"), value); err != nil {
			return nil, fmt.Errorf("%s %s %q: %w", command, flag, value, err)
		}
	}
	return c, nil
}

// lookUp returns the kind of a flag, given with its dashes. The flags of subcommands have no aliases. --help is not one of them: see
// asksForHelp.
func lookUp(list []cli.Flag, flag string) flags.Kind {
	for _, f := range list {
		if name := f.Names()[0]; "--"+name == flag && name != "help" {
			return flags.KindOf(f)
		}
	}
	return flags.Unknown
}

func flagNames(list []cli.Flag) string {
	var names []string
	for _, f := range list {
		if name := f.Names()[0]; name != "help" {
			names = append(names, "--"+name)
		}
	}
	return strings.Join(names, ", ")
}

func (c *control) set(name, value string) (err error) {
	switch name {
	case "json":
		c.json = true
	case "nest":
		c.nest = true
	case "pin":
		c.pin = true
	case "events":
		c.events = true
	case "alive-fd", "die-with-caller":
		c.caller[name] = []string{value}
	case "parent":
		err = shim.CheckParent(value)
		c.parents = append(c.parents, value)
	case "manager":
		err = shim.CheckManager(value)
		c.manager = value
	case "jobs":
		if c.jobs, err = strconv.Atoi(value); err != nil || c.jobs < 1 || c.jobs > maxJobs {
			err = fmt.Errorf("want a whole number from 1 to %d", maxJobs)
		}
	case "signal":
		c.signal, err = flags.ParseSignal(value)
	}
	return err
}

// maxJobs is more than any machine has CPUs for.
const maxJobs = 4096

func statRuns(c *cli.Context) int { return eachRun(c, printStat) }

func killRuns(c *cli.Context) int {
	return eachRun(c, func(given *control, r *runs.Running) error {
		if given.signal == unix.SIGKILL {
			return r.Kill()
		}
		return r.Signal(given.signal)
	})
}

func freezeRuns(c *cli.Context) int {
	return eachRun(c, func(_ *control, r *runs.Running) error { return r.Freeze() })
}

func thawRuns(c *cli.Context) int {
	return eachRun(c, func(_ *control, r *runs.Running) error { return r.Thaw() })
}

// eachRun does something to the runs that are named. An error with one does not stop the others.
func eachRun(c *cli.Context, do func(*control, *runs.Running) error) int {
	command := c.Command.Name
	given, err := parseControl(c)
	if err != nil {
		return complainOf(err)
	}
	if len(given.names) == 0 {
		return complainOf(fmt.Errorf("%s: which run? cgshim ps lists them", command))
	}
	status := 0
	for _, name := range given.names {
		run, err := runs.Find(name, given.parents...)
		if err == nil {
			err = do(given, run)
		}
		switch {
		case errors.Is(err, errNotPrinted):
			status = shim.ExitFailed
		case err != nil:
			status = complainOfRun(fmt.Errorf("%s: %w", command, err))
		}
	}
	return status
}
