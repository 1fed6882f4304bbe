package shim

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
)

// teardown kills what is left, takes the figures, removes the cgroups, and reaches the verdict. It does
// as much of that as setup has got to.
func (r *run) teardown() {
	begun := r.ended
	if begun.IsZero() {
		begun = time.Now()
	}
	if r.oom != nil {
		_ = r.oom.Close() // ends the watching goroutine
	}
	if r.group != nil {
		r.killLeftover()
	}
	var status unix.WaitStatus
	ran := !r.ended.IsZero() && r.reap(&status)
	if r.group != nil {
		if r.program.PID != 0 {
			r.readStats()
		}
		r.remove()
	}
	r.classify(ran, status)
	if r.program.PID != 0 {
		r.result.TeardownSeconds = seconds(time.Since(begun))
	}
}

// killLeftover kills the processes that outlived the program, and counts them, unless it was us who
// ended the run: then they did not outlive it by their own doing.
func (r *run) killLeftover() {
	populated, err := r.group.Populated()
	if err != nil {
		r.noteError("kill", err)
		return
	}
	var left uint64
	if populated && !r.immortal {
		if r.killedFor == "" && r.program.PID != 0 {
			pids, err := r.group.Procs()
			if err != nil {
				r.noteError("kill", err)
			}
			left = uint64(len(pids))
		}
		r.killGroup()
	}
	if r.program.PID != 0 {
		r.result.LeftoverKilled = &left
	}
}

func (r *run) reap(status *unix.WaitStatus) bool {
	for {
		_, err := unix.Wait4(r.program.PID, status, 0, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			r.noteError("wait", err)
		}
		return err == nil
	}
}

// readStats is the only reading of the final figures: everybody is dead, and the directories are there.
func (r *run) readStats() {
	s, err := r.group.Stats()
	if err != nil {
		r.noteError("stats", err)
	}
	res := r.result
	res.PeakMemoryBytes = r.number("peak_memory_bytes", s.MemoryPeak)
	res.PeakSwapBytes = r.number("peak_swap_bytes", s.SwapPeak)
	res.OOMKills = r.number("oom_kills", s.OOMKills)
	res.PIDsPeak = r.number("pids_peak", s.PIDsPeak)
	res.PIDsDenied = r.number("pids_denied", s.PIDsDenied)
	res.CPUSeconds = r.seconds("cpu_seconds", s.CPUUsage)
	res.CPUUserSeconds = r.seconds("cpu_user_seconds", s.CPUUser)
	res.CPUSystemSeconds = r.seconds("cpu_system_seconds", s.CPUSystem)
	res.CPUThrottledSeconds = r.seconds("cpu_throttled_seconds", s.CPUThrottled)
	r.noteHits(&s)
}

func (r *run) number(key string, f cgroup.Figure) *uint64 {
	if !f.Known() {
		return nil
	}
	r.result.Sources[key] = f.Source
	return &f.Value
}

func (r *run) seconds(key string, f cgroup.Figure) *Seconds {
	if !f.Known() {
		return nil
	}
	r.result.Sources[key] = f.Source
	return seconds(time.Duration(f.Value))
}

// noteHits lists the limits that were reached, whether or not that ended the run.
func (r *run) noteHits(s *cgroup.Stats) {
	l := &r.cfg.Limits
	for _, hit := range []struct {
		name string
		yes  bool
	}{
		{"memory", s.OOMKills.Value > 0 || l.Memory != 0 && s.MemoryHits.Value > 0},
		{"swap", l.Swap > 0 && s.SwapHits.Value > 0},
		{"pids", l.PIDs != 0 && s.PIDsDenied.Value > 0},
		{"cpus", l.CPUs != 0 && s.CPUThrottled.Value > 0},
		{"cpu_time", r.killedFor == CPUTimeLimit},
		{"wall_time", r.killedFor == WallTimeLimit},
	} {
		if hit.yes {
			r.result.LimitsHit = append(r.result.LimitsHit, hit.name)
		}
	}
}

func (r *run) remove() {
	if err := r.group.Remove(); err != nil {
		r.noteError("remove", err)
	}
}

// classify turns the facts into the verdict.
func (r *run) classify(ran bool, status unix.WaitStatus) {
	res := r.result
	res.Verdict = Failed
	if !ran {
		return
	}
	res.WallSeconds = seconds(r.ended.Sub(r.started))
	dumped := status.CoreDump()
	res.CoreDumped = &dumped
	if status.Signaled() {
		number, name := int(status.Signal()), unix.SignalName(status.Signal())
		res.Signal, res.SignalName = &number, optional(name)
	} else {
		code := status.ExitStatus()
		res.ExitCode = &code
	}
	switch {
	case r.broken:
	case r.killedFor != "":
		res.Verdict = r.killedFor
	case res.OOMKills != nil && *res.OOMKills > 0:
		res.Verdict = MemoryLimit
	case r.cancelled:
		res.Verdict = Cancelled
	case res.Signal != nil:
		res.Verdict = Signaled
	case *res.ExitCode != 0:
		res.Verdict = NonzeroExit
	default:
		res.Verdict = OK
	}
}
