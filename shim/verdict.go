package shim

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// An ending is how a run ended: all that its verdict depends on.
type ending struct {
	status     unix.WaitStatus // the program's
	broken     bool            // a limit could not be enforced any more
	endedBy    Verdict         // the limit that the run was ended for; "" if none was
	oom        bool            // the kernel has killed for the run's own memory limit
	tooMuch    bool            // there was more output than the limit
	overCPU    bool            // the final figure is above the limit, and so
	overWall   bool            // is this one
	cancelled  bool            // cgshim was told to stop
	outputLost bool            // there was a receiver for the output, which did not take all of it
	ulimit     string          // the resource limit that has ended the program, by its name in limits_hit; "" if none has
}

// limit is the limit that gives the verdict; "" if none does. The first that ended the run wins. A run that has ended by
// itself before anybody looked, and was over a limit by then, is what it would have been a moment later.
func (e *ending) limit() Verdict {
	switch {
	case e.endedBy != "":
		return e.endedBy
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

// verdict of a program that ran. Output that is lost is no success, but it does not excuse who was over a limit; and who
// cancels a run may have stopped to read.
func (e *ending) verdict() Verdict {
	limit := e.limit()
	switch {
	case e.broken:
		return Failed
	case limit != "":
		return limit
	case e.cancelled:
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

// hits names the limits that were reached, but for those of which only the cgroup's counters tell.
func (e *ending) hits() []string {
	var names []string
	for _, hit := range []struct {
		name string
		yes  bool
	}{
		{limitOf[e.endedBy], e.endedBy != ""},
		{"output", e.tooMuch},
		{"cpu_time", e.overCPU},
		{"wall_time", e.overWall},
		{e.ulimit, e.ulimit != ""},
	} {
		if hit.yes && !slices.Contains(names, hit.name) {
			names = append(names, hit.name)
		}
	}
	return names
}

// ending takes the facts together, once everybody is dead and the final figures are there.
func (r *run) ending(status unix.WaitStatus, tooMuch, outputLost bool) *ending {
	cpu := r.samples.final.CPUUsage
	return &ending{
		status:     status,
		broken:     r.broken,
		endedBy:    r.killedFor,
		oom:        r.ownOOM(&r.samples.final),
		tooMuch:    tooMuch,
		overCPU:    r.cfg.CPUTime > 0 && cpu.Known() && time.Duration(cpu.Value) > r.cfg.CPUTime,
		overWall:   r.cfg.WallTime > 0 && r.wall() > r.cfg.WallTime,
		cancelled:  r.cancelled,
		outputLost: outputLost,
		ulimit:     r.ulimit,
	}
}

// wall is the time from the program's creation to the end of the run: as late as that was seen, but not on the wrong side
// of the limit where it is known which of the two came first.
func (r *run) wall() time.Duration {
	seen := r.ended.Sub(r.started)
	switch r.watch.first {
	case endFirst:
		return min(seen, r.cfg.WallTime)
	case limitFirst:
		return max(seen, r.cfg.WallTime+1)
	}
	return seen
}
