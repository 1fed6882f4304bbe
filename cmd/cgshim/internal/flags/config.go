package flags

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/shim"
)

// NewConfig makes the configuration of a run; only its files are not opened yet. The error names flag and value.
func NewConfig(v Values, args []string) (shim.Config, error) {
	cfg := shim.Config{
		Args:          args,
		Dir:           v.String("chdir"),
		AllowNewPrivs: v.Bool("allow-new-privs"),
		Env:           baseEnv(v.Bool("clear-env")),
		BestEffort:    v.Bool("best-effort"),
		Subreaper:     true, // this process has no other children
		WaitAll:       v.Bool("wait-all"),
		Nest:          v.Bool("nest"),
	}
	p := parser{v: v}
	cfg.User = parseFlag(&p, "user", parseUser)
	if cfg.User != nil && !v.Bool("keep-env") {
		cfg.Env = append(cfg.Env, cfg.User.Environ()...)
	}
	cfg.Env = append(cfg.Env, parseEach(&p, "env", parseVariable)...)
	cfg.Limits.Memory = p.size("mem")
	cfg.Limits.Swap = p.sizeOrZero("swap")
	cfg.Limits.MemoryHigh = p.size("mem-high")
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
	cfg.Shield = parseFlag(&p, "shield", checked(shim.CheckShield))
	cfg.FSReadOnly, cfg.FSReadWrite, cfg.FSSystem = p.v.StringSlice("fs-ro"), p.v.StringSlice("fs-rw"), p.v.Bool("fs-system")
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
	if err := checkCombination(v); err != nil {
		return cfg, err
	}
	return cfg, cfg.Validate()
}

// checkCombination refuses flags that contradict each other, or are empty.
func checkCombination(v Values) error {
	switch {
	case v.IsSet("swap") && !v.IsSet("mem"):
		return errors.New("--swap needs --mem: it is swap on top of that")
	case v.IsSet("cpu-weight") && v.IsSet("cpu-shares"):
		return errors.New("--cpu-weight and --cpu-shares are the same limit in two units: give one")
	case v.IsSet("grace") && !v.IsSet("cpu-time") && !v.IsSet("wall-time"):
		return errors.New("--grace needs --cpu-time or --wall-time: it is about the end of those")
	case v.IsSet("fd") && v.IsSet("output"):
		return errors.New("--fd and --output: the result goes to one of them")
	case v.Bool("events") && v.IsSet("output"):
		return errors.New("--events and --output: the file holds the result only; events go to a descriptor (--fd)")
	case v.Bool("events") && v.Bool("pretty"):
		return errors.New("--events and --pretty: events are one line each")
	case v.Bool("clear-env") && v.Bool("keep-env"):
		return errors.New("--clear-env and --keep-env: the environment can't be both; give one")
	}
	for _, name := range []string{"chdir", "stdin", "stdout", "stderr", "user", "cpuset-cpus", "cpuset-mems"} {
		if v.IsSet(name) && v.String(name) == "" {
			return fmt.Errorf("--%s %q: must not be empty", name, "")
		}
	}
	return nil
}

// baseEnv returns the variables that --env adds to. CGSHIM_FD is left out: it is for this cgshim, and the program, which may be
// another one, does not inherit the descriptor.
func baseEnv(clearEnv bool) []string {
	env := []string{}
	if clearEnv {
		return env
	}
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, FDVariable+"=") && strings.IndexByte(kv, '=') > 0 {
			env = append(env, kv)
		}
	}
	return env
}
