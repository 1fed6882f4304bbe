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

// The library works a flag's names out with a regular expression, for each pair of flags: half a
// millisecond of every run. These know them.
type (
	names    []string
	textFlag struct {
		*cli.StringFlag
		names
		placeholder string
	}
	onFlag struct {
		*cli.BoolFlag
		names
	}
	listFlag struct {
		*cli.StringSliceFlag
		names
		placeholder string
	}
)

func (f textFlag) Names() []string { return f.names }
func (f onFlag) Names() []string   { return f.names }
func (f listFlag) Names() []string { return f.names }

// String is the help, which the library would make twice as wide: "--env K=V [ --env K=V ]".
func (f listFlag) String() string { return (&cli.StringFlag{Name: f.Name, Usage: f.Usage}).String() }

// flags is the command line; docs and tests read it too.
func flags() []cli.Flag {
	text := func(category, name, placeholder, usage string, aliases ...string) cli.Flag {
		return textFlag{&cli.StringFlag{
			Name: name, Aliases: aliases, Category: category,
			Usage: strings.ReplaceAll(usage, "VALUE", "`"+placeholder+"`"),
		}, append(names{name}, aliases...), placeholder}
	}
	on := func(category, name, usage string, aliases ...string) cli.Flag {
		return onFlag{
			&cli.BoolFlag{Name: name, Aliases: aliases, Category: category, Usage: usage, DisableDefaultText: true},
			append(names{name}, aliases...),
		}
	}
	list := func(category, name, placeholder, usage string) cli.Flag {
		return listFlag{&cli.StringSliceFlag{
			Name: name, Category: category, Usage: strings.ReplaceAll(usage, "VALUE", "`"+placeholder+"`") + " (repeatable)",
			KeepSpace: true, // or the library trims the value
		}, names{name}, placeholder}
	}
	return []cli.Flag{
		text(categoryLimits, "mem", "SIZE", "RAM: at VALUE (64M) the kernel kills the run", "memory", "m"),
		text(categoryLimits, "swap", "SIZE", "VALUE of swap on top of --mem (default: none)"),
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

		text(categoryProgram, "chdir", "DIR", "run the program in VALUE"),
		list(categoryProgram, "env", "K=V", "set VALUE in the program's environment"),
		on(categoryProgram, "clear-env", "start from an empty environment"),
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

		on(categoryOther, "help", "show this", "h"),
	}
}

// newConfig turns parsed flags into a Config, without its files. The error names flag and value.
func newConfig(c flagValues, args []string) (shim.Config, error) {
	cfg := shim.Config{
		Args:          args,
		Dir:           c.String("chdir"),
		AllowNewPrivs: c.Bool("allow-new-privs"),
		Env:           baseEnv(c.Bool("clear-env")),
		BestEffort:    c.Bool("best-effort"),
		Subreaper:     true, // this process has no other children
		WaitAll:       c.Bool("wait-all"),
		Nest:          c.Bool("nest"),
	}
	p := flagParser{c: c}
	cfg.Env = append(cfg.Env, parseEach(&p, "env", parseVariable)...)
	cfg.Limits.Memory = p.size("mem")
	cfg.Limits.Swap = p.sizeOrZero("swap")
	cfg.Limits.PIDs = p.count("pids", 1, cgroup.MaxPIDs)
	cfg.Limits.CPUs = p.cpus("cpus")
	cfg.Limits.CPUWeight = uint64(p.count("cpu-weight", 1, cgroup.MaxCPUWeight))
	cfg.Limits.CPUShares = uint64(p.count("cpu-shares", cgroup.MinCPUShares, cgroup.MaxCPUShares))
	cfg.Limits.CPUSetCPUs = p.set("cpuset-cpus", "CPU", cgroup.OnlineCPUs)
	cfg.Limits.CPUSetMems = p.set("cpuset-mems", "NUMA node", cgroup.OnlineMems)
	cfg.Limits.IO = p.devices()
	cfg.CPUTime = p.duration("cpu-time")
	cfg.WallTime = p.duration("wall-time")
	cfg.Grace = max(p.durationOrZero("grace"), 0)
	cfg.OutputLimit = p.size("output-limit")
	cfg.Rlimits = parseEach(&p, "ulimit", parseUlimit)
	cfg.NoNetwork = parseFlag(&p, "net", parseNet)
	cfg.User = parseFlag(&p, "user", parseUser)
	cfg.OOMScoreAdj = parseFlag(&p, "oom-score-adj", parseOOMScoreAdj)
	cfg.KeepFDs = parseEach(&p, "keep-fd", parseKeepFD)
	cfg.Name = parseFlag(&p, "name", checked(shim.CheckName))
	cfg.Parent = parseFlag(&p, "parent", checked(shim.CheckParent))
	cfg.Manager = parseFlag(&p, "manager", checked(shim.CheckManager))
	cfg.StopTimeout = p.durationOrZero("stop-timeout")
	cfg.Sample = parseFlag(&p, "sample", parseSampleInterval)
	if p.err != nil {
		return cfg, p.err
	}
	if len(args) == 0 {
		return cfg, errors.New("no program given")
	}
	if err := checkCombination(c); err != nil {
		return cfg, err
	}
	return cfg, cfg.Validate()
}

// checkCombination refuses flags that contradict each other, or say nothing.
func checkCombination(c flagValues) error {
	switch {
	case c.IsSet("swap") && !c.IsSet("mem"):
		return errors.New("--swap needs --mem: it is swap on top of that")
	case c.IsSet("cpu-weight") && c.IsSet("cpu-shares"):
		return errors.New("--cpu-weight and --cpu-shares are the same limit in two units: give one")
	case c.IsSet("grace") && !c.IsSet("cpu-time") && !c.IsSet("wall-time"):
		return errors.New("--grace needs --cpu-time or --wall-time: it is about the end of those")
	case c.IsSet("fd") && c.IsSet("output"):
		return errors.New("--fd and --output: the result goes to one of them")
	case c.Bool("events") && c.IsSet("output"):
		return errors.New("--events and --output: the file holds the result only; events go to a descriptor (--fd)")
	case c.Bool("events") && c.Bool("pretty"):
		return errors.New("--events and --pretty: events are one line each")
	}
	for _, name := range []string{"chdir", "stdin", "stdout", "stderr", "user", "cpuset-cpus", "cpuset-mems"} {
		if c.IsSet(name) && c.String(name) == "" {
			return fmt.Errorf("--%s %q: must not be empty", name, "")
		}
	}
	return nil
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
