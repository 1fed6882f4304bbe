package shim

import (
	"time"

	"golang.org/x/sys/unix"
)

// ulimitReached names the resource limit that has ended the program, which is a zombie; "" if none has. One that was asked for is a
// limit of the run, one that it has from cgshim's caller is worth a warning, and one that it has set itself is its own.
func (res *resources) ulimitReached(pid int, diedOf unix.Signal) string {
	resource := unix.RLIMIT_CPU
	switch diedOf {
	case unix.SIGXFSZ:
		resource = unix.RLIMIT_FSIZE
	case unix.SIGXCPU, unix.SIGKILL:
	default:
		return ""
	}
	var given unix.Rlimit
	asked := false
	for _, l := range res.cfg.Rlimits { // the last one counts
		if l.Resource == resource {
			given, asked = unix.Rlimit{Cur: l.Soft, Max: l.Hard}, true
		}
	}
	if !asked && unix.Getrlimit(resource, &given) != nil {
		return ""
	}
	last := given // as they were at the program's end; of another user's not to be had without CAP_SYS_RESOURCE
	_ = unix.Prlimit(pid, resource, nil, &last)
	switch {
	case !endedByRlimit(diedOf, given, last, profClock(pid)):
	case asked:
		return ulimitNames[resource]
	default:
		res.report.warn("%s: the program went over the resource limit %s that it has from the caller of cgshim (see ulimit), not from this run",
			unix.SignalName(diedOf), rlimitName(resource))
	}
	return ""
}

// profClock is the CPU time of a process, that of its threads and of no other, as the kernel holds it against RLIMIT_CPU:
// by ticks. What wait4(2) tells is measured more finely, with that of children, and may be less. A zombie has it, too.
func profClock(pid int) time.Duration {
	const prof = 0 // CPUCLOCK_PROF: see clock_getcpuclockid(3)
	var ts unix.Timespec
	if unix.ClockGettime(int32(^pid<<3|prof), &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// endedByRlimit says whether a signal that ended a program proves that it went over a resource limit that it was given. At
// the soft limit of CPU time the kernel sends SIGXCPU, after it has raised the soft limit by a second; at the hard one
// SIGKILL, see setrlimit(2). SIGXFSZ it sends for nothing else, and there is no figure of it.
func endedByRlimit(sig unix.Signal, given, last unix.Rlimit, used time.Duration) bool {
	reached := func(limit uint64) bool {
		return used > 0 && limit != unix.RLIM_INFINITY && uint64(used)/uint64(time.Second) >= limit
	}
	switch sig {
	case unix.SIGXFSZ:
		return given.Cur != unix.RLIM_INFINITY && last.Cur == given.Cur
	case unix.SIGXCPU:
		raised := last.Cur == given.Cur || last.Cur > given.Cur && reached(last.Cur-1)
		return raised && reached(given.Cur)
	case unix.SIGKILL:
		return last.Max == given.Max && reached(given.Max)
	}
	return false
}
