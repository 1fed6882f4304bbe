package cgroup

import (
	"strconv"
	"testing"
	"time"
)

func TestStats(t *testing.T) {
	h := testHost(t)
	g := create(t, h, testPath(t))
	p := startIn(t, g, "work")
	p.goOn()
	burnt, err := strconv.ParseUint(p.read(), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	s, err := g.Stats()
	if err != nil {
		t.Fatal(err)
	}
	check := func(name string, f Figure, least, most uint64) {
		t.Helper()
		if !f.Known() || f.Value < least || f.Value > most {
			t.Errorf("%s = %+v, want %d to %d", name, f, least, most)
		}
	}
	const unknownMost = 1 << 62
	check("MemoryCurrent", s.MemoryCurrent, workBytes, 2*workBytes)
	check("CPUUsage", s.CPUUsage, burnt/2, unknownMost)
	check("CPUUser", s.CPUUser, 0, s.CPUUsage.Value)
	check("CPUSystem", s.CPUSystem, 0, s.CPUUsage.Value)
	check("CPUThrottled", s.CPUThrottled, 0, 0)
	check("OOMKills", s.OOMKills, 0, 0)
	if s.MemoryHits.Value != 0 || s.MemoryHits.Known() != (h.Version() == V2) { // a 0 of v1 tells nothing
		t.Errorf("MemoryHits = %+v", s.MemoryHits)
	}
	check("PIDsCurrent", s.PIDsCurrent, 1, 100)
	check("PIDsDenied", s.PIDsDenied, 0, 0)
	// The parts are whole microseconds on v2: each may have lost one.
	if sum := s.CPUUser.Value + s.CPUSystem.Value; sum > s.CPUUsage.Value || s.CPUUsage.Value-sum > uint64(2*time.Microsecond) {
		t.Errorf("user %d and system %d are not %d", s.CPUUser.Value, s.CPUSystem.Value, s.CPUUsage.Value)
	}
	checkPeaks(t, h, g, s)
	p.finish()
	after, err := g.Stats()
	if err != nil {
		t.Fatal(err)
	}
	check("PIDsCurrent", after.PIDsCurrent, 0, 0)
	check("CPUUsage", after.CPUUsage, s.CPUUsage.Value, unknownMost)
	checkPeaks(t, h, g, after)
	if s, err := g.Stats(PartCPUUsage); err != nil || s.CPUUsage != after.CPUUsage {
		t.Errorf("CPU usage is %+v, %v, want %+v", s.CPUUsage, err, after.CPUUsage)
	}
}

// checkPeaks checks the figures that came late to the kernel: known where it has the file, unknown elsewhere.
func checkPeaks(t *testing.T, h *Host, g *Group, s Stats) {
	t.Helper()
	peak := "memory.peak"
	if h.Version() == V1 {
		peak = "memory.max_usage_in_bytes"
	}
	for _, test := range []struct {
		figure Figure
		c      Controller
		file   string
		least  uint64
	}{
		{s.MemoryPeak, Memory, peak, workBytes},
		{s.PIDsPeak, PIDs, "pids.peak", 1},
	} {
		want := ""
		if exists(dirOf(h, g, test.c) + "/" + test.file) {
			want = test.file
		}
		if test.figure.Source != want || want != "" && test.figure.Value < test.least {
			t.Errorf("%s: got %+v, want at least %d", test.file, test.figure, test.least)
		}
	}
	if exists(dirOf(h, g, Memory)+"/memory.swap.peak") != (s.SwapPeak.Source == "memory.swap.peak") ||
		s.SwapPeak.Known() && !hostHasSwap() && s.SwapPeak.Value != 0 {
		t.Errorf("swap peak: %+v", s.SwapPeak)
	}
}

// A group that CPU time is limited for also tells how much was used, on either version.
func TestCPUUsageWithCPU(t *testing.T) {
	h := testHost(t)
	for _, frugal := range []bool{false, true} {
		g := createWith(t, h, testPath(t), Options{Controllers: []Controller{CPU}, Frugal: frugal})
		if s, err := g.Stats(PartCPU); err != nil || !s.CPUUsage.Known() || !s.CPUThrottled.Known() {
			t.Errorf("frugal %v: %+v, %v", frugal, s, err)
		}
	}
}
