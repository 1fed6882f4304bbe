package shim

import (
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/reexec"
)

func (c *Config) stdio() [3]int {
	stdio := [3]int{0, 1, 2}
	for i, file := range []*os.File{c.Stdin, c.Stdout, c.Stderr} {
		if file != nil {
			stdio[i] = int(file.Fd())
		}
	}
	return stdio
}

func (res *resources) spec() *reexec.Spec {
	cfg := res.cfg
	spec := &reexec.Spec{
		Args:          cfg.Args,
		Env:           cfg.environment(),
		Dir:           cfg.Dir,
		AllowNewPrivs: cfg.AllowNewPrivs,
		Rlimits:       res.rlimits(),

		RulesetOptional: !cfg.mustConfine(),
		NewNet:          cfg.NoNetwork && !res.fallback.hostNet,
	}
	if cfg.Limits.CPUSetCPUs != "" {
		// A program that is started under taskset(1) would keep the narrower mask: a cpuset does not widen it.
		cpus, _ := cgroup.ParseCPUList(cfg.Limits.CPUSetCPUs)
		spec.Affinity, spec.AffinityOptional = mask(cpus), cfg.BestEffort
	} else if res.joinsCPUSet() {
		spec.Affinity, spec.AffinityOptional = ownAffinity(), true
	}
	if cfg.User != nil {
		spec.Credential = &reexec.Credential{UID: cfg.User.UID, GID: cfg.User.GID, Groups: cfg.User.Groups}
	}
	return spec
}

// joinsCPUSet says whether the program may enter a group with the cpuset controller.
func (res *resources) joinsCPUSet() bool {
	if res.host == nil || res.host.Version() == cgroup.V2 {
		return true
	}
	mount := res.host.MountPoint(cgroup.CPUSet)
	return mount == "" || // cgroup2's, on a hybrid host
		slices.Contains(res.placement.got, cgroup.CPUSet) ||
		slices.ContainsFunc(res.host.Controllers(), func(c cgroup.Controller) bool { return c != cgroup.CPUSet && res.host.MountPoint(c) == mount })
}

func (res *resources) rlimits() []reexec.Rlimit {
	return slices.Concat(res.fallback.limits, res.cfg.Rlimits)
}

// ownAffinity is this thread's, if it is not all CPUs: before Linux 6.2 a task that joins a group with the
// cpuset controller loses it: on v2 that may be enabled by others. Nil is all.
func ownAffinity() []uint64 {
	var set unix.CPUSet
	online, err := cgroup.OnlineCPUs()
	if err != nil || unix.SchedGetaffinity(0, &set) != nil || set.Count() >= len(online) {
		return nil
	}
	return mask(slices.DeleteFunc(online, func(cpu int) bool { return !set.IsSet(cpu) }))
}

// mask is the affinity mask of sorted CPU numbers.
func mask(cpus []int) []uint64 {
	if len(cpus) == 0 {
		return nil
	}
	words := make([]uint64, cpus[len(cpus)-1]/64+1)
	for _, cpu := range cpus {
		words[cpu/64] |= 1 << (cpu % 64)
	}
	return words
}
