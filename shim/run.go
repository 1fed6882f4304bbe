package shim

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/reexec"
)

// killTimeout is how long processes may take to die after SIGKILL. One that has to give back tens of
// gigabytes needs seconds; one in an uninterruptible sleep may need for ever, and is then reported.
const killTimeout = 10 * time.Second

// detect is replaced by tests, with kernels that have less.
var detect = cgroup.Detect

// run is the state of one run. Only the goroutine of Run writes to it, but for early and gaveUp, which are
// superviseLaunch's, and for what is in watch.
type run struct {
	cfg    *Config
	result *Result
	began  time.Time

	slot           *slot // of a Pool; nil is none
	gate           *gate // of a Pool; nil is none
	stage          *reexec.Stage
	owner          string // this process, as the group's owner
	host           *cgroup.Host
	name           string // the last element of the group's path
	place          Place
	placement      placement
	group          *cgroup.Group // nil without one, which only BestEffort bears
	join           *cgroup.Join  // open already; nil is not
	oom            oomWatch
	systemOOMKills *uint64  // those of the whole system before the run; v1
	fallback       fallback // what enforces instead of the group
	output         *output  // nil without an output limit
	samples        samples

	program   reexec.Program
	reserved  int         // threads, see threads.go
	early     []os.Signal // that have come before there was a program
	gaveUp    error       // why the launch was not waited for any longer
	started   time.Time   // the program's creation
	watch     watch       // for its end, and all else that can happen
	killed    bool        // the program has been, for a limit or told so
	diedOf    unix.Signal // the signal that has ended the program
	ended     time.Time   // when the run's end was seen; the program is a zombie until teardown reaps it
	stopSweep func()

	killedFor    Verdict // the limit that ended the run; "" if none did
	ulimit       string  // the resource limit that has ended the program, see noteUlimit
	cancelled    bool
	suspendUntil time.Time // how long to wait for the program to stop
	broken       bool      // a limit could not be enforced any more
	immortal     bool      // something did not die of SIGKILL in time
	told         []string  // the limits that OnEvent knows of
}

// Run runs a program and returns when it, everything it started, and its cgroups are gone. The end of
// ctx cancels the run, as SIGTERM does. There is always a Result, also when the program could not be run.
func Run(ctx context.Context, cfg Config) *Result {
	// The parent-death signal follows this thread, and so does the program's idea of its parent.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return RunOnThread(ctx, cfg)
}

// RunOnThread is Run, for a goroutine that stays on its thread: one that has called runtime.LockOSThread, or that of an init
// function, where that call, and the thread that it makes the first time, can be spared. On any other goroutine the program may be
// killed when some thread ends.
func RunOnThread(ctx context.Context, cfg Config) *Result { return newRun(&cfg).do(ctx) }

// do is Run, on a thread that lives as long as the program.
func (r *run) do(ctx context.Context) *Result {
	if step, err := r.setup(ctx); err != nil {
		r.fail(step, err)
	} else {
		r.phase("started")
		r.supervise(ctx)
		r.phase("wait")
	}
	r.teardown()
	r.collect()
	threads.giveBack(r.reserved, 0)
	r.phase("collect")
	return r.result
}

func newRun(cfg *Config) *run {
	if cfg.Signals != nil {
		cfg.SignalSource = nil
	}
	return &run{cfg: cfg, result: newResult(cfg), began: time.Now()}
}

// phase ends one, see Config.OnPhase.
func (r *run) phase(name string) {
	if r.cfg.OnPhase != nil {
		r.cfg.OnPhase(name)
	}
}

// setup brings the program up to its execve. On error it says at which step; teardown cleans up.
func (r *run) setup(ctx context.Context) (step string, err error) {
	if r.slot != nil {
		return r.slot.setup(ctx, r)
	}
	if err := r.cfg.Validate(); err != nil {
		return "usage", err
	}
	if err := r.reserveEarly(); err != nil {
		return "threads", err
	}
	if r.cfg.BestEffort {
		return r.setupBestEffort(ctx)
	}
	if err := r.startStage(true); err != nil {
		return "stage", err
	}
	r.phase("stage")
	// While the stage gets ready, the groups are made.
	if step, err := r.makeGroup(ctx); err != nil {
		return step, err
	}
	return r.launch(ctx)
}

// startStage starts a stage for one launch. Without a terminal there is no job control, and the program has no business with our
// process group: it could make the kernel send SIGHUP to all in it.
func (r *run) startStage(guardian bool) (err error) {
	r.stage, err = startStage(reexec.Options{Guardian: guardian})
	return err
}

