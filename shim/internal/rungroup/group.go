// Package rungroup is about the processes of one run: what limits them, what they have used, whether the kernel has killed one for its
// memory, and how to get rid of them. They are those of the run's cgroup or, without one, the program and what is found below it.
package rungroup

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/shim/internal/place"
)

// A Group is the processes of one run.
type Group struct {
	Host   *cgroup.Host  // nil only without a Cgroup
	Cgroup *cgroup.Group // nil: the run has none
	Limits cgroup.Limits // those that the run was asked for
	OOM    OOMWatch

	Program   int  // the program's pid; 0 before it is started
	Subreaper bool // this process is the program's subreaper, and has no other children: without a Cgroup, orphans are found below it

	selects        bool           // it is, and has others
	where          string         // its path from cgroup2's root on, or from that of our cgroup namespace; "": that is not known
	seen           map[int]uint64 // processes of the run, and when they started, see isOwn
	orphans        orphans
	samples        samples
	systemOOMKills *uint64 // those of the whole system before the run; v1
}

// Populated reports whether a process of the run, other than the program, is alive.
func (g *Group) Populated() (bool, error) {
	if g.Cgroup == nil {
		return len(g.strays()) > 0, nil
	}
	return g.Cgroup.Populated()
}

// PIDs lists the processes that are alive.
func (g *Group) PIDs() (pids []int, err error) {
	if g.Cgroup != nil {
		return g.Cgroup.Procs()
	}
	for _, p := range g.strays() {
		pids = append(pids, p.PID)
	}
	return pids, nil
}

// Kill kills every process of the run, and returns when they are gone.
func (g *Group) Kill(ctx context.Context) error {
	if g.Cgroup != nil {
		if g.selects {
			g.see()
		}
		return g.Cgroup.Kill(ctx)
	}
	return g.killStrays(ctx)
}

// WaitEmpty waits for the last process, or the end of ctx. What goes wrong is found by whoever cleans up, who looks as well.
func (g *Group) WaitEmpty(ctx context.Context) {
	if g.Cgroup != nil {
		_ = g.Cgroup.WaitEmpty(ctx)
		return
	}
	for pause := time.Millisecond; len(g.strays()) > 0 && ctx.Err() == nil; pause = min(2*pause, 50*time.Millisecond) {
		time.Sleep(pause)
	}
}

// CPUUsage is the CPU time that the run has used so far; if no cgroup tells it, that of the program's threads.
func (g *Group) CPUUsage() (time.Duration, error) {
	if g.Cgroup == nil || !g.Host.Has(cgroup.CPUAcct) {
		const schedClock = 2 // CPUCLOCK_SCHED: see clock_getcpuclockid(3)
		var ts unix.Timespec
		err := unix.ClockGettime(int32(^g.Program<<3|schedClock), &ts)
		return time.Duration(ts.Nano()), err
	}
	s, err := g.Cgroup.Stats(cgroup.PartCPUUsage)
	if err == nil && !s.CPUUsage.Known() {
		err = errors.New("the kernel does not tell the CPU time used")
	}
	return time.Duration(s.CPUUsage.Value), err
}

// FrozenAbove is the error that says that the program can't start because a cgroup above the run's is frozen.
func (g *Group) FrozenAbove() error {
	if g.Cgroup == nil {
		return nil
	}
	return place.FrozenAbove(g.Cgroup)
}
