package shim

import (
	"errors"
	"fmt"
	"slices"
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
	r.oom.stop()
	if r.join != nil {
		r.join.Close()
	}
	if r.group != nil || r.program.PID != 0 {
		r.killLeftover()
	}
	r.phase("kill")
	r.watch.close()
	r.noteUlimit()
	var status unix.WaitStatus
	var usage unix.Rusage
	ran := !r.ended.IsZero() && r.reap(&status, &usage)
	if !ran && r.program.PID != 0 {
		go func() { _, _ = ignoringEINTR(func() (int, error) { return unix.Wait4(r.program.PID, nil, 0, nil) }) }()
	}
	r.phase("reap")
	if r.program.PID != 0 {
		r.readStats(ran, &usage)
	}
	if r.slot != nil && r.group != nil {
		r.slot.like = r.group
	}
	r.phase("read")
	switch {
	case r.group == nil:
	case r.immortal:
		r.group.Tune(cgroup.Tuning{})
	default:
		r.remove()
	}
	r.phase("rmdir")
	if r.stage != nil {
		if r.slot == nil {
			r.stage.Close() // now there is nothing left to guard
		}
		if pids := r.stage.Stuck(); len(pids) > 0 {
			r.noteError("kill", fmt.Errorf("processes %v of the launch: %w", pids, cgroup.ErrNotEmpty))
		}
	}
	if r.stopSweep != nil {
		r.stopSweep()
	}
	tooMuch, lost := r.finishOutput()
	end := r.ending(status, tooMuch, lost)
	if r.program.PID != 0 {
		r.noteHits(end)
	}
	r.classify(ran, end)
	r.leavePlace()
	r.phase("sweep")
	if r.program.PID != 0 {
		r.result.TeardownSeconds = seconds(time.Since(begun))
	}
}

// collect takes what the dead have left in the kernel, once nobody is alive: zombies that are our children by
// CLONE_PARENT, for which the first process of a killed pid namespace waits; and descriptors on their way through sockets
// that are on their way themselves, which the kernel looks for when some socket is closed: one may be our caller's pipe.
func (r *run) collect() {
	if r.slot != nil || r.stage == nil { // else such a socket was closed with the stage
		collectDescriptors()
	}
	if !r.cfg.Subreaper || r.immortal || r.stage != nil && len(r.stage.Stuck()) > 0 {
		return
	}
	reapAll(collectPatience)
}

// reapAll waits for all children that are zombies, one after the other without a pause: there may be tens of thousands.
// patience is how long to wait for children that are not, which the end of the others may have to come before.
func reapAll(patience time.Duration) {
	for end := time.Now().Add(patience); ; {
		pid, err := ignoringEINTR(func() (int, error) { return unix.Wait4(-1, nil, unix.WNOHANG|unix.WALL, nil) })
		switch {
		case err != nil, pid == 0 && !time.Now().Before(end):
			return // there is none; or another's doing keeps it
		case pid == 0:
			time.Sleep(time.Millisecond)
		}
	}
}

const collectPatience = 200 * time.Millisecond

func collectDescriptors() {
	if socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err == nil {
		_ = unix.Close(socket)
	}
}

// killLeftover kills the processes that outlived the program, and counts them, unless a limit ended the
// run: then they did not outlive it by their own doing, and may be dying of memory.oom.group already.
func (r *run) killLeftover() {
	populated, err := r.populated()
	if err != nil {
		r.noteError("kill", err)
		return
	}
	var left uint64
	if populated && !r.immortal {
		if r.killedFor == "" && r.program.PID != 0 && !r.oomEndedAll() {
			pids, err := r.pids()
			if err != nil {
				r.noteError("kill", err)
			}
			left = uint64(len(pids))
		}
		r.killGroup()
	}
	if r.program.PID != 0 && (r.group != nil || r.fallback.subreaper) {
		r.result.LeftoverKilled = &left
	}
}

func (r *run) populated() (bool, error) {
	if r.group == nil {
		return len(r.strays()) > 0, nil
	}
	return r.group.Populated()
}

func (r *run) pids() (pids []int, err error) {
	if r.group != nil {
		return r.group.Procs()
	}
	for _, p := range r.strays() {
		pids = append(pids, p.pid)
	}
	return pids, nil
}

