package shim

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
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
func (r *run) launch(ctx context.Context, res *resources) (_ *program, err error) {
	join := new(cgroup.Join)
	if res.join != nil {
		join, res.join = res.join, nil
	} else if res.group.Cgroup != nil {
		if join, err = res.group.Cgroup.Join(); err != nil {
			return nil, at("join", err)
		}
	}
	defer join.Close()
	leave, err := r.gate.pass(ctx)
	if err != nil {
		return nil, at("cancelled", err)
	}
	defer leave()
	stdio := r.stdio()
	p := new(program)
	if r.cfg.OutputLimit > 0 {
		if p.output, err = relay.New(r.cfg.OutputLimit, &stdio); err != nil {
			return nil, at("output", err)
		}
		defer func() {
			if err != nil {
				p.output.Abandon()
			}
		}()
	}
	r.report.phase("join")
	score := res.score
	if score == nil {
		score = openOOMScore(res.stage.PID())
		defer score.close()
	}
	if err := score.raise(r.cfg.OOMScoreAdj); err != nil {
		return nil, at("oom-score-adj", err)
	}
	spec := r.spec(res)
	stop := superviseStage(ctx, res, spec, leave)
	spec.Meanwhile = res.meanwhile
	r.report.phase("spec")
	p.Program, err = res.stage.Launch(spec,
		reexec.Join{Into: join.Dir, Procs: join.Procs, Tasks: join.Tasks},
		reexec.Descriptors{Stdio: &stdio, Keep: r.cfg.KeepFDs})
	r.report.phase("launch")
	score.restore()
	stop()
	if err != nil {
		return nil, r.launchError(res, err, join)
	}
	r.programStarted(res, p)
	return p, nil
}

// programStarted notes when the program was created, and starts what goes with it.
func (r *run) programStarted(res *resources, p *program) {
	p.started = timeOf(p.StartedNanos)
	res.group.Program = p.PID
	r.report.programStarted(p)
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
func superviseStage(ctx context.Context, res *resources, spec *reexec.Spec, leave func()) (stop func()) {
	end := res.launching.TakeEarly
	spec.Slow = func() {
		late := time.AfterFunc(gatePatience, leave)
		supervised := res.launching.Supervise(ctx, res.stage.Interrupt)
		end = func() {
			late.Stop()
			supervised()
		}
	}
	return func() { end() }
}

// launchError names the step at which the launch failed, and what it was about: for a join the file.
func (r *run) launchError(res *resources, err error, join *cgroup.Join) error {
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
		if limits := r.rlimits(res); e.Index >= 0 && e.Index < len(limits) {
			e.Arg = rlimitName(limits[e.Index].Resource)
		}
	case reexec.StepUser:
		e.Arg = fmt.Sprintf("%d:%d", r.cfg.User.UID, r.cfg.User.GID)
	case reexec.StepAffinity:
		e.Arg = r.cfg.Limits.CPUSetCPUs
	case reexec.StepFD:
		if e.Index >= 0 && e.Index < len(r.cfg.KeepFDs) {
			e.Arg = strconv.Itoa(r.cfg.KeepFDs[e.Index])
		}
	}
	return at(e.Step.String(), err)
}

func (r *run) stdio() [3]int {
	stdio := [3]int{0, 1, 2}
	for i, file := range []*os.File{r.cfg.Stdin, r.cfg.Stdout, r.cfg.Stderr} {
		if file != nil {
			stdio[i] = int(file.Fd())
		}
	}
	return stdio
}

func (r *run) spec(res *resources) *reexec.Spec {
	cfg := r.cfg
	spec := &reexec.Spec{
		Args:          cfg.Args,
		Env:           cfg.environment(),
		Dir:           cfg.Dir,
		AllowNewPrivs: cfg.AllowNewPrivs,
		Rlimits:       r.rlimits(res),
		NewNet:        cfg.NoNetwork && !res.fallback.hostNet,
	}
	if cfg.Limits.CPUSetCPUs != "" {
		// A program that is started under taskset(1) would keep the narrower mask: a cpuset does not widen it.
		cpus, _ := cgroup.ParseCPUList(cfg.Limits.CPUSetCPUs)
		spec.Affinity, spec.AffinityOptional = mask(cpus), cfg.BestEffort
	} else if joinsCPUSet(res) {
		spec.Affinity, spec.AffinityOptional = ownAffinity(), true
	}
	if cfg.User != nil {
		spec.Credential = &reexec.Credential{UID: cfg.User.UID, GID: cfg.User.GID, Groups: cfg.User.Groups}
	}
	return spec
}

// joinsCPUSet says whether the program may enter a group with the cpuset controller.
func joinsCPUSet(res *resources) bool {
	if res.host == nil || res.host.Version() == cgroup.V2 {
		return true
	}
	mount := res.host.MountPoint(cgroup.CPUSet)
	return mount == "" || // cgroup2's, on a hybrid host
		slices.Contains(res.placement.got, cgroup.CPUSet) ||
		slices.ContainsFunc(res.host.Controllers(), func(c cgroup.Controller) bool { return c != cgroup.CPUSet && res.host.MountPoint(c) == mount })
}

func (r *run) rlimits(res *resources) []reexec.Rlimit {
	return slices.Concat(res.fallback.limits, r.cfg.Rlimits)
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

// hasTimers is that Go's poller is open, for the whole process and for good.
var hasTimers atomic.Bool

// canMakeTimers finds out whether there are descriptors for Go's poller. The first timer opens that, and if it can't be
// opened, the runtime ends the process.
func canMakeTimers() error {
	if hasTimers.Load() {
		return nil
	}
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		unix.Close(poll)
		return os.NewSyscallError("eventfd", err)
	}
	unix.Close(event)
	unix.Close(poll)
	time.AfterFunc(time.Hour, func() {}).Stop()
	hasTimers.Store(true)
	return nil
}

// every calls look every now and then, until stop is called.
func every(look func()) (stop func()) {
	var stopped atomic.Bool
	var timer *time.Timer
	timer = time.AfterFunc(time.Hour, func() {
		if !stopped.Load() {
			look()
			timer.Reset(everyNow)
		}
	})
	timer.Reset(everyFirst)
	return func() {
		stopped.Store(true)
		timer.Stop()
	}
}

// A stage starts in a fraction of everyFirst.
const everyFirst, everyNow = 20 * time.Millisecond, 500 * time.Millisecond
