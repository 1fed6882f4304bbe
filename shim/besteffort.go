package shim

import (
	"context"
	"errors"
	"math"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/reexec"
	"github.com/cgshim/cgshim/shim/internal/rungroup"
)

// A bestEffort source goes on where there is no cgroup, or one that can't enforce everything. It works one after the other: what the
// program has to be told depends on what the group can do, and a launch that fails for a limit is tried again without it.
type bestEffort struct{}

func (b *bestEffort) acquire(ctx context.Context, res *resources) error {
	if err := res.reserveThreads(); err != nil {
		return at("threads", err)
	}
	res.report.noteEnforced()
	if err := res.startStage(); err != nil {
		return at("stage", err)
	}
	if err := res.freshGroup(ctx, nil); err != nil {
		res.report.warn("no cgroup: %v", err)
		// Without one there is nothing to guard, and cgshim's own processes would be counted with the program's.
		res.stage.Close()
	}
	res.enforceBestEffort()
	if res.group.Cgroup == nil {
		return res.restart()
	}
	return nil
}

func (b *bestEffort) retry(res *resources, failed error) (bool, error) {
	if !res.concede(failed) {
		return false, failed
	}
	if err := res.restart(); err != nil {
		return false, err
	}
	return true, nil
}

// restart replaces the stage by a fresh one. If there is a group, it has a guardian all the time.
func (res *resources) restart() error {
	old := res.stage
	defer old.Close()
	stage, err := startStage(reexec.Options{Guardian: res.group.Cgroup != nil})
	if err != nil {
		return at("stage", err)
	}
	res.stage = stage
	if res.group.Cgroup == nil {
		return nil
	}
	if err := res.place.Adopt(stage.PID()); err != nil {
		return at("stage", err)
	}
	if err := res.bequeath(res.group.Cgroup.Path()); err != nil {
		return at("stage", err)
	}
	return nil
}

// enforceBestEffort sets every limit that the group can enforce, if there is one, and finds something else for
// the others.
func (res *resources) enforceBestEffort() {
	for _, limit := range rungroup.LimitsByName(&res.cfg.Limits) {
		res.enforce(limit)
	}
	if res.group.Cgroup != nil && res.report.enforces("mem", ByCgroup) {
		if err := res.group.OOM.Open(res.host, res.group.Cgroup); err != nil {
			res.report.warn("OOM events: %v", err) // an OOM kill is still counted at the end
		}
	}
	if res.cfg.CPUTime > 0 {
		res.report.enforced("cpu_time", ByTimer)
		if res.group.Cgroup == nil || !res.host.Has(cgroup.CPUAcct) {
			res.withoutGroup("cpu_time")
		}
	}
	if res.group.Cgroup == nil {
		res.noteOrphans()
	}
}

// enforce sets one limit in the group, or else by other means.
func (res *resources) enforce(limit rungroup.NamedLimit) {
	err := error(cgroup.ErrNotMounted)
	if res.group.Cgroup != nil {
		err = res.group.Cgroup.Set(limit.Limits)
	}
	switch {
	case err == nil:
		res.report.enforced(limit.Name, ByCgroup)
	case limit.Name == "mem" && errors.Is(err, cgroup.ErrSwapAccounting):
		res.report.enforced("mem", ByCgroup) // that is written first
		res.report.warn("swap: %v", err)
	default:
		if res.group.Cgroup != nil {
			res.report.warn("%s: %v", limit.Name, err)
		}
		res.withoutGroup(limit.Name)
	}
}

// withoutGroup enforces a limit on each process by itself, where there is such a limit.
func (res *resources) withoutGroup(name string) {
	set := false
	switch name {
	case "mem":
		// Of the rlimits the one that is nearest to RAM: private writable memory, as far as it is mapped.
		set = res.addRlimit(unix.RLIMIT_DATA, uint64(res.cfg.Limits.Memory))
		if set {
			res.report.warnOnce(dataWarning)
		}
	case "pids":
		// It counts all that the user runs, and does not bind root.
		if uid := uidOf(res.cfg); uid != 0 {
			set = res.addRlimit(unix.RLIMIT_NPROC, rungroup.UserTasks(uid)+uint64(res.cfg.Limits.PIDs))
		}
	case "cpu_time":
		// The timer looks at the program itself, this is for what it starts: a second later, so that the
		// timer comes first.
		set = res.addRlimit(unix.RLIMIT_CPU, uint64(math.Ceil(res.cfg.CPUTime.Seconds()))+1)
	}
	if set {
		res.report.enforced(name, ByRlimit)
	} else {
		res.report.enforced(name, ByNothing)
	}
}

// dataWarning is for the caller whose program does not start: its own words are about memory that there is plenty of.
const dataWarning = "mem: by RLIMIT_DATA, of each process by itself, which counts memory that is mapped and never used, too: " +
	"java, for example, takes hundreds of megabytes to start; --ulimit data=unlimited does without this limit"

// addRlimit sets a limit, unless the caller has asked for another one of the same resource.
func (res *resources) addRlimit(resource int, value uint64) bool {
	var now unix.Rlimit
	if unix.Getrlimit(resource, &now) == nil {
		value = min(value, now.Max) // raising takes a privilege, and is not what is wanted
	}
	if slices.ContainsFunc(res.cfg.Rlimits, func(l reexec.Rlimit) bool { return l.Resource == resource }) {
		return false
	}
	res.fallback.limits = append(res.fallback.limits, reexec.Rlimit{Resource: resource, Soft: value, Hard: value})
	return true
}

// concede gives up what made a launch fail, if it is a limit, and says whether there is something new to
// try.
func (res *resources) concede(err error) bool {
	var e *reexec.Error
	if !errors.As(err, &e) {
		var failed *cgroup.Error
		return errors.As(err, &failed) && res.leaveGroup(err)
	}
	switch e.Step {
	case reexec.StepJoin, reexec.StepClone:
		return res.leaveGroup(err)
	case reexec.StepLandlock:
		res.closeRuleset() // without one there is no such step
		res.report.warn("landlock: %v", unstepped(err))
		return true
	case reexec.StepNet:
		if res.fallback.hostNet {
			return false
		}
		res.fallback.hostNet = true
		res.report.enforced("net", ByNothing)
		res.report.Warn(message("net", unstepped(err)))
		return true
	}
	return false
}

// leaveGroup goes on without a group that can't be joined: on v2, one whose common ancestor with the
// caller's is not the caller's to write to.
func (res *resources) leaveGroup(err error) bool {
	if res.group.Cgroup == nil {
		return false
	}
	res.group.OOM.Close()
	if err := res.removeBusy(); err != nil { // what the launch has left there may still be dying
		res.report.Error("remove", err)
		return false
	}
	res.stage.Close()
	res.group.Cgroup = nil
	res.report.hasNoGroup()
	res.report.warn("no cgroup: %v", unstepped(err))
	for _, limit := range rungroup.LimitsByName(&res.cfg.Limits) {
		res.withoutGroup(limit.Name)
	}
	if res.cfg.CPUTime > 0 {
		res.withoutGroup("cpu_time")
	}
	res.noteOrphans()
	return true
}

func uidOf(cfg *Config) uint32 {
	if cfg.User != nil {
		return cfg.User.UID
	}
	return uint32(os.Geteuid())
}

// noteOrphans is for a run without a group.
func (res *resources) noteOrphans() {
	if !res.group.Subreaper {
		res.report.warn("processes that outlive the program are not found without a cgroup")
	}
}
