package monitor

import "time"

// A cpuBudget schedules the checks of the CPU time: never later than the rest could be used up, with all
// CPUs busy, unless that is very soon and the run has been idle since the last look.
type cpuBudget struct {
	cpus int
	last time.Duration // the rest at the last look
	idle time.Duration // the pause before this one, while nothing was used
}

const (
	// cpuCheckMin bounds how often the CPU time is read when the budget is nearly used up. The kernel
	// brings the figure of a running task up to date once per tick, 1 to 10 ms.
	cpuCheckMin = 500 * time.Microsecond
	// cpuCheckIdle bounds what a run that wakes up can use unseen.
	cpuCheckIdle = 10 * time.Millisecond
)

func (b *cpuBudget) wait(rest time.Duration) time.Duration {
	if rest != b.last {
		b.idle = 0
	} else {
		b.idle = min(max(2*b.idle, cpuCheckMin), cpuCheckIdle)
	}
	b.last = rest
	return max(rest/time.Duration(b.cpus), cpuCheckMin, b.idle)
}
