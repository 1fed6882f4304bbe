package rungroup

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
)

// Final is the figures of a run whose processes are dead.
type Final struct {
	cgroup.Stats
	// The context switches of the program and of those of its descendants that were waited for; unknown if there were others.
	VoluntarySwitches, InvoluntarySwitches cgroup.Figure
	// LargestOnly says that MemoryPeak is that of the largest process, for lack of better.
	LargestOnly bool
}

// Finish reads the final figures, once: everybody is dead, and the cgroup is still there. usage is what wait4(2) has told of the program;
// nil if it was not waited for. leftover says that processes have outlived it. With bestEffort, wait4's figures take the place of
// those that are lacking, as far as they go. On error the figures are those that could be read.
func (g *Group) Finish(usage *unix.Rusage, leftover, bestEffort bool) (final Final, err error) {
	if g.Cgroup != nil {
		final.Stats, err = g.Cgroup.Stats(cgroup.Totals)
	}
	g.samples.complete(&final.Stats, g.Limits.Memory)
	if usage != nil {
		g.addUsage(&final, usage, leftover, bestEffort)
	}
	if final.OOMKills.Known() && final.OOMKills.Value == 0 && g.OwnOOM(&final.Stats) {
		final.OOMKills = cgroup.Figure{} // v1 has counted it in a group that is gone
	}
	return final, err
}

// addUsage adds what only wait4(2) tells: of the program and of those of its descendants that were waited
// for, and nothing if there were others. Where the group tells more, that stays.
func (g *Group) addUsage(s *Final, usage *unix.Rusage, leftover, bestEffort bool) {
	g.orphans.addTo(usage)
	all := g.waitedForAll(&s.Stats, usage, leftover)
	figure := func(value int64) cgroup.Figure {
		if !all {
			return cgroup.Figure{}
		}
		return cgroup.Figure{Value: uint64(value), Source: FromWait}
	}
	s.VoluntarySwitches, s.InvoluntarySwitches = figure(usage.Nvcsw), figure(usage.Nivcsw)
	// v1 does not count what goes through the page cache, nor, since Linux 6.10, disks that nobody throttles.
	const block = 512
	s.IORead = larger(s.IORead, figure(usage.Inblock*block), g.Host)
	s.IOWrite = larger(s.IOWrite, figure(usage.Oublock*block), g.Host)
	if !bestEffort {
		return
	}
	all = true // these are as much as can be had
	if !s.CPUUsage.Known() {
		s.CPUUser, s.CPUSystem = figure(usage.Utime.Nano()), figure(usage.Stime.Nano())
		s.CPUUsage = figure(usage.Utime.Nano() + usage.Stime.Nano())
	}
	if !s.MemoryPeak.Known() {
		s.MemoryPeak = figure(usage.Maxrss << 10)
		s.LargestOnly = true
	}
}

// waitedForAll reports whether each process of the run was waited for by its parent, and the program by us: what wait4(2)
// tells is then that of all. Orphans are not, nor the children of who ignores SIGCHLD, nor those that were killed together
// with their parents. The kernel says so by the CPU time, of which wait4 tells as much as the group, to the microsecond, but for the last
// moments of threads: 10 to 20 µs each. The least that a process takes is several times that.
func (g *Group) waitedForAll(s *cgroup.Stats, usage *unix.Rusage, leftover bool) bool {
	if g.Cgroup == nil {
		return true // as far as is known: see orphans
	}
	if leftover {
		return false
	}
	if !s.CPUUsage.Known() || s.PIDsPeak.Known() && s.PIDsPeak.Value <= 1 {
		return true
	}
	tasks := min(max(s.PIDsPeak.Value, 1), 1000)
	allowance := waitLag + time.Duration(tasks-1)*threadLag
	return time.Duration(s.CPUUsage.Value)-time.Duration(usage.Utime.Nano()+usage.Stime.Nano()) <= allowance
}

const (
	waitLag   = 100 * time.Microsecond
	threadLag = 25 * time.Microsecond
)

// larger is the group's figure, unless that is v1's, which counts no more than some devices, and the smaller one, or that
// of all is unknown.
func larger(group, waited cgroup.Figure, host *cgroup.Host) cgroup.Figure {
	if !group.Known() || host.Version() == cgroup.V1 && (!waited.Known() || group.Value < waited.Value) {
		return waited
	}
	return group
}
