package shim

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/reexec"
	"github.com/cgshim/cgshim/shim/internal/fault"
	"github.com/cgshim/cgshim/shim/internal/relay"
)

// A program is one that runs.
type program struct {
	reexec.Program
	started time.Time    // its creation
	output  *relay.Relay // nil without an output limit
}

// launch has the stage start the program, in the run's group and with its descriptors.
func (res *resources) launch(ctx context.Context) (_ *program, err error) {
	join := new(cgroup.Join)
	if res.join != nil {
		join, res.join = res.join, nil
	} else if res.group.Cgroup != nil {
		if join, err = res.group.Cgroup.Join(); err != nil {
			return nil, at("join", err)
		}
	}
	defer join.Close()
	leave, err := res.gate.pass(ctx)
	if err != nil {
		return nil, at("cancelled", err)
	}
	defer leave()
	stdio := res.cfg.stdio()
	p := new(program)
	if res.cfg.OutputLimit > 0 {
		if p.output, err = relay.New(res.cfg.OutputLimit, &stdio); err != nil {
			return nil, at("output", err)
		}
		defer func() {
			if err != nil {
				p.output.Abandon()
			}
		}()
	}
	res.shareStdio(&stdio)
	res.report.phase("join")
	if res.alive.Ended() {
		return nil, at("cancelled", errUnwanted)
	}
	score := res.score
	if score == nil {
		score = openOOMScore(res.stage.PID())
		defer score.close()
	}
	if err := score.raise(res.cfg.OOMScoreAdj); err != nil {
		return nil, at("oom-score-adj", err)
	}
	spec := res.spec()
	stop := res.superviseStage(ctx, spec, leave)
	spec.Meanwhile = res.meanwhile
	res.report.phase("spec")
	descriptors := reexec.Descriptors{Stdio: &stdio, Keep: res.cfg.KeepFDs}
	if res.ruleset != nil {
		descriptors.Ruleset = res.ruleset.FD
	}
	p.Program, err = res.stage.Launch(spec, reexec.Join{Into: join.Dir, Procs: join.Procs, Tasks: join.Tasks}, descriptors)
	res.report.phase("launch")
	score.restore()
	stop()
	if err != nil {
		return nil, res.launchError(err, join)
	}
	res.programStarted(p)
	return p, nil
}

// programStarted notes when the program was created, and starts what goes with it.
func (res *resources) programStarted(p *program) {
	p.started = timeOf(p.StartedNanos)
	res.group.Program = p.PID
	res.report.programStarted(&p.Program, p.started)
	if p.Unrestricted != 0 {
		res.report.warn("shield: landlock_restrict_self: %v", p.Unrestricted)
		res.closeRuleset()
	}
	res.report.confined(res.ruleset)
	if p.output != nil {
		p.output.Start()
	}
	if res.started != nil {
		res.started()
	}
}

// timeOf is a time on CLOCK_MONOTONIC, which the stage has read, on Go's clock. Of several readings the one counts in which this thread
// had to wait least for a CPU between the two clocks: a program must not seem to be older than its run.
func timeOf(nanos int64) (at time.Time) {
	least := int64(math.MaxInt64)
	for range 3 {
		var before, after unix.Timespec
		if unix.ClockGettime(unix.CLOCK_MONOTONIC, &before) != nil {
			return time.Now()
		}
		now := time.Now()
		_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &after)
		if lag := after.Nano() - before.Nano(); lag < least {
			least, at = lag, now.Add(time.Duration(nanos-before.Nano()))
		}
		if least < int64(10*time.Microsecond) {
			break
		}
	}
	return at
}

// gatePatience is how long a Stop of the pool waits for a launch that is slow.
const gatePatience = time.Second

// superviseStage supervises the stage's part of a launch, which is over before anybody could lose his patience, mostly. If
// it is not, leave is called some time later: nobody else should wait for it.
func (res *resources) superviseStage(ctx context.Context, spec *reexec.Spec, leave func()) (stop func()) {
	end := res.launching.TakeEarly
	spec.Slow = func() {
		late := time.AfterFunc(gatePatience, leave)
		ctx, unwatch := res.alive.Context(ctx)
		supervised := res.launching.Supervise(ctx, res.stage.Interrupt)
		end = func() {
			late.Stop()
			supervised()
			unwatch()
		}
	}
	return func() { end() }
}

// launchError names the step at which the launch failed, and what it was about: for a join the file.
func (res *resources) launchError(err error, join *cgroup.Join) error {
	var e *reexec.Error
	if !errors.As(err, &e) {
		return at("stage", err)
	}
	switch e.Step {
	case reexec.StepStage:
		switch gaveUp := res.launching.GaveUp; {
		case errors.Is(gaveUp, cgroup.ErrFrozen):
			return at("join", gaveUp)
		case gaveUp != nil:
			err = gaveUp
		case res.launching.Cancelled(): // Ctrl-C is for the stage, too
			err = fault.ErrToldToStop
		}
	case reexec.StepJoin:
		if e.Index < len(join.Paths) {
			err = &cgroup.Error{Op: "join", Path: join.Paths[e.Index], Err: e.Errno}
		}
	case reexec.StepRlimit:
		if limits := res.rlimits(); e.Index >= 0 && e.Index < len(limits) {
			e.Arg = rlimitName(limits[e.Index].Resource)
		}
	case reexec.StepNet:
		if res.cfg.AllowNewPrivs && e.Errno == unix.EPERM && !res.cfg.BestEffort {
			return at("usage", configError("with --allow-new-privs, --net none takes CAP_SYS_ADMIN: %w", e))
		}
	case reexec.StepUser:
		e.Arg = fmt.Sprintf("%d:%d", res.cfg.User.UID, res.cfg.User.GID)
	case reexec.StepChdir, reexec.StepLookup, reexec.StepExec:
		if res.cfg.User != nil && e.Errno == unix.EACCES {
			e.User = res.cfg.User.String()
		}
	case reexec.StepAffinity:
		e.Arg = res.cfg.Limits.CPUSetCPUs
	case reexec.StepFD:
		if e.Index >= 0 && e.Index < len(res.cfg.KeepFDs) {
			e.Arg = strconv.Itoa(res.cfg.KeepFDs[e.Index])
		}
	}
	return at(e.Step.String(), err)
}
