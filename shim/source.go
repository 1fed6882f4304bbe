package shim

import (
	"context"
	"errors"
	"math/rand/v2"
	"path"
	"slices"


	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/reexec"
	"github.com/cgshim/cgshim/shim/internal/monitor"
	"github.com/cgshim/cgshim/shim/internal/place"
	"github.com/cgshim/cgshim/shim/internal/rungroup"
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
