package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/shim"
)

const (
	categoryLimits    = "Limits"
	categoryProgram   = "Program"
	categoryResult    = "Result"
	categoryPlacement = "Placement"
	categoryOther     = "Other"
)

// flags is the command line; docs and tests read it too.
func flags() []cli.Flag {
	text := func(category, name, placeholder, usage string, aliases ...string) cli.Flag {
		return &cli.StringFlag{
			Name: name, Aliases: aliases, Category: category,
			Usage: strings.ReplaceAll(usage, "VALUE", "`"+placeholder+"`"),
		}
	}
	on := func(category, name, usage string, aliases ...string) cli.Flag {
		return &cli.BoolFlag{Name: name, Aliases: aliases, Category: category, Usage: usage, DisableDefaultText: true}
	}
	return []cli.Flag{
		text(categoryLimits, "mem", "SIZE", "RAM: at VALUE (64M) the kernel kills the run", "memory", "m"),
		text(categoryLimits, "swap", "SIZE", "VALUE of swap on top of --mem (default: none)"),
		text(categoryLimits, "pids", "N", "VALUE tasks, threads included: then fork fails with EAGAIN", "pids-limit"),
		text(categoryLimits, "cpus", "F", "VALUE CPUs of bandwidth (0.5, 2): above it the program is throttled"),
		text(categoryLimits, "cpu-weight", "N", "share under contention, VALUE from 1 to 10000 (default 100)"),
		text(categoryLimits, "cpu-shares", "N", "the same in cgroup v1's unit, VALUE from 2 to 262144 (default 1024)"),
		text(categoryLimits, "cpu-time", "DUR", "VALUE of CPU time of all processes together: then the run is killed"),
		text(categoryLimits, "wall-time", "DUR", "VALUE of elapsed time (1.5s, 300ms): then the run is killed"),

		text(categoryProgram, "chdir", "DIR", "run the program in VALUE"),
		&cli.StringSliceFlag{
			Name: "env", Category: categoryProgram,
			Usage: "set `K=V` in the program's environment (repeatable)",
		},
		on(categoryProgram, "clear-env", "start from an empty environment"),
		on(categoryProgram, "allow-new-privs", "let set-user-ID programs work (default: no_new_privs)"),

		text(categoryResult, "fd", "N", "write the result to descriptor VALUE (default 2, or $CGSHIM_FD)"),
		text(categoryResult, "output", "FILE", "write the result to VALUE, whole or not at all"),
		on(categoryResult, "pretty", "spread the result over several lines"),

		text(categoryPlacement, "name", "NAME", "VALUE of the run's cgroup (default: a unique one)"),
		text(categoryPlacement, "parent", "CGROUP", "create it below VALUE (default "+shim.DefaultParent+")"),
		text(categoryPlacement, "stop-timeout", "DUR", "after a stopping signal, kill after VALUE (default 5s)"),

		on(categoryOther, "help", "show this", "h"),
	}
}

// newConfig turns parsed flags into a Config. The error names flag and value.
func newConfig(c *cli.Context) (shim.Config, error) {
	cfg := shim.Config{
		Args:          c.Args().Slice(),
		Dir:           c.String("chdir"),
		AllowNewPrivs: c.Bool("allow-new-privs"),
		Name:          c.String("name"),
		Parent:        c.String("parent"),
		Env:           baseEnv(c.Bool("clear-env")),
	}
	for _, kv := range c.StringSlice("env") {
		if strings.IndexByte(kv, '=') <= 0 {
			return cfg, fmt.Errorf("--env %q: want KEY=VALUE", kv)
		}
		cfg.Env = append(cfg.Env, kv)
	}
	p := flagParser{c: c}
	cfg.Limits.Memory = p.size("mem")
	cfg.Limits.Swap = p.sizeOrZero("swap")
	cfg.Limits.PIDs = p.count("pids", 1, cgroup.MaxPIDs)
	cfg.Limits.CPUs = p.cpus("cpus")
	cfg.Limits.CPUWeight = uint64(p.count("cpu-weight", 1, cgroup.MaxCPUWeight))
	cfg.Limits.CPUShares = uint64(p.count("cpu-shares", cgroup.MinCPUShares, cgroup.MaxCPUShares))
	cfg.CPUTime = p.duration("cpu-time")
	cfg.WallTime = p.duration("wall-time")
	cfg.StopTimeout = p.durationOrZero("stop-timeout")
	if p.err != nil {
		return cfg, p.err
	}
	switch {
	case len(cfg.Args) == 0:
		return cfg, errors.New("no program given")
	case c.IsSet("swap") && !c.IsSet("mem"):
		return cfg, errors.New("--swap needs --mem: it is swap on top of that")
	case c.IsSet("cpu-weight") && c.IsSet("cpu-shares"):
		return cfg, errors.New("--cpu-weight and --cpu-shares are the same limit in two units: give one")
	case c.IsSet("fd") && c.IsSet("output"):
		return cfg, errors.New("--fd and --output: the result goes to one of them")
	}
	for _, name := range []string{"name", "parent", "chdir"} {
		if c.IsSet(name) && c.String(name) == "" {
			return cfg, fmt.Errorf("--%s %q: must not be empty", name, "")
		}
	}
	return cfg, cfg.Validate()
}

// baseEnv is what --env adds to. CGSHIM_FD is for this cgshim, not for one that the program may start:
// the descriptor is not inherited.
func baseEnv(clearEnv bool) []string {
	env := []string{}
	if clearEnv {
		return env
	}
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, fdVariable+"=") && strings.IndexByte(kv, '=') > 0 {
			env = append(env, kv)
		}
	}
	return env
}