func startStage(options reexec.Options) (*reexec.Stage, error) {
	if err := canMakeTimers(); err != nil {
		return nil, err
	}
	options.NewSession, options.Every = !onTerminal(), every
	return reexec.Start(options)
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

func (r *run) spec() *reexec.Spec {
	cfg := r.cfg
	spec := &reexec.Spec{
		Args:          cfg.Args,
		Env:           cfg.environment(),
		Dir:           cfg.Dir,
		AllowNewPrivs: cfg.AllowNewPrivs,
		Rlimits:       r.rlimits(),
		NewNet:        cfg.NoNetwork && !r.fallback.hostNet,
	}
	if cfg.Limits.CPUSetCPUs != "" {
		// A program that is started under taskset(1) would keep the narrower mask: a cpuset does not widen it.
		cpus, _ := cgroup.ParseCPUList(cfg.Limits.CPUSetCPUs)
		spec.Affinity, spec.AffinityOptional = mask(cpus), cfg.BestEffort
	} else if r.joinsCPUSet() {
		spec.Affinity, spec.AffinityOptional = ownAffinity(), true
	}
	if cfg.User != nil {
		spec.Credential = &reexec.Credential{UID: cfg.User.UID, GID: cfg.User.GID, Groups: cfg.User.Groups}
	}
	return spec
}

// joinsCPUSet says whether the program may enter a group with the cpuset controller.
func (r *run) joinsCPUSet() bool {
	if r.host == nil || r.host.Version() == cgroup.V2 {
		return true
	}
	mount := r.host.MountPoint(cgroup.CPUSet)
	return mount == "" || // cgroup2's, on a hybrid host
		slices.Contains(r.placement.got, cgroup.CPUSet) ||
		slices.ContainsFunc(r.host.Controllers(), func(c cgroup.Controller) bool { return c != cgroup.CPUSet && r.host.MountPoint(c) == mount })
}

func (r *run) rlimits() []reexec.Rlimit { return append(r.fallback.rlimits(), r.cfg.Rlimits...) }

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

// launch has the prepared stage start the program, in its group and with its descriptors.
func (r *run) launch(ctx context.Context) (step string, err error) {
	join := new(cgroup.Join)
	if r.join != nil {
		join, r.join = r.join, nil
	} else if r.group != nil {
		if join, err = r.group.Join(); err != nil {
			return "join", err
		}
	}
	defer join.Close()
	leave, err := r.gate.pass(ctx)
	if err != nil {
		return "cancelled", err
	}
	defer leave()
	stdio := r.stdio()
	if r.cfg.OutputLimit > 0 {
		if r.output, err = newOutput(r.cfg.OutputLimit, &stdio); err != nil {
			return "output", err
		}
	}
	r.phase("join")
	score := r.oomScore()
	defer r.closeOOMScore(score)
	if err := score.raise(r.cfg.OOMScoreAdj); err != nil {
		r.abandonOutput()
		return "oom-score-adj", err
	}
	spec := r.spec()
	stop := r.superviseStage(ctx, spec, leave)
	if r.slot == nil {
		spec.Meanwhile = r.prepare
	}
	r.phase("spec")
	r.program, err = r.stage.Launch(spec,
		reexec.Join{Into: join.Dir, Procs: join.Procs, Tasks: join.Tasks},
		reexec.Descriptors{Stdio: &stdio, Keep: r.cfg.KeepFDs})
	r.phase("launch")
	score.restore()
	stop()
	if err != nil {
		r.abandonOutput()
		return r.launchError(err, join)
	}
	r.programStarted()
	return "", nil
}

// prepare is for what is needed when the program has ended, and what a run of a millisecond would then wait for: the stage is at
// work on the other CPU.
func (r *run) prepare() {
	var files unix.Rlimit
	if r.group != nil && r.gate == nil && unix.Getrlimit(unix.RLIMIT_NOFILE, &files) == nil {
		const part = 4 // of what there may be: where more is in use, descriptors are for what has to be open
		r.group.Tune(cgroup.Tuning{Prepare: int(min(files.Cur, math.MaxInt32) / part)})
	}
}

func (r *run) abandonOutput() {
	if r.output != nil {
		r.output.abandon()
		r.output = nil
	}
}

// oomScore is the stage's: of a slot's stage, which stays, it is open already.
func (r *run) oomScore() *oomScore {
	if r.slot != nil {
		return r.slot.score
	}
	return openOOMScore(r.stage.PID())
}

func (r *run) closeOOMScore(score *oomScore) {
	if r.slot == nil {
		score.close()
	}
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

// makeGroup creates the run's group with its limits, and watches it for OOM.
func (r *run) makeGroup(ctx context.Context) (step string, err error) {
	if err := r.createGroup(ctx, r.neededControllers()); err != nil {
		return "cgroup", err
	}
	r.phase("mkdir")
	limits := r.cfg.Limits
	limits.OOMGroup = limits.Memory != 0
	if err := r.group.Set(limits); err != nil {
		return "limit", err
	}
	for _, limit := range limitsByName(&r.cfg.Limits) {
		r.result.Enforced[limit.name] = ByCgroup
	}
	if r.cfg.CPUTime > 0 {
		r.result.Enforced["cpu_time"] = ByTimer
	}
	r.noteEnforced()
	r.phase("limits")
	if limits.Memory != 0 {
		if err := r.oom.open(r.host, r.group); err != nil {
			return "limit", err
		}
		r.phase("oom")
	} else {
		r.oom.stop() // of a group made ahead
	}
	return "", nil
}

// createGroup makes the group with the controllers that are needed, and as many as the parent can have of
// those that are wanted for their figures.
func (r *run) createGroup(ctx context.Context, needed []cgroup.Controller) (err error) {
	if r.host == nil {
		if r.host, err = detect(); err != nil {
			return err
		}
		r.phase("detect")
	}
	version := int(r.host.Version())
	r.result.CgroupVersion = &version
	parent, err := r.settle(ctx)
	if err != nil {
		return err
	}
	where := r.path(parent)
	if r.host.Has(cgroup.CPUAcct) && !slices.Contains(needed, cgroup.CPUAcct) {
		needed = append(needed, cgroup.CPUAcct) // on v2 every group has it
	}
	wanted := r.wantedControllers(needed)
	// To be rid of a limit of CPU time, root's program shall have to leave two groups.
	r.placement = placement{parent: path.Dir(where), asked: slices.Clone(wanted), frugal: r.cfg.CPUTime == 0}
	if r.slot != nil && r.slot.take(r) {
		where = r.group.Path()
		r.result.Cgroup = &where
		return nil
	}
	if r.cfg.Name == "" || !r.host.Exists(where) { // else Create refuses it, and it is not ours to clean up
		if err := r.bequeath(where); err != nil {
			return err
		}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.bequeath(""))
		}
	}()
	for {
		r.group, err = r.host.Create(where, r.options(wanted))
		var e *cgroup.Error
		switch {
		case errors.Is(err, cgroup.ErrNoController) && errors.As(err, &e):
			lacking := cgroup.Controller(e.Value)
			if slices.Contains(needed, lacking) || !slices.Contains(wanted, lacking) {
				if r.place.unit != nil && r.place.unit.user {
					err = fmt.Errorf("%w: %w", errNotDelegated, err)
				}
				return err
			}
			wanted = slices.DeleteFunc(wanted, func(c cgroup.Controller) bool { return c == lacking })
		case errors.Is(err, cgroup.ErrPopulated) && len(wanted) > len(needed):
			wanted = needed
		case err != nil:
			return err
		default:
			r.result.Cgroup = &where
			r.placement.got = wanted
			return nil
		}
	}
}

