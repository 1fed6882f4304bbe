package shim

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/shim/internal/fault"
	"github.com/cgshim/cgshim/shim/internal/ledger"
	"github.com/cgshim/cgshim/shim/internal/place"
	"github.com/cgshim/cgshim/shim/internal/rungroup"
)

// settle finds the place for the group, makes it fit, and returns the group's parent.
func (res *resources) settle(ctx context.Context) (parent string, err error) {
	res.owner, res.name = ledger.ThisOwner(), res.cfg.runName()
	want := place.Want{Manager: res.cfg.Manager, Parent: res.cfg.Parent, Nest: res.cfg.Nest}
	if res.place, err = place.Locate(res.host, want, os.Getpid(), res.stage.PID()); err != nil {
		return "", err
	}
	parent, err = res.place.Enter(&place.Entry{
		Host: res.host, Stage: res.stage.PID(), Name: res.name, Program: res.cfg.Args[0],
		Ask:      func(ask func(context.Context) error) error { return res.supervised(ctx, ask) },
		Bequeath: func() error { return res.bequeath("") },
		Later:    res.leaveBy,
		Stays:    func() bool { return res.unkillable },
	})
	res.report.phase("place")
	return parent, err
}

// supervised does something that may have to be given up, see monitor.Launch.
func (res *resources) supervised(ctx context.Context, do func(context.Context) error) error {
	doing, cancel := context.WithCancel(context.Background())
	defer cancel()
	ctx, unwatch := res.alive.Context(ctx)
	defer unwatch()
	stop := res.launching.Supervise(ctx, cancel)
	err := do(doing)
	if stop(); err != nil && res.launching.GaveUp != nil {
		return res.launching.GaveUp
	}
	return err
}

// leaveBy has release leave the place, after the last process of the launch is gone.
func (res *resources) leaveBy(leave func() error) {
	res.later(func() {
		res.stage.Close()
		if err := leave(); err != nil {
			res.report.Error("remove", err)
		}
	})
}

// plan says what kind of group the run is to have below parent: with the controllers that are needed, and those that are wanted.
func (res *resources) plan(parent string, needed []cgroup.Controller) (_, wanted []cgroup.Controller) {
	if res.host.Has(cgroup.CPUAcct) && !slices.Contains(needed, cgroup.CPUAcct) {
		needed = append(needed, cgroup.CPUAcct) // on v2 every group has it
	}
	wanted = wantedControllers(res.host, res.cfg, needed)
	// With a limit of CPU time, keep the separate cpuacct cgroup: a root program then has to escape two cgroups to evade the limit.
	res.placement = placement{parent: parent, asked: slices.Clone(wanted), frugal: res.cfg.CPUTime == 0}
	return needed, wanted
}

// createGroup makes the group with the controllers that are needed, and as many as the parent can have of
// those that are wanted for their figures.
func (res *resources) createGroup(where string, needed, wanted []cgroup.Controller) error {
	for {
		group, err := res.host.Create(where, res.options(wanted))
		var e *cgroup.Error
		switch {
		case errors.Is(err, cgroup.ErrNoController) && errors.As(err, &e):
			lacking := cgroup.Controller(e.Value)
			if slices.Contains(needed, lacking) || !slices.Contains(wanted, lacking) {
				if res.place.OfUser() {
					err = fmt.Errorf("%w: %w", fault.ErrNotDelegated, err)
				}
				return err
			}
			wanted = slices.DeleteFunc(wanted, func(c cgroup.Controller) bool { return c == lacking })
		case errors.Is(err, cgroup.ErrPopulated) && len(wanted) > len(needed):
			wanted = needed
		case err != nil:
			return err
		default:
			res.group.Host, res.group.Cgroup, res.placement.got = res.host, group, wanted
			return nil
		}
	}
}

// options are for the run's group.
func (res *resources) options(controllers []cgroup.Controller) cgroup.Options {
	return cgroup.Options{
		Controllers: controllers, Owner: res.owner, Within: res.place.Top(), Frugal: res.placement.frugal,
		Fresh: res.cfg.Name == "", // see runName
	}
}

// limitGroup sets the limits, and watches the group for OOM.
func (res *resources) limitGroup() error {
	limits := res.cfg.Limits
	limits.OOMGroup = limits.Memory != 0
	if err := res.group.Cgroup.Set(limits); err != nil {
		return err
	}
	for _, limit := range rungroup.LimitsByName(&res.cfg.Limits) {
		res.report.enforced(limit.Name, ByCgroup)
	}
	if res.cfg.CPUTime > 0 {
		res.report.enforced("cpu_time", ByTimer)
	}
	res.report.noteEnforced()
	res.report.phase("limits")
	if limits.Memory == 0 {
		res.group.OOM.Close() // of a group made ahead
		return nil
	}
	if err := res.group.OOM.Open(res.host, res.group.Cgroup); err != nil {
		return err
	}
	res.report.phase("oom")
	return nil
}

// remove removes the group, if it is there and empty.
func (res *resources) remove() {
	switch {
	case res.group.Cgroup == nil: // best effort has done that
		return
	case res.unkillable:
		res.group.Cgroup.Tune(cgroup.Tuning{})
		return
	}
	if err := res.removeBusy(); err != nil {
		res.report.Error("remove", err)
	}
	res.report.phase("rmdir")
}

// removeBusy removes the group also if somebody is in it after all: in v1, a process that has moved out of the directory in which
// processes are looked up, but not out of all. How many those are is not known.
func (res *resources) removeBusy() error {
	err := res.group.Cgroup.Remove()
	if errors.Is(err, unix.EBUSY) {
		res.kill()
		res.report.leftover(nil)
		err = res.group.Cgroup.Remove()
	}
	return err
}

// kill kills every process of the run.
func (res *resources) kill() {
	ctx, cancel := context.WithTimeout(context.Background(), killTimeout)
	defer cancel()
	if err := res.group.Kill(ctx); err != nil {
		res.report.Error("kill", err)
		res.unkillable = true
	}
}

// neededControllers are those without which a limit could not be enforced.
func neededControllers(cfg *Config) []cgroup.Controller {
	needed := cfg.Limits.Controllers()
	if cfg.CPUTime > 0 {
		needed = append(needed, cgroup.CPUAcct)
	}
	return needed
}

// wantedControllers adds those that only tell figures, and those of limits that there is another way for.
func wantedControllers(host *cgroup.Host, cfg *Config, needed []cgroup.Controller) []cgroup.Controller {
	wanted := slices.Clone(needed)
	figures := []cgroup.Controller{cgroup.Memory, cgroup.PIDs}
	if host.Version() == cgroup.V2 {
		figures = append(figures, cgroup.IO) // on v1 wait4 tells more: see rungroup's Finish
	}
	for _, c := range append(cfg.Limits.Controllers(), figures...) {
		if host.Has(c) && !slices.Contains(wanted, c) {
			wanted = append(wanted, c)
		}
	}
	return wanted
}

// prepareEnd is for what is needed when the program has ended, and what a run of a millisecond would then wait for: the stage is at
// work on the other CPU.
func (res *resources) prepareEnd() {
	group := res.group.Cgroup
	var files unix.Rlimit
	if group != nil && unix.Getrlimit(unix.RLIMIT_NOFILE, &files) == nil {
		const part = 4 // of what there may be: where more is in use, descriptors are for what has to be open
		group.Tune(cgroup.Tuning{Prepare: int(min(files.Cur, math.MaxInt32) / part)})
	}
}
