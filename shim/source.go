package shim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/reexec"
	"github.com/cgshim/cgshim/shim/internal/fault"
	"github.com/cgshim/cgshim/shim/internal/ledger"
	"github.com/cgshim/cgshim/shim/internal/monitor"
	"github.com/cgshim/cgshim/shim/internal/place"
	"github.com/cgshim/cgshim/shim/internal/rungroup"
	"github.com/cgshim/cgshim/shim/internal/sys"
)

// A source has what a run needs before its program: a stage, and a cgroup with its limits.
type source interface {
	// acquire gets it. On error res has as much of it as there is, to be released.
	acquire(ctx context.Context, r *run, res *resources) error
	// retry says whether a launch that has failed is to be tried again, and gets ready for that. If not, the error is what to report.
	retry(r *run, res *resources, failed error) (again bool, err error)
}

// resources are what a run has of the system. Those that are not there yet, or not needed, are zero.
type resources struct {
	report *report
	undo   []func() // in the order of acquiring

	threads   int // how many are reserved, see threads.go
	stage     *reexec.Stage
	score     *oomScore // the stage's, if it is open already
	owner     string    // this process, as the group's owner
	name      string    // the last element of the group's path
	host      *cgroup.Host
	place     place.Place
	placement placement
	group     rungroup.Group
	join      *cgroup.Join // open already; nil: it is not
	fallback  fallback     // what enforces instead of the group
	launching monitor.Launch

	meanwhile  func()               // called while the stage is at work; nil: nothing is to be done
	started    func()               // called when the program is there; nil likewise
	longer     func(must bool) bool // see takesLonger; nil likewise
	retried    bool                 // the launch has been, see slot.retry
	swept      bool                 // the run has begun to clean up after others
	unkillable bool                 // something did not die of SIGKILL in time: what it is in stays
}

func newResources(r *run) *resources {
	res := &resources{report: r.report}
	res.group.Limits = r.cfg.Limits
	res.launching = monitor.Launch{Group: &res.group, WallTime: r.cfg.WallTime, StopTimeout: r.cfg.stopTimeout(), Signals: r.signals}
	return res
}

// laterLast has release call undo after everything else.
func (res *resources) laterLast(undo func()) { res.undo = slices.Insert(res.undo, 0, undo) }

// later has release call undo, before what was acquired earlier is given back.
func (res *resources) later(undo func()) { res.undo = append(res.undo, undo) }

// release gives back what there is. It can be called again.
func (res *resources) release() {
	res.closeJoin()
	for len(res.undo) > 0 {
		last := len(res.undo) - 1
		undo := res.undo[last]
		res.undo = res.undo[:last]
		undo()
	}
}

func (res *resources) closeJoin() {
	if res.join != nil {
		res.join.Close()
		res.join = nil
	}
}

// takesLonger is called when the run takes longer than a few milliseconds: there will be goroutines. must says that it can't go on
// without. False is that it has to, for now.
func (res *resources) takesLonger(must bool) bool { return res.longer == nil || res.longer(must) }

// A fresh source makes what it has for one run.
type fresh struct{}

func (fresh) acquire(ctx context.Context, r *run, res *resources) error {
	if err := res.reserveThreads(r); err != nil {
		return at("threads", err)
	}
	if err := res.startStage(); err != nil {
		return at("stage", err)
	}
	r.report.phase("stage")
	// While the stage gets ready, the groups are made.
	if err := r.freshGroup(ctx, res, neededControllers(r.cfg)); err != nil {
		return at("cgroup", err)
	}
	r.report.phase("mkdir")
	if err := r.limitGroup(res); err != nil {
		return at("limit", err)
	}
	return nil
}

func (fresh) retry(_ *run, _ *resources, failed error) (bool, error) { return false, failed }

// reserveThreads reserves those of a run whose source is not a slot.
func (res *resources) reserveThreads(r *run) (err error) {
	res.threads, err = reserveEarly(r.cfg, r.gate != nil)
	res.longer = func(must bool) bool {
		if res.threads == 0 {
			var err error
			if res.threads, err = reserveLate(must); err != nil {
				return false
			}
		}
		res.attended()
		return true
	}
	return err
}

// attended is for a run that takes longer.
func (res *resources) attended() {
	if res.group.Cgroup != nil {
		res.group.Cgroup.Unprepare() // that was for a run of a few milliseconds
		res.startSweep()
	}
}

// startStage starts a stage for one launch, with a guardian.
func (res *resources) startStage() (err error) {
	if res.stage, err = startStage(reexec.Options{Guardian: true}); err != nil {
		return err
	}
	res.later(func() {
		res.stage.Close() // now there is nothing left to guard
		res.noteStuck()
	})
	return nil
}

// startStage starts a stage. Without a terminal there is no job control, and the program has no business with our
// process group: it could make the kernel send SIGHUP to all in it.
func startStage(options reexec.Options) (*reexec.Stage, error) {
	if err := canMakeTimers(); err != nil {
		return nil, err
	}
	options.NewSession, options.Every = !sys.OnTerminal(), every
	return reexec.Start(options)
}

func (res *resources) noteStuck() {
	if pids := res.stage.Stuck(); len(pids) > 0 {
		res.report.Error("kill", fmt.Errorf("processes %v of the launch: %w", pids, cgroup.ErrNotEmpty))
	}
}

