package cgroup

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestScaleCPU(t *testing.T) {
	split := func(usage, user, system uint64) (uint64, uint64) {
		s := Stats{CPUUsage: Figure{usage, "u"}, CPUUser: Figure{user, "u"}, CPUSystem: Figure{system, "u"}}
		scaleCPU(&s)
		return s.CPUUser.Value, s.CPUSystem.Value
	}
	for _, test := range []struct{ usage, user, system, wantUser, wantSystem uint64 }{
		{0, 0, 0, 0, 0},
		{700, 0, 0, 700, 0}, // less than a tick: the kernel calls it user time, too
		{700, 4e6, 0, 700, 0},
		{700, 0, 4e6, 0, 700},
		{0, 4e6, 4e6, 0, 0},
		{1000, 4e6, 12e6, 250, 750},
		{1000, 1, 1, 500, 500},
	} {
		if user, system := split(test.usage, test.user, test.system); user != test.wantUser || system != test.wantSystem {
			t.Errorf("%+v: got %d and %d", test, user, system)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		// Of every magnitude up to 2^62 ns, which is a year on 146 CPUs.
		usage, user, system := random.Uint64()>>(2+random.IntN(62)), random.Uint64()>>(2+random.IntN(62)), random.Uint64()>>(2+random.IntN(62))
		gotUser, gotSystem := split(usage, user, system)
		if gotUser+gotSystem != usage || gotUser > usage {
			t.Fatalf("%d ns split %d to %d: got %d and %d", usage, user, system, gotUser, gotSystem)
		}
	}
	if user, system := split(math.MaxUint64, 1, math.MaxUint64); user+system != math.MaxUint64 {
		t.Errorf("got %d and %d", user, system)
	}
}

// 2^53+3 has no float64, and the nearest is above it: the user time became -1, which is 584 years.
// A group reaches it after 104 days of CPU time, 64 CPUs in less than two.
func TestScaleCPUAboveFloat(t *testing.T) {
	s := Stats{CPUUsage: Figure{1<<53 + 3, "u"}, CPUUser: Figure{0, "u"}, CPUSystem: Figure{4e6, "u"}}
	scaleCPU(&s)
	if s.CPUUser.Value > s.CPUUsage.Value || s.CPUUser.Value+s.CPUSystem.Value != s.CPUUsage.Value {
		t.Errorf("%d ns became %d user and %d system", s.CPUUsage.Value, s.CPUUser.Value, s.CPUSystem.Value)
	}
}

func TestScaleCPUUnknown(t *testing.T) {
	known := Figure{5, "u"}
	for _, s := range []Stats{
		{CPUUser: known, CPUSystem: known}, {CPUUsage: known, CPUSystem: known}, {CPUUsage: known, CPUUser: known},
	} {
		got := s
		if scaleCPU(&got); got != s {
			t.Errorf("%+v became %+v", s, got)
		}
	}
}
