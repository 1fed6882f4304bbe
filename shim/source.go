package shim

import (
	"context"
	"errors"
	"math/rand/v2"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
)

// A source has what a run needs before its program: a stage, and a cgroup with its limits.
type source interface {
	// acquire gets it. On error res has as much of it as there is, to be released.
	acquire(ctx context.Context, res *resources) error
	// retry says whether a launch that has failed is to be tried again, and gets ready for that. If not, the error is what to report.
	retry(res *resources, failed error) (again bool, err error)
}

// A fresh source makes what it has for one run.
type fresh struct{}

func (fresh) acquire(ctx context.Context, res *resources) error {
	if err := res.reserveThreads(); err != nil {
		return at("threads", err)
	}
	if err := res.startStage(); err != nil {
		return at("stage", err)
	}
	res.report.phase("stage")
	// While the stage gets ready, the groups are made.
	if err := res.freshGroup(ctx, neededControllers(res.cfg)); err != nil {
		return at("cgroup", err)
	}
	res.report.phase("mkdir")
	if err := res.limitGroup(); err != nil {
		return at("limit", err)
	}
	return nil
}

func (fresh) retry(_ *resources, failed error) (bool, error) { return false, failed }

// reserveThreads reserves those of a run whose source is not a slot.
func (res *resources) reserveThreads() (err error) {
	res.threads, err = reserveEarly(res.cfg, res.gate != nil)
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
		res.group.Cgroup.Tune(cgroup.Tuning{KeepOpen: res.cfg.Sample > 0}) // the rest was for a run of a few milliseconds
		res.startSweep()
	}
}

// freshGroup makes the run's group at its place.
func (res *resources) freshGroup(ctx context.Context, needed []cgroup.Controller) (err error) {
	if res.host, err = detect(); err != nil {
		return err
	}
	res.report.phase("detect")
	res.report.version(res.host)
	for try := 1; ; try++ {
		if err = res.groupAtPlace(ctx, needed); err == nil {
			break
		}
		if again := errors.Is(err, cgroup.ErrPopulated) || errors.Is(err, unix.EBUSY); !again || !res.cfg.Nest || try == nestTries {
			return err
		}
		time.Sleep(nestPause)
	}
	res.report.hasGroup(&res.place, &res.group)
	res.later(res.remove)
	if res.gate == nil {
		res.meanwhile = res.prepareEnd
	}
	res.started = func() {
		if rand.IntN(sweepRarely) == 0 {
			res.startSweep() // else after a while, see attended: a short run has no time for it
		}
	}
	return nil
}

// With --nest, several of us may move each other about at the same time: the group that one has emptied another one enters, and then
// the place is looked for anew.
const (
	nestTries = 50
	nestPause = 2 * time.Millisecond
)

// groupAtPlace finds the place, and makes the group there.
func (res *resources) groupAtPlace(ctx context.Context, needed []cgroup.Controller) error {
	parent, err := res.settle(ctx)
	if err != nil {
		return err
	}
	where := path.Join(parent, res.name)
	if parent == DefaultParent && res.cfg.Name == "" && res.cfg.Parent == "" {
		where = DefaultParent + "-" + res.name // see DefaultParent
	}
	if res.cfg.Name == "" || !res.host.Exists(where) { // else Create refuses it, and it is not ours to clean up
		if err := res.bequeath(where); err != nil {
			return err
		}
	}
	needed, wanted := res.plan(path.Dir(where), needed)
	if err := res.createGroup(where, needed, wanted); err != nil {
		return errors.Join(err, res.bequeath(""))
	}
	return nil
}
