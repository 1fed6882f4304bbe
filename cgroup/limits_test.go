package cgroup

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/opencontainers/cgroups"
)

func TestValidate(t *testing.T) {
	for _, test := range []struct {
		name   string
		limits Limits
		ok     bool
	}{
		{"zero", Limits{}, true},
		{"all", Limits{Memory: 1 << 20, Swap: 1, MemoryHigh: 1, OOMGroup: true, PIDs: 1, CPUs: 2, CPUWeight: 1, CPUSetCPUs: "0", CPUSetMems: "0"}, true},
		{"unlimited", Limits{Memory: Unlimited, Swap: Unlimited, MemoryHigh: Unlimited, PIDs: Unlimited, CPUs: Unlimited}, true},
		{"memory negative", Limits{Memory: -2}, false},
		{"memory most", Limits{Memory: math.MaxInt64}, true},
		{"swap negative", Limits{Memory: 1, Swap: -2}, false},
		{"swap without memory", Limits{Swap: 1}, false},
		{"swap unlimited without memory", Limits{Swap: Unlimited}, false},
		{"swap on unlimited memory", Limits{Memory: Unlimited, Swap: 1}, true},
		{"swap most", Limits{Memory: 1, Swap: math.MaxInt64 - 1}, true},
		{"swap overflow", Limits{Memory: 1, Swap: math.MaxInt64}, false}, // v1 writes the sum
		{"high least", Limits{MemoryHigh: 1}, true},
		{"high most", Limits{MemoryHigh: math.MaxInt64}, true},
		{"high negative", Limits{MemoryHigh: -2}, false},
		{"high above memory", Limits{Memory: 1 << 20, MemoryHigh: 2 << 20}, true}, // never reached
		{"pids negative", Limits{PIDs: -2}, false},
		{"pids most", Limits{PIDs: 4194304}, true},
		{"pids too many", Limits{PIDs: 4194305}, false},
		{"cpus least", Limits{CPUs: 0.01}, true},
		{"cpus too little", Limits{CPUs: 0.0099}, false},
		{"cpus negative", Limits{CPUs: -0.5}, false},
		{"cpus below unlimited", Limits{CPUs: -1.5}, false},
		{"cpus most", Limits{CPUs: 1 << 20}, true},
		{"cpus too many", Limits{CPUs: 1<<20 + 1}, false},
		{"cpus NaN", Limits{CPUs: math.NaN()}, false},
		{"cpus infinite", Limits{CPUs: math.Inf(1)}, false},
		{"cpus minus infinite", Limits{CPUs: math.Inf(-1)}, false},
		{"weight least", Limits{CPUWeight: 1}, true},
		{"weight most", Limits{CPUWeight: 10000}, true},
		{"weight too much", Limits{CPUWeight: 10001}, false},
		{"shares too few", Limits{CPUShares: 1}, false},
		{"shares least", Limits{CPUShares: 2}, true},
		{"shares most", Limits{CPUShares: 262144}, true},
		{"shares too many", Limits{CPUShares: 262145}, false},
		{"weight and shares", Limits{CPUWeight: 100, CPUShares: 1024}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := test.limits.Validate()
			if test.ok && err != nil {
				t.Error(err)
			}
			if !test.ok && !errors.Is(err, ErrInvalid) {
				t.Errorf("Validate() = %v, want ErrInvalid", err)
			}
		})
	}
}

// Set must refuse before it writes: a hierarchy that is nil would panic.
func TestSetValidates(t *testing.T) {
	if err := (&Group{}).Set(Limits{Memory: -5}); !errors.Is(err, ErrInvalid) {
		t.Errorf("Set = %v, want ErrInvalid", err)
	}
}

func TestLimitsControllers(t *testing.T) {
	for _, test := range []struct {
		limits Limits
		want   []Controller
	}{
		{Limits{}, nil},
		{Limits{Memory: Unlimited}, []Controller{Memory}},
		{Limits{MemoryHigh: 1}, []Controller{Memory}},
		{Limits{OOMGroup: true}, []Controller{Memory}},
		{Limits{PIDs: 1}, []Controller{PIDs}},
		{Limits{CPUs: 0.5}, []Controller{CPU}},
		{Limits{CPUWeight: 1}, []Controller{CPU}},
		{Limits{CPUShares: 2}, []Controller{CPU}},
		{Limits{CPUSetCPUs: "0"}, []Controller{CPUSet}},
		{Limits{CPUSetMems: "0"}, []Controller{CPUSet}},
		{Limits{IO: []IOLimit{{Major: 8}}}, []Controller{IO}},
		{Limits{IO: []IOLimit{}}, nil},
		{
			Limits{Memory: 1, PIDs: 1, CPUs: 1, CPUSetCPUs: "0", IO: []IOLimit{{}}},
			[]Controller{Memory, PIDs, CPU, CPUSet, IO},
		},
	} {
		if got := test.limits.Controllers(); !slices.Equal(got, test.want) {
			t.Errorf("%+v needs %v, want %v", test.limits, got, test.want)
		}
	}
}

func TestSharesToWeight(t *testing.T) {
	for shares, want := range map[uint64]uint64{0: 0, 2: 1, 1024: 100, 262144: 10000} {
		if got := (&Limits{CPUShares: shares}).weight(); got != want {
			t.Errorf("weight of %d shares = %d, want %d", shares, got, want)
		}
	}
	// As runc converts them, so that a container's share is the same here and there.
	for shares := uint64(2); shares <= 262144; shares += 61 {
		if got, want := (&Limits{CPUShares: shares}).weight(), cgroups.ConvertCPUSharesToCgroupV2Value(shares); got != want {
			t.Fatalf("weight of %d shares = %d, want %d", shares, got, want)
		}
	}
	if l := (Limits{CPUWeight: 77}); l.weight() != 77 {
		t.Errorf("weight 77 became %d", l.weight())
	}
}

func TestWeightToShares(t *testing.T) {
	for weight, want := range map[uint64]uint64{0: 0, 1: 2, 100: 1024, 10000: 262144} {
		if got := (&Limits{CPUWeight: weight}).shares(); got != want {
			t.Errorf("shares of weight %d = %d, want %d", weight, got, want)
		}
	}
	if l := (Limits{CPUShares: 77}); l.shares() != 77 {
		t.Errorf("77 shares became %d", l.shares())
	}
	last := uint64(0)
	for weight := uint64(1); weight <= 10000; weight++ {
		shares := (&Limits{CPUWeight: weight}).shares()
		if shares <= last || shares < 2 || shares > 262144 {
			t.Fatalf("shares of weight %d = %d, of the weight before %d", weight, shares, last)
		}
		last = shares
		// Both ways round, and the other one rounds up: one off at the most.
		if back := cgroups.ConvertCPUSharesToCgroupV2Value(shares); back < weight-1 || back > weight+1 {
			t.Fatalf("weight %d is %d shares, which is weight %d", weight, shares, back)
		}
	}
}

func TestQuota(t *testing.T) {
	for cpus, want := range map[float64]int64{
		0: 0, 0.01: 1000, 0.5: 50000, 1: 100000, 2.5: 250000, Unlimited: -1,
		0.29:    29000, // 0.29*100000 is 28999.999…: rounded, not cut
		MaxCPUs: MaxCPUs * cpuPeriodMicros,
	} {
		if got := (&Limits{CPUs: cpus}).quota(); got != want {
			t.Errorf("quota of %v CPUs = %d µs, want %d", cpus, got, want)
		}
	}
}
