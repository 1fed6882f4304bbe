package cgroup

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What the kernel says after Set. The files of both versions: the machine has those of one.
func TestSet(t *testing.T) {
	h := testHost(t)
	for _, test := range []struct {
		name   string
		limits Limits
		v1, v2 map[string]string
	}{
		{
			"pids",
			Limits{PIDs: 7},
			map[string]string{"pids.max": "7"},
			map[string]string{"pids.max": "7"},
		},
		{
			"pids most",
			Limits{PIDs: MaxPIDs},
			map[string]string{"pids.max": "4194304"},
			map[string]string{"pids.max": "4194304"},
		},
		{
			"cpus",
			Limits{CPUs: 0.5},
			map[string]string{"cpu.cfs_quota_us": "50000", "cpu.cfs_period_us": "100000"},
			map[string]string{"cpu.max": "50000 100000"},
		},
		{
			"cpus least",
			Limits{CPUs: MinCPUs},
			map[string]string{"cpu.cfs_quota_us": "1000"},
			map[string]string{"cpu.max": "1000 100000"},
		},
		{
			"cpus most",
			Limits{CPUs: MaxCPUs},
			map[string]string{"cpu.cfs_quota_us": "104857600000"},
			map[string]string{"cpu.max": "104857600000 100000"},
		},
		{
			"weight",
			Limits{CPUWeight: 1},
			map[string]string{"cpu.shares": "2"},
			map[string]string{"cpu.weight": "1"},
		},
		{
			"weight most",
			Limits{CPUWeight: 10000},
			map[string]string{"cpu.shares": "262144"},
			map[string]string{"cpu.weight": "10000"},
		},
		{
			"shares",
			Limits{CPUShares: 2048},
			map[string]string{"cpu.shares": "2048"},
			map[string]string{"cpu.weight": strconv.FormatUint((&Limits{CPUShares: 2048}).weight(), 10)},
		},
		{
			"cpuset",
			Limits{CPUSetCPUs: "0", CPUSetMems: "0"},
			map[string]string{"cpuset.cpus": "0", "cpuset.mems": "0"},
			map[string]string{"cpuset.cpus": "0", "cpuset.mems": "0"},
		},
		{
			"several",
			Limits{Memory: 64 << 20, PIDs: 3, CPUs: 1},
			map[string]string{"memory.limit_in_bytes": "67108864", "pids.max": "3", "cpu.cfs_quota_us": "100000"},
			map[string]string{"memory.max": "67108864", "pids.max": "3", "cpu.max": "100000 100000"},
		},
		// v1 has no such file: it does nothing there, and is no error.
		{"oom group", Limits{OOMGroup: true}, nil, map[string]string{"memory.oom.group": "1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := create(t, h, testPath(t))
			set(t, g, test.limits)
			checkFiles(t, h, g, test.v1, test.v2)
			set(t, g, Limits{}) // leaves everything as it is
			checkFiles(t, h, g, test.v1, test.v2)
		})
	}
}

func checkFiles(t *testing.T, h *Host, g *Group, v1, v2 map[string]string) {
	t.Helper()
	want := v1
	if h.Version() == V2 {
		want = v2
	}
	for file, content := range want {
		if got := kernelFile(t, h, g, file); got != content {
			t.Errorf("%s = %q, want %q", file, got, content)
		}
	}
}

func TestSetUnlimited(t *testing.T) {
	h := testHost(t)
	g := create(t, h, testPath(t))
	set(t, g, Limits{PIDs: 7, CPUs: 0.5})
	set(t, g, Limits{PIDs: Unlimited, CPUs: Unlimited})
	checkFiles(t, h, g,
		map[string]string{"pids.max": "max", "cpu.cfs_quota_us": "-1"},
		map[string]string{"pids.max": "max", "cpu.max": "max 100000"})
}

