package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/shim"
	"github.com/cgshim/cgshim/shim/runs"
)

// The subcommands for runs that are under way, by name or cgroup path: ps lists them, the others take some.

// A control is what such a subcommand was given.
type control struct {
	parents []string // where to look; none is everywhere
	json    bool
	manager string
	nest    bool
	signal  unix.Signal
	jobs    int
	pin     bool
	events  bool
	names   []string
}

// parseControl parses the arguments of a subcommand that has some of the flags. Flags and names may be mixed; after
// "--" there are only names.
func parseControl(command string, args []string, flags ...string) (*control, error) {
	c := &control{signal: unix.SIGTERM}
	for i := 0; i < len(args); i++ {
		flag, value, hasValue := strings.Cut(args[i], "=")
		name, dashed := strings.CutPrefix(flag, "--")
		switch {
		case args[i] == "--":
			c.names = append(c.names, args[i+1:]...)
			return c, nil
		case !strings.HasPrefix(flag, "-"):
			c.names = append(c.names, args[i])
			continue
		case !dashed || !slices.Contains(flags, name):
			return nil, fmt.Errorf("%s %q: no such flag; there is %s", command, flag, "--"+strings.Join(flags, ", --"))
		case slices.Contains([]string{"json", "nest", "pin", "events"}, name):
			if hasValue {
				return nil, fmt.Errorf("%s %q: takes no value", command, args[i])
			}
			c.json = c.json || name == "json"
			c.nest = c.nest || name == "nest"
			c.pin = c.pin || name == "pin"
			c.events = c.events || name == "events"
			continue
		case !hasValue:
			if i++; i == len(args) {
				return nil, fmt.Errorf("%s %s: no value", command, flag)
			}
			value = args[i]
		}
		if err := c.set(name, value); err != nil {
			return nil, fmt.Errorf("%s %s %q: %w", command, flag, value, err)
		}
	}
	return c, nil
}

func (c *control) set(name, value string) (err error) {
	switch name {
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
		c.signal, err = parseSignal(value)
	}
	return err
}

// maxJobs is more than anybody has CPUs for.
const maxJobs = 4096

// parseSignal parses TERM, SIGTERM or 15, of the signals that reach a run.
func parseSignal(value string) (unix.Signal, error) {
	number := unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(value), "SIG"))
	if n, err := strconv.Atoi(value); err == nil {
		number = unix.Signal(n)
	}
	names := []string{"KILL"}
	for _, sig := range shim.ForwardedSignals() {
		if sig == number {
			return number, nil
		}
		names = append(names, strings.TrimPrefix(unix.SignalName(sig.(unix.Signal)), "SIG"))
	}
	if number == unix.SIGKILL {
		return number, nil
	}
	slices.Sort(names)
	return 0, fmt.Errorf("want one of %s", strings.Join(names, ", "))
}

// controls are what can be done to a run.
var controls = map[string]func(*control, *runs.Running) error{
	"stat": printStat,
	"kill": func(c *control, r *runs.Running) error {
		if c.signal == unix.SIGKILL {
			return r.Kill()
		}
		return r.Signal(c.signal)
	},
	"freeze": func(_ *control, r *runs.Running) error { return r.Freeze() },
	"thaw":   func(_ *control, r *runs.Running) error { return r.Thaw() },
}

// controlFlags are those of each, besides --parent.
var controlFlags = map[string][]string{"ps": {"json"}, "stat": {"json"}, "kill": {"signal"}}

// controlRuns is "cgshim stat|kill|freeze|thaw NAME…". What fails for one does not stop the others.
func controlRuns(command string, args []string) int {
	c, err := parseControl(command, args, append(controlFlags[command], "parent")...)
	if err != nil {
		return complainOf(err)
	}
	if len(c.names) == 0 {
		return complainOf(fmt.Errorf("%s: which run? cgshim ps lists them", command))
	}
	status := 0
	for _, name := range c.names {
		run, err := runs.Find(name, c.parents...)
		if err == nil {
			err = controls[command](c, run)
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