// options are for the run's group.
func (r *run) options(controllers []cgroup.Controller) cgroup.Options {
	return cgroup.Options{
		Controllers: controllers, Owner: r.owner, Within: r.place.top, Frugal: r.placement.frugal,
		Fresh: r.cfg.Name == "", // see runName
	}
}

// settle finds the place for the group, makes it fit, and returns the group's parent.
func (r *run) settle(ctx context.Context) (parent string, err error) {
	if r.slot != nil {
		return r.place.Parent, nil
	}
	r.owner, r.name = thisOwner(), r.cfg.runName()
	if r.place, err = Locate(r.host, r.cfg, os.Getpid(), r.stage.PID()); err != nil {
		return "", err
	}
	parent, err = r.enterPlace(ctx)
	r.phase("place")
	return parent, err
}

// path is the group's: see DefaultParent.
func (r *run) path(parent string) string {
	if r.slot == nil && parent == DefaultParent && r.cfg.Name == "" && r.cfg.Parent == "" {
		return DefaultParent + "-" + r.name
	}
	return path.Join(parent, r.name)
}

// neededControllers are those without which a limit could not be enforced.
func (r *run) neededControllers() []cgroup.Controller {
	needed := r.cfg.Limits.Controllers()
	if r.cfg.CPUTime > 0 {
		needed = append(needed, cgroup.CPUAcct)
	}
	return needed
}

