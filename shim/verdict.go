package shim

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/shim/internal/monitor"
)

// An ending is how a run ended: all that its verdict depends on.
type ending struct {
	monitor.Outcome
	ran        bool            // the program has ended, and was waited for
	status     unix.WaitStatus // the program's
	seen       time.Time       // when the end was seen
	wall       time.Duration   // from the program's creation to the end
	oom        bool            // the kernel has killed for the run's own memory limit
	tooMuch    bool            // there was more output than the limit
	overCPU    bool            // the final figure is above the limit, and so
	overWall   bool            // is this one
	outputLost bool            // there was a receiver for the output, which did not take all of it
	ulimit     string          // the resource limit that has ended the program, by its name in limits_hit; "" if none has
	counted    []string        // the limits that were reached as the cgroup's counters tell
}

// verdictOf is the verdict about a limit.
func verdictOf(limit string) Verdict {
	for verdict, name := range limitOf {
		if name == limit {
			return verdict
		}
	}
	return ""
}

// limit is the limit that gives the verdict; "" if none does. The first that ended the run wins. A run that has ended by
// itself before anybody looked, and was over a limit by then, is what it would have been a moment later.
func (e *ending) limit() Verdict {
	switch {
	case e.EndedBy != "":
		return verdictOf(e.EndedBy)
	case e.oom:
		return MemoryLimit
	case e.tooMuch:
		return OutputLimit
	case e.overCPU:
		return CPUTimeLimit
	case e.overWall:
		return WallTimeLimit
	}
	return ""
}

// verdict is about a program that was started. Output that is lost is no success, but it does not excuse who was over a limit; and who
// cancels a run may have stopped to read.
func (e *ending) verdict() Verdict {
	limit := e.limit()
	switch {
	case !e.ran, e.EnforcementLost:
		return Failed
	case limit != "":
		return limit
	case e.Cancelled:
		return Cancelled
	case e.outputLost:
		return Failed
	case e.status.Signaled():
		return Signaled
	case e.status.ExitStatus() != 0:
		return NonzeroExit
	}
	return OK
}

// hits names the limits that were reached.
func (e *ending) hits() []string {
	names := slices.Clone(e.counted)
	for _, hit := range []struct {
		name string
		yes  bool
	}{
		{e.EndedBy, e.EndedBy != ""},
		{monitor.Output, e.tooMuch},
		{monitor.CPUTime, e.overCPU},
		{monitor.WallTime, e.overWall},
		{e.ulimit, e.ulimit != ""},
	} {
		if hit.yes && !slices.Contains(names, hit.name) {
			names = append(names, hit.name)
		}
	}
	return names
}

// hold holds the times against the limits. seen is how long after the program's creation its end was seen.
func (e *ending) hold(cfg *Config, seen time.Duration, cpu cgroup.Figure) {
	e.wall = wallTime(seen, e.First, cfg.WallTime)
	e.overCPU = cfg.CPUTime > 0 && cpu.Known() && time.Duration(cpu.Value) > cfg.CPUTime
	e.overWall = cfg.WallTime > 0 && e.wall > cfg.WallTime
}

// wallTime is the time from the program's creation to the end of the run: as late as that was seen, but not on the wrong side
// of the limit where it is known which of the two came first.
func wallTime(seen time.Duration, first monitor.First, limit time.Duration) time.Duration {
	switch first {
	case monitor.EndFirst:
		return min(seen, limit)
	case monitor.LimitFirst:
		return max(seen, limit+1)
	}
	return seen
}