func (r *run) reap(status *unix.WaitStatus, usage *unix.Rusage) bool {
	_, err := ignoringEINTR(func() (int, error) { return unix.Wait4(r.program.PID, status, 0, usage) })
	if err != nil {
		r.noteError("wait", err)
	}
	return err == nil
}

// finishOutput delivers what is left of the output. It says whether there was more than the limit, and whether some of what
// was within it could not be delivered.
func (r *run) finishOutput() (tooMuch, lost bool) {
	if r.output == nil {
		return false, false
	}
	err := r.output.finish()
	if err != nil {
		r.noteError("output", err)
	}
	delivered := uint64(r.output.passed.Load())
	r.result.OutputBytes = &delivered
	return r.output.tooMuch(), err != nil
}

// readStats is the only reading of the final figures: everybody is dead, and the directories are there.
func (r *run) readStats(reaped bool, usage *unix.Rusage) {
	var s cgroup.Stats
	if r.group != nil {
		var err error
		if s, err = r.group.Stats(cgroup.Totals); err != nil {
			r.noteError("stats", err)
		}
	}
	r.samples.complete(&s, r.cfg.Limits.Memory)
	if reaped {
		r.addUsage(&s, usage)
	}
	r.samples.final = s
	res := r.result
	res.PeakMemoryBytes = r.number("peak_memory_bytes", s.MemoryPeak)
	res.PeakSwapBytes = r.number("peak_swap_bytes", s.SwapPeak)
	res.MemoryAnonBytes = r.number("memory_anon_bytes", s.MemoryAnon)
	res.MemoryFileBytes = r.number("memory_file_bytes", s.MemoryFile)
	res.MemoryKernelBytes = r.number("memory_kernel_bytes", s.MemoryKernel)
	res.OOMKills = r.number("oom_kills", s.OOMKills)
	if s.OOMKills.Known() && s.OOMKills.Value == 0 && r.ownOOM(&s) {
		res.OOMKills = nil // v1 has counted it in a group that is gone
		delete(res.Sources, "oom_kills")
	}
	res.PIDsPeak = r.number("pids_peak", s.PIDsPeak)
	res.PIDsDenied = r.number("pids_denied", s.PIDsDenied)
	res.CPUSeconds = r.seconds("cpu_seconds", s.CPUUsage)
	res.CPUUserSeconds = r.seconds("cpu_user_seconds", s.CPUUser)
	res.CPUSystemSeconds = r.seconds("cpu_system_seconds", s.CPUSystem)
	res.CPUThrottledSeconds = r.seconds("cpu_throttled_seconds", s.CPUThrottled)
	res.IOReadBytes = r.number("io_read_bytes", s.IORead)
	res.IOWriteBytes = r.number("io_write_bytes", s.IOWrite)
	res.CPUSomePressure = r.seconds("pressure_cpu_some_seconds", s.CPUSome)
	res.CPUFullPressure = r.seconds("pressure_cpu_full_seconds", s.CPUFull)
	res.MemorySomePressure = r.seconds("pressure_memory_some_seconds", s.MemorySome)
	res.MemoryFullPressure = r.seconds("pressure_memory_full_seconds", s.MemoryFull)
	res.IOSomePressure = r.seconds("pressure_io_some_seconds", s.IOSome)
	res.IOFullPressure = r.seconds("pressure_io_full_seconds", s.IOFull)
}

// addUsage adds what only wait4(2) tells: of the program and of those of its descendants that were waited
// for, and nothing if there were others. Where the group tells more, that stays.
func (r *run) addUsage(s *cgroup.Stats, usage *unix.Rusage) {
	r.fallback.orphans.addTo(usage)
	all := r.waitedForAll(s, usage)
	figure := func(value int64) cgroup.Figure {
		if !all {
			return cgroup.Figure{}
		}
		return cgroup.Figure{Value: uint64(value), Source: fromWait}
	}
	r.result.VoluntarySwitches = r.number("voluntary_context_switches", figure(usage.Nvcsw))
	r.result.InvoluntarySwitches = r.number("involuntary_context_switches", figure(usage.Nivcsw))
	// v1 does not count what goes through the page cache, nor, since Linux 6.10, disks that nobody throttles.
	const block = 512
	s.IORead = larger(s.IORead, figure(usage.Inblock*block), r.host)
	s.IOWrite = larger(s.IOWrite, figure(usage.Oublock*block), r.host)
	if !r.cfg.BestEffort {
		return
	}
	all = true // these are as much as can be had
	if !s.CPUUsage.Known() {
		s.CPUUser, s.CPUSystem = figure(usage.Utime.Nano()), figure(usage.Stime.Nano())
		s.CPUUsage = figure(usage.Utime.Nano() + usage.Stime.Nano())
	}
	if !s.MemoryPeak.Known() {
		s.MemoryPeak = figure(usage.Maxrss << 10)
		r.warn("peak_memory_bytes is that of the largest process: not the sum, and not the page cache")
	}
}

