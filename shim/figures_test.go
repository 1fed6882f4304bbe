package shim

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/cgshim/cgshim/cgroup"
)

func TestFiguresOfOneProcess(t *testing.T) {
	cfg := Config{Args: []string{"/bin/true"}, Parent: newParent(t), Limits: cgroup.Limits{PIDs: 1}}
	before := time.Now()
	res := mustRun(t, cfg)
	if res.Verdict != OK || deref(res.PIDsPeak) != uint64(1) || deref(res.PIDsDenied) != uint64(0) ||
		deref(res.OOMKills) != uint64(0) || deref(res.LeftoverKilled) != uint64(0) || len(res.LimitsHit) != 0 {
		t.Errorf("%s", res.JSON(false))
	}
	// Anything of ours in the group would be many MiB: a Go runtime, and under -race hundreds.
	if res.PeakMemoryBytes == nil || *res.PeakMemoryBytes == 0 || *res.PeakMemoryBytes > 8<<20 {
		t.Errorf("peak memory %v", deref(res.PeakMemoryBytes))
	}
	if res.PID == nil || *res.PID <= 1 || *res.PID == os.Getpid() {
		t.Errorf("pid %v", deref(res.PID))
	}
	for name, s := range map[string]*Seconds{
		"cpu": res.CPUSeconds, "wall": res.WallSeconds, "setup": res.SetupSeconds, "teardown": res.TeardownSeconds,
	} {
		if s == nil || *s <= 0 || *s > Seconds(safety.Seconds()) {
			t.Errorf("%s_seconds: %v", name, deref(s))
		}
	}
	startedAt, err := time.Parse(time.RFC3339Nano, *res.StartedAt)
	if err != nil || startedAt.Before(before.Add(-time.Second)) || startedAt.After(time.Now().Add(time.Second)) {
		t.Errorf("started_at %s, %v", *res.StartedAt, err)
	}
}

func TestFiguresAddUp(t *testing.T) {
	parent := newParent(t)
	for _, script := range []string{"exit 0", "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done"} {
		res := mustRun(t, shell(parent, script))
		if res.CPUSeconds == nil || res.CPUUserSeconds == nil || res.CPUSystemSeconds == nil {
			t.Fatalf("%s", res.JSON(false))
		}
		total, sum := float64(*res.CPUSeconds), float64(*res.CPUUserSeconds+*res.CPUSystemSeconds)
		if math.Abs(total-sum) > 2e-6 {
			t.Errorf("cpu %v is not user + system, %v", total, sum)
		}
	}
}

func TestWallSeconds(t *testing.T) {
	res := mustRun(t, shell(newParent(t), "exec sleep 0.4"))
	// Both ends are inside of what the clock of the test could see.
	if res.Verdict != OK || *res.WallSeconds < 0.4 {
		t.Errorf("sleep 0.4: %s", res.JSON(false))
	}
}

// pids_peak counts everything that was alive at once.
func TestPIDsPeak(t *testing.T) {
	res := mustRun(t, shell(newParent(t), "sleep 1000 & a=$!; sleep 1000 & b=$!; sleep 1000 & kill $a $b $!; wait"))
	if res.Verdict != OK || deref(res.PIDsPeak) != uint64(4) {
		t.Errorf("a shell with three children: %s", res.JSON(false))
	}
}

// Every figure of the group names its kernel file, and nothing that is unknown does.
func TestSources(t *testing.T) {
	cfg := Config{Args: []string{"/bin/true"}, Parent: newParent(t), Limits: cgroup.Limits{Memory: 64 << 20, PIDs: 4, CPUs: 1}}
	res := mustRun(t, cfg)
	line := res.JSON(false)
	checkLine(t, line)
	var values map[string]any
	if err := json.Unmarshal(line, &values); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{
		"peak_memory_bytes", "cpu_seconds", "cpu_user_seconds", "cpu_system_seconds", "oom_kills",
		"pids_peak", "pids_denied", "peak_swap_bytes", "cpu_throttled_seconds",
	} {
		source, ok := res.Sources[key]
		if known := values[key] != nil; known != ok || ok && source == "" {
			t.Errorf("%s is %v, and its source %q", key, values[key], source)
		}
	}
	for key := range res.Sources {
		if _, ok := values[key]; !ok {
			t.Errorf("a source for %q, which is no key", key)
		}
	}
	for _, key := range []string{"peak_memory_bytes", "cpu_seconds", "oom_kills", "pids_peak"} {
		if values[key] == nil {
			t.Errorf("%s is unknown: %s", key, line)
		}
	}
}

