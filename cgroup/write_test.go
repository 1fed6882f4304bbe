package cgroup

import (
	"errors"
	"maps"
	"math"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// written reads the files of a fake directory back, those that something was written to.
func written(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range entries {
		content, err := os.ReadFile(dir + "/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		if len(content) > 0 {
			got[e.Name()] = string(content)
		}
	}
	return got
}

var setFiles = map[string]string{
	"memory.limit_in_bytes": "", "memory.memsw.limit_in_bytes": "", "pids.max": "", "cpu.cfs_period_us": "", "cpu.cfs_quota_us": "",
	"cpu.shares": "", "cpuset.cpus": "", "cpuset.mems": "", "blkio.throttle.read_bps_device": "", "blkio.throttle.write_bps_device": "",
	"blkio.throttle.read_iops_device": "", "blkio.throttle.write_iops_device": "",
	"memory.max": "", "memory.swap.max": "", "memory.high": "", "memory.oom.group": "", "cpu.max": "", "cpu.weight": "", "io.max": "",
}

// What Set writes to which file, byte for byte, on both versions whichever the machine has. On real
// kernels see TestSet.
func TestSetWrites(t *testing.T) {
	for _, test := range []struct {
		name   string
		limits Limits
		v1, v2 map[string]string
	}{
		{"nothing", Limits{}, map[string]string{}, map[string]string{}},
		{
			"memory without swap",
			Limits{Memory: 65536},
			map[string]string{"memory.limit_in_bytes": "65536", "memory.memsw.limit_in_bytes": "65536"},
			map[string]string{"memory.max": "65536", "memory.swap.max": "0"},
		},
		{
			"memory and swap",
			Limits{Memory: 65536, Swap: 4096},
			map[string]string{"memory.limit_in_bytes": "65536", "memory.memsw.limit_in_bytes": "69632"}, // the sum
			map[string]string{"memory.max": "65536", "memory.swap.max": "4096"},
		},
		{
			"swap unlimited",
			Limits{Memory: 65536, Swap: Unlimited},
			map[string]string{"memory.limit_in_bytes": "65536", "memory.memsw.limit_in_bytes": "-1"},
			map[string]string{"memory.max": "65536", "memory.swap.max": "max"},
		},
		{
			"memory unlimited",
			Limits{Memory: Unlimited},
			map[string]string{"memory.limit_in_bytes": "-1", "memory.memsw.limit_in_bytes": "-1"},
			map[string]string{"memory.max": "max", "memory.swap.max": "max"},
		},
		{"oom group", Limits{OOMGroup: true}, map[string]string{}, map[string]string{"memory.oom.group": "1"}},
		{"pids", Limits{PIDs: 7}, map[string]string{"pids.max": "7"}, map[string]string{"pids.max": "7"}},
		{"pids unlimited", Limits{PIDs: Unlimited}, map[string]string{"pids.max": "max"}, map[string]string{"pids.max": "max"}},
		{
			"cpus",
			Limits{CPUs: 1.5},
			map[string]string{"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "150000"},
			map[string]string{"cpu.max": "150000 100000"},
		},
		{
			"cpus unlimited",
			Limits{CPUs: Unlimited},
			map[string]string{"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "-1"},
			map[string]string{"cpu.max": "max 100000"},
		},
		{"weight", Limits{CPUWeight: 1}, map[string]string{"cpu.shares": "2"}, map[string]string{"cpu.weight": "1"}},
		{"shares", Limits{CPUShares: 1024}, map[string]string{"cpu.shares": "1024"}, map[string]string{"cpu.weight": "100"}},
		{
			"cpuset",
			Limits{CPUSetCPUs: "0-1", CPUSetMems: "0"},
			map[string]string{"cpuset.cpus": "0-1", "cpuset.mems": "0"},
			map[string]string{"cpuset.cpus": "0-1", "cpuset.mems": "0"},
		},
		{
			"io",
			Limits{IO: []IOLimit{{Major: 8, Minor: 16, ReadBPS: 1048576, WriteIOPS: 100}}},
			map[string]string{"blkio.throttle.read_bps_device": "8:16 1048576", "blkio.throttle.write_iops_device": "8:16 100"},
			map[string]string{"io.max": "8:16 rbps=1048576 wiops=100"},
		},
		{
			"io the others",
			Limits{IO: []IOLimit{{Major: 253, WriteBPS: 1, ReadIOPS: 18446744073709551615}}},
			map[string]string{"blkio.throttle.write_bps_device": "253:0 1", "blkio.throttle.read_iops_device": "253:0 18446744073709551615"},
			map[string]string{"io.max": "253:0 wbps=1 riops=18446744073709551615"},
		},
		{"io without a rate", Limits{IO: []IOLimit{{Major: 8}}}, map[string]string{}, map[string]string{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := fakeDir(t, setFiles)
			if err := v1Dir(dir).set(&test.limits); err != nil {
				t.Error(err)
			}
			if got := written(t, dir); !maps.Equal(got, test.v1) {
				t.Errorf("v1: got %q, want %q", got, test.v1)
			}
			const listed = "cpuset cpu io memory pids\n"
			dir = fakeDir(t, setFiles)
			for file, content := range map[string]string{
				"cgroup.controllers": listed, "cpuset.cpus.effective": "0-1\n", "cpuset.mems.effective": "0\n",
			} {
				if err := os.WriteFile(dir+"/"+file, []byte(content), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if err := (&v2{dir: dir}).set(&test.limits); err != nil {
				t.Error(err)
			}
			got := written(t, dir)
			for _, file := range []string{"cgroup.controllers", "cpuset.cpus.effective", "cpuset.mems.effective"} {
				delete(got, file)
			}
			if !maps.Equal(got, test.v2) {
				t.Errorf("v2: got %q, want %q", got, test.v2)
			}
		})
	}
}

// v1 has no memory.high: it is refused before the other limits are written. v2 writes it with them.
func TestSetMemoryHigh(t *testing.T) {
	for limit, want := range map[int64]string{1: "1", 65536: "65536", math.MaxInt64: "9223372036854775807", Unlimited: "max"} {
		limits := Limits{Memory: 65536, MemoryHigh: limit, PIDs: 7}
		dir := fakeDir(t, setFiles)
		err := v1Dir(dir).set(&limits)
		var typed *Error
		if !errors.Is(err, ErrV2Only) || !errors.As(err, &typed) || typed.Value != "memory.high" {
			t.Errorf("v1: %d: %v, want ErrV2Only for memory.high", limit, err)
		}
		if got := written(t, dir); len(got) > 0 {
			t.Errorf("v1: %d: wrote %q", limit, got)
		}
		dir = fakeDir(t, setFiles)
		if err := os.WriteFile(dir+"/cgroup.controllers", []byte("memory pids\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := (&v2{dir: dir}).set(&limits); err != nil {
			t.Errorf("v2: %d: %v", limit, err)
		}
		got := written(t, dir)
		delete(got, "cgroup.controllers")
		if want := map[string]string{"memory.max": "65536", "memory.swap.max": "0", "memory.high": want, "pids.max": "7"}; !maps.Equal(got, want) {
			t.Errorf("v2: got %q, want %q", got, want)
		}
	}
}

// A limit of a controller that the group does not have is an error, and nothing before it is written.
func TestSetWithoutController(t *testing.T) {
	dir := fakeDir(t, setFiles)
	limits := Limits{Memory: 65536, PIDs: 7}
	for version, h := range map[string]hierarchy{
		"v1": &v1{of: map[Controller]string{Memory: dir}},
		"v2": &v2{dir: fakeDir(t, map[string]string{"cgroup.controllers": "memory\n", "memory.max": "", "pids.max": ""})},
	} {
		err := (&Group{h: h}).Set(limits)
		var typed *Error
		if !errors.Is(err, ErrNoController) || !errors.As(err, &typed) || typed.Value != "pids" {
			t.Errorf("%s: Set = %v, want ErrNoController for pids", version, err)
		}
	}
	if got := written(t, dir); len(got) > 0 {
		t.Errorf("wrote %q", got)
	}
}

// Without swap accounting the kernel has no file for swap. Then a limit can't be kept if there is swap,
// and is kept anyway if there is none.
func TestSetWithoutSwapAccounting(t *testing.T) {
	var want error
	if hostHasSwap() {
		want = ErrSwapAccounting
	}
	for version, h := range map[string]hierarchy{
		"v1": v1Dir(fakeDir(t, map[string]string{"memory.limit_in_bytes": ""})),
		"v2": &v2{dir: fakeDir(t, map[string]string{"cgroup.controllers": "memory\n", "memory.max": ""})},
	} {
		if err := h.set(&Limits{Memory: 65536}); !errors.Is(err, want) {
			t.Errorf("%s: no swap: %v, want %v", version, err, want)
		}
		if err := h.set(&Limits{Memory: 65536, Swap: Unlimited}); err != nil {
			t.Errorf("%s: unlimited swap: %v", version, err)
		}
	}
}

func TestEnable(t *testing.T) {
	wanted := []Controller{Memory, PIDs, Freezer} // every v2 group has the freezer: never written
	for _, test := range []struct {
		name    string
		files   map[string]string
		want    error
		subtree string
	}{
		{"already on", map[string]string{"cgroup.subtree_control": "cpu memory pids\n"}, nil, "cpu memory pids\n"},
		{"not available", map[string]string{"cgroup.subtree_control": "", "cgroup.controllers": "memory cpu\n"}, ErrNoController, ""},
		{
			"populated",
			map[string]string{"cgroup.subtree_control": "", "cgroup.controllers": "memory pids\n", "cgroup.type": "domain\n", "cgroup.procs": "42\n"},
			ErrPopulated, "",
		},
		{
			"empty",
			map[string]string{"cgroup.subtree_control": "", "cgroup.controllers": "memory pids\n", "cgroup.type": "domain\n", "cgroup.procs": ""},
			nil, "+memory +pids",
		},
		// The real root has no cgroup.type, and is exempt.
		{"root", map[string]string{"cgroup.subtree_control": "", "cgroup.controllers": "memory pids\n", "cgroup.procs": "1\n2\n"}, nil, "+memory +pids"},
		{"no cgroup", nil, unix.ENOENT, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := fakeDir(t, test.files)
			if err := enableIn(dir, slices.Clone(wanted)); !errors.Is(err, test.want) {
				t.Errorf("enableIn = %v, want %v", err, test.want)
			}
			if got := written(t, dir)["cgroup.subtree_control"]; got != test.subtree {
				t.Errorf("cgroup.subtree_control = %q, want %q", got, test.subtree)
			}
		})
	}
}