// wantedControllers adds those that only tell figures, and those of limits that there is another way for.
func (r *run) wantedControllers(needed []cgroup.Controller) []cgroup.Controller {
	wanted := slices.Clone(needed)
	figures := []cgroup.Controller{cgroup.Memory, cgroup.PIDs}
	if r.host.Version() == cgroup.V2 {
		figures = append(figures, cgroup.IO) // on v1 wait4 tells more: see addUsage
	}
	for _, c := range append(r.cfg.Limits.Controllers(), figures...) {
		if r.host.Has(c) && !slices.Contains(wanted, c) {
			wanted = append(wanted, c)
		}
	}
	return wanted
}

// A namedLimit is one limit by its name in the result.
type namedLimit struct {
	name   string
	limits cgroup.Limits
}

// limitsByName takes the limits apart. Swap is part of the memory limit, and is here for its name.
func limitsByName(l *cgroup.Limits) []namedLimit {
	var list []namedLimit
	add := func(asked bool, name string, limits cgroup.Limits) {
		if asked {
			list = append(list, namedLimit{name, limits})
		}
	}
	memory := cgroup.Limits{Memory: l.Memory, Swap: l.Swap, OOMGroup: true}
	add(l.Memory != 0, "mem", memory)
	add(l.Swap != 0, "swap", memory)
	add(l.PIDs != 0, "pids", cgroup.Limits{PIDs: l.PIDs})
	add(l.CPUs != 0, "cpus", cgroup.Limits{CPUs: l.CPUs})
	add(l.CPUWeight != 0, "cpu_weight", cgroup.Limits{CPUWeight: l.CPUWeight})
	add(l.CPUShares != 0, "cpu_shares", cgroup.Limits{CPUShares: l.CPUShares})
	add(l.CPUSetCPUs != "", "cpuset_cpus", cgroup.Limits{CPUSetCPUs: l.CPUSetCPUs})
	add(l.CPUSetMems != "", "cpuset_mems", cgroup.Limits{CPUSetMems: l.CPUSetMems})
	rates := map[string][]cgroup.IOLimit{}
	for _, io := range l.IO {
		device := cgroup.IOLimit{Major: io.Major, Minor: io.Minor}
		for name, limit := range map[string]cgroup.IOLimit{
			"device_read_bps": {ReadBPS: io.ReadBPS}, "device_write_bps": {WriteBPS: io.WriteBPS},
			"device_read_iops": {ReadIOPS: io.ReadIOPS}, "device_write_iops": {WriteIOPS: io.WriteIOPS},
		} {
			if limit != (cgroup.IOLimit{}) {
				limit.Major, limit.Minor = device.Major, device.Minor
				rates[name] = append(rates[name], limit)
			}
		}
	}
	for name, limits := range rates {
		add(true, name, cgroup.Limits{IO: limits})
	}
	return list
}

// noteEnforced is about what no cgroup enforces.
func (r *run) noteEnforced() {
	for _, limit := range []struct {
		asked    bool
		name, by string
	}{
		{r.cfg.WallTime > 0, "wall_time", ByTimer},
		{r.cfg.OutputLimit > 0, "output", ByRelay},
		{len(r.cfg.Rlimits) > 0, "ulimit", ByRlimit},
		{r.cfg.NoNetwork, "net", ByNamespace},
	} {
		if limit.asked {
			r.result.Enforced[limit.name] = limit.by
		}
	}
}

// programStarted notes when the program was created, which the stage has read off CLOCK_MONOTONIC, and
// starts to wait for its end.
func (r *run) programStarted() {
	var ts unix.Timespec
	r.started = time.Now()
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) == nil {
		r.started = r.started.Add(time.Duration(r.program.StartedNanos - ts.Nano()))
	}
	at := r.started.UTC().Format("2006-01-02T15:04:05.000000Z")
	r.result.StartedAt = &at
	r.result.PID = &r.program.PID
	r.result.SetupSeconds = seconds(r.started.Sub(r.began))

	r.emitStarted(at)
	if r.output != nil {
		r.output.start()
	}
	switch {
	case r.slot != nil:
		r.slot.prepare(r)
	case r.group != nil && rand.IntN(sweepRarely) == 0:
		r.stopSweep = r.sweep() // else after a while, see attend: a short run has no time for it
	}
}
