package shim

import (
	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/shim/internal/rungroup"
)

// final is the final figures.
type final = rungroup.Final

// figures puts a run's final figures into the result.
func (r *report) figures(s *final) {
	res := r.result
	res.PeakMemoryBytes = r.number("peak_memory_bytes", s.MemoryPeak)
	res.PeakSwapBytes = r.number("peak_swap_bytes", s.SwapPeak)
	res.MemoryAnonBytes = r.number("memory_anon_bytes", s.MemoryAnon)
	res.MemoryFileBytes = r.number("memory_file_bytes", s.MemoryFile)
	res.MemoryKernelBytes = r.number("memory_kernel_bytes", s.MemoryKernel)
	res.OOMKills = r.number("oom_kills", s.OOMKills)
	res.PIDsPeak = r.number("pids_peak", s.PIDsPeak)
	res.PIDsDenied = r.number("pids_denied", s.PIDsDenied)
	res.CPUSeconds = r.seconds("cpu_seconds", s.CPUUsage)
	res.CPUUserSeconds = r.seconds("cpu_user_seconds", s.CPUUser)
	res.CPUSystemSeconds = r.seconds("cpu_system_seconds", s.CPUSystem)
	res.CPUThrottledSeconds = r.seconds("cpu_throttled_seconds", s.CPUThrottled)
	res.IOReadBytes = r.number("io_read_bytes", s.IORead)
	res.IOWriteBytes = r.number("io_write_bytes", s.IOWrite)
	res.VoluntarySwitches = r.number("voluntary_context_switches", s.VoluntarySwitches)
	res.InvoluntarySwitches = r.number("involuntary_context_switches", s.InvoluntarySwitches)
	res.CPUSomePressure = r.seconds("pressure_cpu_some_seconds", s.CPUSome)
	res.CPUFullPressure = r.seconds("pressure_cpu_full_seconds", s.CPUFull)
	res.MemorySomePressure = r.seconds("pressure_memory_some_seconds", s.MemorySome)
	res.MemoryFullPressure = r.seconds("pressure_memory_full_seconds", s.MemoryFull)
	res.IOSomePressure = r.seconds("pressure_io_some_seconds", s.IOSome)
	res.IOFullPressure = r.seconds("pressure_io_full_seconds", s.IOFull)
	if s.LargestOnly {
		r.warn("peak_memory_bytes is that of the largest process: not the sum, and not the page cache")
	}
}

func (r *report) number(key string, f cgroup.Figure) *uint64 {
	if f.Known() {
		r.result.Sources[key] = f.Source
	}
	return value(f)
}

func (r *report) seconds(key string, f cgroup.Figure) *Seconds {
	if f.Known() {
		r.result.Sources[key] = f.Source
	}
	return valueSeconds(f)
}