// waitedForAll says whether each process of the run was waited for by its parent, and the program by us: what wait4(2)
// tells is then that of all. Orphans are not, nor the children of who ignores SIGCHLD, nor those that were killed together
// with their parents. The kernel says so by the CPU time, of which wait4 tells as much as the group, to the microsecond, but for the last
// moments of threads: 10 to 20 µs each. The least that a process takes is several times that.
func (r *run) waitedForAll(s *cgroup.Stats, usage *unix.Rusage) bool {
	if r.group == nil {
		return true // as far as is known: see fallback.orphans
	}
	if left := r.result.LeftoverKilled; left != nil && *left > 0 {
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

func (r *run) number(key string, f cgroup.Figure) *uint64 {
	if f.Known() {
		r.result.Sources[key] = f.Source
	}
	return value(f)
}

func (r *run) seconds(key string, f cgroup.Figure) *Seconds {
	if f.Known() {
		r.result.Sources[key] = f.Source
	}
	return valueSeconds(f)
}

// hits names the limits that were reached, as far as the counters tell.
func (r *run) hits(s *cgroup.Stats) []string {
	l := &r.cfg.Limits
	var names []string
	for _, hit := range []struct {
		name string
		yes  bool
	}{
		{"memory", r.ownOOM(s) || l.Memory != 0 && s.MemoryHits.Value > 0},
		{"swap", l.Swap > 0 && s.SwapHits.Value > 0},
		{"pids", l.PIDs != 0 && s.PIDsDenied.Value > 0},
		{"cpus", l.CPUs != 0 && s.CPUThrottled.Value > 0},
	} {
		if hit.yes {
			names = append(names, hit.name)
		}
	}
	return names
}

// noteHits lists the limits that were reached, whether or not that ended the run.
func (r *run) noteHits(end *ending) {
	r.warnForeignOOM(&r.samples.final)
	for _, name := range append(r.hits(&r.samples.final), end.hits()...) {
		if !slices.Contains(r.result.LimitsHit, name) {
			r.result.LimitsHit = append(r.result.LimitsHit, name)
			r.tell(name, name == limitOf[end.limit()] || name == end.ulimit)
		}
	}
}

// remove removes the group. Busy it is when somebody has moved out of the directory in which processes are
// looked up, but not out of all.
func (r *run) remove() {
	if r.slot != nil && r.slot.pending && r.place.Parent == r.slot.pool.place.Parent {
		r.group.Tune(cgroup.Tuning{KeepParents: true}) // the spare one is in the same parent
	}
	err := r.group.Remove()
	if errors.Is(err, unix.EBUSY) && !r.immortal {
		r.killGroup()
		r.result.LeftoverKilled = nil // how many those were
		err = r.group.Remove()
	}
	if err != nil {
		r.noteError("remove", err)
	}
}

// classify puts into the result how the program ended, and the verdict.
func (r *run) classify(ran bool, end *ending) {
	res := r.result
	res.Verdict = Failed
	if !ran {
		return
	}
	res.Verdict = end.verdict()
	res.WallSeconds = seconds(r.wall())
	dumped := end.status.CoreDump()
	res.CoreDumped = &dumped
	if end.status.Signaled() {
		number, name := int(end.status.Signal()), unix.SignalName(end.status.Signal())
		res.Signal, res.SignalName = &number, optional(name)
	} else {
		code := end.status.ExitStatus()
		res.ExitCode = &code
	}
}
