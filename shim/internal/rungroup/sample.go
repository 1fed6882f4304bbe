package rungroup

import (
	"time"

	"github.com/cgshim/cgshim/cgroup"
)

// What a figure is from when it is from no kernel file.
const (
	FromWait = "wait4"
	Sampled  = "sampled"
)

// PeakInterval is how often memory is read where the kernel does not keep the peak (v2 before Linux 5.19).
const PeakInterval = 10 * time.Millisecond

// samples are the largest readings of figures that the kernel tells only of the moment.
type samples struct {
	anon, file, kernel, memory, swap cgroup.Figure

	regular bool // not only before a kill
}

// LacksPeak reports whether the kernel tells the memory of the moment only.
func (g *Group) LacksPeak() bool {
	if g.Cgroup == nil {
		return false
	}
	s, err := g.Cgroup.Stats(cgroup.PartMemoryPeak)
	return err == nil && !s.MemoryPeak.Known() && g.ReadSample().MemoryCurrent.Known()
}

// SampleRegularly says that ReadSample will be called at regular intervals: Finish then takes samples for peaks that the kernel does not
// keep.
func (g *Group) SampleRegularly() { g.samples.regular = true }

// ReadSample reads the counters, and keeps the largest. A reading that fails is one that is missing: Finish reports what is wrong.
func (g *Group) ReadSample() cgroup.Stats {
	if g.Cgroup == nil {
		return cgroup.Stats{}
	}
	s, _ := g.Cgroup.Stats(cgroup.Sample)
	g.samples.add(&s)
	return s
}

// Usage is ReadSample, and without a cgroup the CPU time.
func (g *Group) Usage() cgroup.Stats {
	s := g.ReadSample()
	if g.Cgroup == nil {
		if used, err := g.CPUUsage(); err == nil {
			s.CPUUsage = cgroup.Figure{Value: uint64(used), Source: Sampled}
		}
	}
	return s
}

func (m *samples) add(s *cgroup.Stats) {
	for figure, now := range map[*cgroup.Figure]cgroup.Figure{
		&m.anon: s.MemoryAnon, &m.file: s.MemoryFile, &m.kernel: s.MemoryKernel,
		&m.memory: s.MemoryCurrent, &m.swap: s.SwapCurrent,
	} {
		if now.Known() && now.Value >= figure.Value {
			*figure = cgroup.Figure{Value: now.Value, Source: Sampled}
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