// prepareEnd is for what is needed when the program has ended, and what a run of a millisecond would then wait for: the stage is at
// work on the other CPU.
func (res *resources) prepareEnd() {
	group := res.group.Cgroup
	var files unix.Rlimit
	if group != nil && unix.Getrlimit(unix.RLIMIT_NOFILE, &files) == nil {
		const part = 4 // of what there may be: where more is in use, descriptors are for what has to be open
		group.Prepare(int(min(files.Cur, 1<<31-1) / part))
	}
}

// freshGroup makes the run's group at its place.
func (r *run) freshGroup(ctx context.Context, res *resources, needed []cgroup.Controller) (err error) {
	if res.host, err = detect(); err != nil {
		return err
	}
	r.report.phase("detect")
	r.report.version(res.host)
	parent, err := r.settle(ctx, res)
	if err != nil {
		return err
	}
	where := path.Join(parent, res.name)
	if parent == DefaultParent && r.cfg.Name == "" && r.cfg.Parent == "" {
		where = DefaultParent + "-" + res.name // see DefaultParent
	}
	if r.cfg.Name == "" || !res.host.Exists(where) { // else Create refuses it, and it is not ours to clean up
		if err := res.bequeath(where); err != nil {
			return err
		}
	}
	needed, wanted := res.plan(r.cfg, path.Dir(where), needed)
	if err := res.createGroup(res.owning(r.cfg), where, needed, wanted); err != nil {
		return errors.Join(err, res.bequeath(""))
	}
	r.report.hasGroup(res)
	res.later(func() { res.remove((*cgroup.Group).Remove) })
	if r.gate == nil {
		res.meanwhile = res.prepareEnd
	}
	res.started = func() {
		if rand.IntN(sweepRarely) == 0 {
			res.startSweep() // else after a while, see attended: a short run has no time for it
		}
	}
	return nil
}

// settle finds the place for the group, makes it fit, and returns the group's parent.
func (r *run) settle(ctx context.Context, res *resources) (parent string, err error) {
	res.owner, res.name = ledger.ThisOwner(), r.cfg.runName()
	want := place.Want{Manager: r.cfg.Manager, Parent: r.cfg.Parent, Nest: r.cfg.Nest}
	if res.place, err = place.Locate(res.host, want, os.Getpid(), res.stage.PID()); err != nil {
		return "", err
	}
	host, parent, err := res.place.Enter(&place.Entry{
		Host: res.host, Stage: res.stage.PID(), Name: res.name, Program: r.cfg.Args[0],
		Ask:      func(ask func(context.Context) error) error { return res.supervised(ctx, ask) },
		Bequeath: func() error { return res.bequeath("") },
		Later:    res.leaveBy,
		Stays:    func() bool { return res.unkillable },
	})
	r.report.phase("place")
	if err == nil {
		res.host = host
	}
	return parent, err
}

// supervised does something that may have to be given up, see monitor.Launch.
func (res *resources) supervised(ctx context.Context, do func(context.Context) error) error {
	doing, cancel := context.WithCancel(context.Background())
	defer cancel()
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
func (res *resources) plan(cfg *Config, parent string, needed []cgroup.Controller) (_, wanted []cgroup.Controller) {
	if res.host.Has(cgroup.CPUAcct) && !slices.Contains(needed, cgroup.CPUAcct) {
		needed = append(needed, cgroup.CPUAcct) // on v2 every group has it
	}
	wanted = wantedControllers(res.host, cfg, needed)
	// With a limit of CPU time, keep the separate cpuacct cgroup: a root program then has to escape two cgroups to evade the limit.
	res.placement = placement{parent: parent, asked: slices.Clone(wanted), frugal: cfg.CPUTime == 0}
	return needed, wanted
}

// createGroup makes the group with the controllers that are needed, and as many as the parent can have of
// those that are wanted for their figures.
func (res *resources) createGroup(host *cgroup.Host, where string, needed, wanted []cgroup.Controller) error {
	for {
		group, err := host.Create(where, wanted...)
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

// owning is the host for the run's group.
func (res *resources) owning(cfg *Config) *cgroup.Host {
	host := res.host.OwnedBy(res.owner)
	if cfg.Name == "" {
		host = host.Fresh() // see runName
	}
	if res.placement.frugal {
		host = host.Frugal()
	}
	return host
}

// limitGroup sets the limits, and watches the group for OOM.
func (r *run) limitGroup(res *resources) error {
	limits := r.cfg.Limits
	limits.OOMGroup = limits.Memory != 0
	if err := res.group.Cgroup.Set(limits); err != nil {
		return err
	}
	for _, limit := range rungroup.LimitsByName(&r.cfg.Limits) {
		r.report.enforced(limit.Name, ByCgroup)
	}
	if r.cfg.CPUTime > 0 {
		r.report.enforced("cpu_time", ByTimer)
	}
	r.report.noteEnforced()
	r.report.phase("limits")
	if limits.Memory == 0 {
		res.group.OOM.Close() // of a group made ahead
		return nil
	}
	if err := res.group.OOM.Open(res.host, res.group.Cgroup); err != nil {
		return err
	}
	r.report.phase("oom")
	return nil
}

// remove removes the group by one of its methods. Busy it is when somebody has moved out of the directory in which processes are
// looked up, but not out of all.
func (res *resources) remove(remove func(*cgroup.Group) error) {
	group := res.group.Cgroup
	switch {
	case group == nil: // best effort has done that
		return
	case res.unkillable:
		group.Unprepare()
		return
	}
	err := remove(group)
	if errors.Is(err, unix.EBUSY) {
		res.kill()
		res.report.leftover(nil)
		err = remove(group)
	}
	if err != nil {
		res.report.Error("remove", err)
	}
	res.report.phase("rmdir")
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