// What the kernel says of a limit that only v2 has; v1 refuses it, and leaves the other limits as they are.
func TestSetMemoryHighKernel(t *testing.T) {
	h := testHost(t)
	g := create(t, h, testPath(t), Memory, PIDs)
	err := g.Set(Limits{Memory: 64 << 20, MemoryHigh: 48 << 20, PIDs: 7})
	if h.Version() == V1 {
		if !errors.Is(err, ErrV2Only) {
			t.Errorf("Set = %v, want ErrV2Only", err)
		}
		if got := memoryLimit(t, h, g, "memory.limit_in_bytes"); got != Unlimited {
			t.Errorf("memory.limit_in_bytes = %d", got)
		}
		checkFiles(t, h, g, map[string]string{"pids.max": "max"}, nil)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	checkFiles(t, h, g, nil, map[string]string{"memory.max": "67108864", "memory.high": "50331648", "pids.max": "7"})
	set(t, g, Limits{}) // leaves it
	checkFiles(t, h, g, nil, map[string]string{"memory.high": "50331648"})
	set(t, g, Limits{MemoryHigh: 128 << 20}) // above memory.max: never reached
	checkFiles(t, h, g, nil, map[string]string{"memory.max": "67108864", "memory.high": "134217728"})
	set(t, g, Limits{MemoryHigh: Unlimited})
	checkFiles(t, h, g, nil, map[string]string{"memory.max": "67108864", "memory.high": "max"})
}

// The kernel's refusal comes through, with what was refused.
func TestSetRefused(t *testing.T) {
	h := testHost(t)
	g := create(t, h, testPath(t))
	err := g.Set(Limits{CPUSetCPUs: "8000"})
	var typed *Error
	if !errors.As(err, &typed) || typed.Value != "8000" || !strings.HasSuffix(typed.Path, "/cpuset.cpus") {
		t.Errorf("Set = %v, want the value and the file", err)
	}
}

// The kernel refuses RAM above RAM+swap, so that on v1 the order of two writes depends on where from and
// where to: every pair of these, in both directions.
func TestSetMemory(t *testing.T) {
	h := testHost(t)
	g := create(t, h, testPath(t))
	steps := []Limits{
		{Memory: 64 << 20},
		{Memory: 128 << 20},
		{Memory: 64 << 20, Swap: 64 << 20},
		{Memory: 32 << 20, Swap: Unlimited},
		{Memory: 256 << 20, Swap: 4096},
		{Memory: Unlimited},
		{Memory: Unlimited, Swap: Unlimited},
	}
	for _, from := range steps {
		for _, to := range steps {
			set(t, g, from)
			if err := g.Set(to); err != nil {
				t.Errorf("from %d+%d to %d+%d: %v", from.Memory, from.Swap, to.Memory, to.Swap, err)
				continue
			}
			checkMemory(t, h, g, to)
		}
	}
}

func checkMemory(t *testing.T, h *Host, g *Group, l Limits) {
	t.Helper()
	ram, swap, swapLimit := "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", l.Memory+l.Swap
	if h.Version() == V2 {
		ram, swap, swapLimit = "memory.max", "memory.swap.max", l.Swap
	}
	if l.Memory == Unlimited || l.Swap == Unlimited {
		swapLimit = Unlimited
	}
	if got := memoryLimit(t, h, g, ram); got != l.Memory {
		t.Errorf("%s = %d, want %d", ram, got, l.Memory)
	}
	if !exists(dirOf(h, g, Memory) + "/" + swap) {
		return // no swap accounting (swapaccount=0)
	}
	if got := memoryLimit(t, h, g, swap); got != swapLimit {
		t.Errorf("%s = %d, want %d", swap, got, swapLimit)
	}
}

func memoryLimit(t *testing.T, h *Host, g *Group, file string) int64 {
	t.Helper()
	text := kernelFile(t, h, g, file)
	if text == "max" {
		return Unlimited
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if n > math.MaxInt64-65536 { // v1: the most pages that there are, in bytes
		return Unlimited
	}
	return n
}

func TestSetControllerNotInGroup(t *testing.T) {
	h := testHost(t)
	requireVersion(t, h, V1) // a v2 group may have more than it was asked for: others enabled it
	g := create(t, h, testPath(t), PIDs)
	for _, limits := range []Limits{{Memory: 1 << 20}, {CPUs: 1}, {CPUSetCPUs: "0"}, {IO: []IOLimit{{Major: 8, ReadBPS: 1}}}} {
		if err := g.Set(limits); !errors.Is(err, ErrNoController) {
			t.Errorf("Set(%+v) = %v, want ErrNoController", limits, err)
		}
	}
	set(t, g, Limits{PIDs: 3})
}

// v1 refuses a quota above that of a group above, and says no more than EINVAL; v2 takes it, and the lower one counts.
func TestQuotaAbove(t *testing.T) {
	h := testHost(t)
	top := create(t, h, testPath(t), CPU)
	set(t, top, Limits{CPUs: 0.5})
	middle := create(t, h, top.Path()+"/middle", CPU)
	set(t, middle, Limits{CPUs: 0.25})
	g := create(t, h, middle.Path()+"/run", CPU)
	set(t, g, Limits{CPUs: 0.25})
	err := g.Set(Limits{CPUs: 0.5})
	if h.Version() == V2 {
		if err != nil {
			t.Error(err)
		}
		return
	}
	var above *QuotaError
	if !errors.Is(err, unix.EINVAL) || !errors.As(err, &above) {
		t.Fatalf("%v, want EINVAL, and whose quota it is", err)
	}
	if above.CPUs != 0.25 || above.Group != dirOf(h, middle, CPU) {
		t.Errorf("%q has %v CPUs, want that of %q", above.Group, above.CPUs, middle.Path())
	}
}
