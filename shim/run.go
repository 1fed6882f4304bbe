package shim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/reexec"
)

// killTimeout is how long processes may take to die after SIGKILL. One that has to give back tens of
// gigabytes needs seconds; one in an uninterruptible sleep may need for ever, and is then reported.
const killTimeout = 10 * time.Second

// run is the state of one run. Only the goroutine of Run writes to it; the one that watches for OOM reads
// what setup wrote.
type run struct {
	cfg    *Config
	result *Result
	began  time.Time

	host  *cgroup.Host
	group *cgroup.Group
	oom   *os.File // OOM events; nil without a memory limit

	program reexec.Program
	started time.Time       // the program's creation
	exited  <-chan struct{} // closed when the program has ended; it is a zombie until teardown reaps it
	ended   time.Time       // when that was seen

	killedFor Verdict // the limit that ended the run; "" if none did
	cancelled bool
	broken    bool // a limit could not be enforced any more
	immortal  bool // something did not die of SIGKILL in time
}

// Run runs a program and returns when it, everything it started, and its cgroups are gone. The end of
// ctx cancels the run, as SIGTERM does. There is always a Result, also when the program could not be run.
func Run(ctx context.Context, cfg Config) *Result {
	// The parent-death signal follows this thread, and so does the program's idea of its parent.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	r := &run{cfg: &cfg, result: newResult(&cfg), began: time.Now()}
	if step, err := r.setup(); err != nil {
		r.fail(step, err)
	} else {
		r.supervise(ctx)
	}
	r.teardown()
	return r.result
}

// setup brings the program up to its execve. On error it says at which step; teardown cleans up.
func (r *run) setup() (step string, err error) {
	cfg := r.cfg
	if err := cfg.Validate(); err != nil {
		return "usage", err
	}
	stage, err := reexec.Start()
	if err != nil {
		return "stage", err
	}
	defer stage.Abort() // nothing after Launch
	// While the stage boots and reads this, the groups are made.
	prepareErr := stage.Prepare(&reexec.Spec{
		Args:          cfg.Args,
		Env:           cfg.environment(),
		Dir:           cfg.Dir,
		AllowNewPrivs: cfg.AllowNewPrivs,
	})
	if step, err := r.makeGroup(); err != nil {
		return step, err
	}
	join, err := r.group.Join()
	if err != nil {
		return "join", err
	}
	defer join.Close()
	r.program, err = stage.Launch(reexec.Join{Into: join.Dir, Procs: join.Procs, Tasks: join.Tasks})
	if err != nil {
		return launchError(err, prepareErr, join)
	}
	r.programStarted()
	return "", nil
}

// makeGroup creates the run's group with its limits, and watches it for OOM.
func (r *run) makeGroup() (step string, err error) {
	cfg := r.cfg
	if r.host, err = cgroup.Detect(); err != nil {
		return "cgroup", err
	}
	version := int(r.host.Version())
	r.result.CgroupVersion = &version
	where := r.path()
	needed, wanted := r.controllers()
	r.group, err = r.host.Create(where, wanted...)
	if errors.Is(err, cgroup.ErrNoController) || errors.Is(err, cgroup.ErrPopulated) {
		// The parent can't have them all. What is wanted for its figures only is not worth failing for.
		r.group, err = r.host.Create(where, needed...)
	}
	if err != nil {
		return "cgroup", err
	}
	r.result.Cgroup = &where
	limits := cfg.Limits
	limits.OOMGroup = limits.Memory != 0
	if err := r.group.Set(limits); err != nil {
		return "limit", err
	}
	if limits.Memory != 0 {
		if r.oom, err = r.group.OOMEvents(); err != nil {
			return "limit", err
		}
	}
	r.noteEnforced()
	return "", nil
}

func (r *run) path() string {
	parent, name := r.cfg.Parent, r.cfg.Name
	if parent == "" {
		parent = DefaultParent
	}
	if name == "" {
		// The pid is for people; containers that share a hierarchy may have the same one.
		name = fmt.Sprintf("%d-%08x", os.Getpid(), rand.Uint32())
	}
	return path.Join(parent, name)
}

// controllers are those that the limits need, and with them those that are wanted for their figures.
func (r *run) controllers() (needed, wanted []cgroup.Controller) {
	needed = r.cfg.Limits.Controllers()
	if r.cfg.CPUTime > 0 || r.host.Has(cgroup.CPUAcct) {
		needed = append(needed, cgroup.CPUAcct) // every v2 group has it
	}
	wanted = slices.Clone(needed)
	for _, c := range []cgroup.Controller{cgroup.Memory, cgroup.PIDs} {
		if r.host.Has(c) {
			wanted = append(wanted, c)
		}
	}
	return needed, wanted
}

func (r *run) noteEnforced() {
	l := &r.cfg.Limits
	for name, asked := range map[string]bool{
		"mem": l.Memory != 0, "swap": l.Swap != 0, "pids": l.PIDs != 0,
		"cpus": l.CPUs != 0, "cpu_weight": l.CPUWeight != 0, "cpu_shares": l.CPUShares != 0,
	} {
		if asked {
			r.result.Enforced[name] = "cgroup"
		}
	}
	if r.cfg.CPUTime > 0 {
		r.result.Enforced["cpu_time"] = "timer"
	}
	if r.cfg.WallTime > 0 {
		r.result.Enforced["wall_time"] = "timer"
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

	exited, pid := make(chan struct{}), r.program.PID
	r.exited = exited
	go func() {
		defer close(exited)
		for {
			// WNOWAIT leaves the zombie, and with it the pid, until teardown has read everything: no
			// signal of ours can hit a stranger, on kernels without pidfd too.
			err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
			if err != unix.EINTR {
				return
			}
		}
	}()
}