// enforced has what was asked for, no less and no more; limits too, as it was asked for.
func TestEnforced(t *testing.T) {
	parent := newParent(t)
	for name, test := range map[string]struct {
		cfg      Config
		enforced map[string]string
		limits   string
	}{
		"none": {Config{}, map[string]string{}, `{}`},
		"mem and pids": {
			Config{Limits: cgroup.Limits{Memory: 64 << 20, PIDs: 9}},
			map[string]string{"mem": "cgroup", "pids": "cgroup"},
			`{"mem_bytes":67108864,"pids":9}`,
		},
		"all": {
			Config{Limits: cgroup.Limits{Memory: 64 << 20, PIDs: 9, CPUs: 1.5, CPUWeight: 50}, CPUTime: safety, WallTime: 2 * safety},
			map[string]string{"mem": "cgroup", "pids": "cgroup", "cpus": "cgroup", "cpu_weight": "cgroup", "cpu_time": "timer", "wall_time": "timer"},
			`{"mem_bytes":67108864,"pids":9,"cpus":1.5,"cpu_weight":50,"cpu_time_seconds":60.000000,"wall_time_seconds":120.000000}`,
		},
		"shares": {Config{Limits: cgroup.Limits{CPUShares: 512}}, map[string]string{"cpu_shares": "cgroup"}, `{"cpu_shares":512}`},
	} {
		test.cfg.Args, test.cfg.Parent = []string{"/bin/true"}, parent
		res := mustRun(t, test.cfg)
		delete(res.Enforced, "shield") // which is always told, and depends on the kernel
		if res.Verdict != OK || !maps.Equal(res.Enforced, test.enforced) {
			t.Errorf("%s: %s, want enforced %v", name, res.JSON(false), test.enforced)
		}
		if limits, err := json.Marshal(res.Limits); err != nil || string(limits) != test.limits {
			t.Errorf("%s: limits %s, %v, want %s", name, limits, err, test.limits)
		}
	}
}

// The limits are in the kernel while the program runs, not only in the result.
func TestLimitsAreSet(t *testing.T) {
	host, err := cgroup.Detect()
	if err != nil {
		t.Skip("requires writable cgroups: ", err)
	}
	files := map[cgroup.Controller][2]string{
		cgroup.Memory: {"memory.limit_in_bytes", "67108864"},
		cgroup.PIDs:   {"pids.max", "9"},
		cgroup.CPU:    {"cpu.cfs_quota_us", "150000"},
	}
	if host.Version() == cgroup.V2 {
		files[cgroup.Memory] = [2]string{"memory.max", "67108864"}
		files[cgroup.CPU] = [2]string{"cpu.max", "150000 100000"}
	}
	cfg := Config{Parent: newParent(t), Name: "limited", Limits: cgroup.Limits{Memory: 64 << 20, PIDs: 9, CPUs: 1.5}}
	for controller, file := range files {
		path := host.MountPoint(controller) + cfg.Parent + "/limited/" + file[0]
		cfg.Args = []string{"/bin/sh", "-c", `read -r x <"$0" && test "$x" = "$1"`, path, file[1]}
		if res := mustRun(t, cfg); res.Verdict != OK {
			t.Errorf("%s is not %s: %s", path, file[1], res.JSON(false))
		}
	}
	if !slices.Contains(host.Controllers(), cgroup.Memory) {
		t.Error("no memory controller")
	}
}

// What nobody has looked at while it was true is unknown, and what wait4 tells of some processes only.
func TestFiguresUnknown(t *testing.T) {
	parent := newParent(t)
	res := mustRun(t, self(t, parent, "eat"))
	if res.Verdict != OK || res.MemoryAnonBytes != nil || res.MemoryFileBytes != nil || res.MemoryKernelBytes != nil {
		t.Errorf("nobody has looked: %s", res.JSON(false))
	}
	cfg := Config{Args: []string{"sleep", fmt.Sprint(slowly(500 * time.Millisecond).Seconds())}, Parent: parent}
	cfg.Sample = 20 * time.Millisecond
	if res = mustRun(t, cfg); res.Verdict != OK || res.MemoryAnonBytes == nil || *res.MemoryAnonBytes == 0 || res.VoluntarySwitches == nil {
		t.Errorf("somebody has looked: %s", res.JSON(false))
	}
	for _, script := range []string{"(sleep 0.1 &); sleep 0.5", "(sleep 1000 &)"} {
		res = mustRun(t, shell(parent, script))
		if res.Verdict != OK || res.VoluntarySwitches != nil || res.InvoluntarySwitches != nil || *res.CgroupVersion == 1 && (res.IOReadBytes != nil || res.IOWriteBytes != nil) {
			t.Errorf("%s: %s", script, res.JSON(false))
		}
	}
}
