package shim

import (
	"time"

	"github.com/cgshim/cgshim/cgroup"
)

// What a figure is from when it is from no kernel file.
const (
	fromWait = "wait4"
	sampled  = "sampled"
)

// peakInterval is how often memory is read where the kernel does not keep the peak (v2 before Linux 5.19).
const peakInterval = 10 * time.Millisecond

// samples are the largest readings of figures that the kernel tells only of the moment.
type samples struct {
	anon, file, kernel, memory, swap cgroup.Figure

	regular bool // not only before a kill
	final   cgroup.Stats
}

// lacksPeak says whether the kernel tells the memory of the moment only.
func (r *run) lacksPeak() bool {
	if r.group == nil {
		return false
	}
	if s, err := r.group.Stats(cgroup.PartMemoryPeak); err != nil || s.MemoryPeak.Known() || !r.readSample().MemoryCurrent.Known() {
		return false
	}
	r.warn("peak_memory_bytes is sampled every %v: this kernel does not keep the peak", peakInterval)
	return true
}

// readSample reads the counters, and keeps the largest. A reading that fails is one that is missing: the
// final one reports what is wrong.
func (r *run) readSample() cgroup.Stats {
	if r.group == nil {
		return cgroup.Stats{}
	}
	s, _ := r.group.Stats(cgroup.Sample)
	r.samples.add(&s)
	return s
}

func (m *samples) add(s *cgroup.Stats) {
	for figure, now := range map[*cgroup.Figure]cgroup.Figure{
		&m.anon: s.MemoryAnon, &m.file: s.MemoryFile, &m.kernel: s.MemoryKernel,
		&m.memory: s.MemoryCurrent, &m.swap: s.SwapCurrent,
	} {
		if now.Known() && now.Value >= figure.Value {
			*figure = cgroup.Figure{Value: now.Value, Source: sampled}
		}
	}
}

// complete puts the samples into the final figures where they are larger, or where the kernel tells
// nothing. A limit that was reached is the peak, whatever the samples have seen of it. Memory by kind is of the moment: when
// nobody is alive any more, it says nothing of what there was, unless somebody has looked before.
func (m *samples) complete(s *cgroup.Stats, limit int64) {
	for figure, most := range map[*cgroup.Figure]cgroup.Figure{
		&s.MemoryAnon: m.anon, &s.MemoryFile: m.file, &s.MemoryKernel: m.kernel,
	} {
		if !most.Known() || most.Value > figure.Value {
			*figure = most
		}
	}
	if !m.regular {
		return
	}
	if !s.MemoryPeak.Known() && m.memory.Known() {
		s.MemoryPeak = m.memory
		if limit > 0 && s.MemoryHits.Value > 0 {
			s.MemoryPeak.Value = uint64(limit)
		}
	}
	if !s.SwapPeak.Known() {
		s.SwapPeak = m.swap
	}
}

// sample reads the counters for Config.Sample, and tells what is new.
func (r *run) sample() {
	s := r.readSample()
	if r.group == nil {
		if used, err := r.cpuUsage(); err == nil {
			s.CPUUsage = cgroup.Figure{Value: uint64(used), Source: sampled}
		}
	}
	if r.cfg.OnEvent == nil {
		return
	}
	r.emit(&Sample{Type: "sample", WallSeconds: r.sinceStart(), Usage: usage(&s)})
	for _, name := range r.hits(&s) {
		if name != "memory" { // that it ends the run, if it does, is found by those who watch for it
			r.tell(name, false)
		}
	}
}

func usage(s *cgroup.Stats) Usage {
	return Usage{
		MemoryBytes:         value(s.MemoryCurrent),
		PeakMemoryBytes:     value(s.MemoryPeak),
		MemoryAnonBytes:     value(s.MemoryAnon),
		MemoryFileBytes:     value(s.MemoryFile),
		MemoryKernelBytes:   value(s.MemoryKernel),
		SwapBytes:           value(s.SwapCurrent),
		CPUSeconds:          valueSeconds(s.CPUUsage),
		CPUUserSeconds:      valueSeconds(s.CPUUser),
		CPUSystemSeconds:    valueSeconds(s.CPUSystem),
		CPUThrottledSeconds: valueSeconds(s.CPUThrottled),
		PIDs:                value(s.PIDsCurrent),
		PIDsPeak:            value(s.PIDsPeak),
		PIDsDenied:          value(s.PIDsDenied),
		OOMKills:            value(s.OOMKills),
		IOReadBytes:         value(s.IORead),
		IOWriteBytes:        value(s.IOWrite),
	}
}

func value(f cgroup.Figure) *uint64 {
	if !f.Known() {
		return nil
	}
	return &f.Value
}

func valueSeconds(f cgroup.Figure) *Seconds {
	if !f.Known() {
		return nil
	}
	return seconds(time.Duration(f.Value))
}
