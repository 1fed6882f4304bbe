package shim

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/reexec"
	"github.com/cgshim/cgshim/shim/internal/rungroup"
	"github.com/cgshim/cgshim/shim/internal/seam"
)

// withoutCgroups is a host that has none, until the test ends.
func withoutCgroups(t *testing.T) {
	t.Helper()
	seam.Detect = func() (*cgroup.Host, error) { return nil, &cgroup.Error{Op: "detect", Err: cgroup.ErrNotMounted} }
	t.Cleanup(func() { seam.Detect = cgroup.Detect })
}

func TestWithoutCgroups(t *testing.T) {
	withoutCgroups(t)
	cfg := shell("", "exit 3")
	cfg.Limits = cgroup.Limits{Memory: 256 << 20, CPUs: 1}
	cfg.CPUTime, cfg.WallTime = safety, safety
	if res := mustRun(t, cfg); res.Verdict != Failed || res.Error.Step != "cgroup" || res.Error.Hint == nil {
		t.Errorf("without best effort: %s", res.JSON(false))
	}
	cfg.BestEffort = true
	res := mustRun(t, cfg)
	if res.Verdict != NonzeroExit || res.Cgroup != nil || res.CgroupVersion != nil || res.LeftoverKilled != nil || res.Error != nil {
		t.Errorf("%s", res.JSON(false))
	}
	for name, want := range map[string]string{"mem": ByRlimit, "cpus": ByNothing, "cpu_time": ByRlimit, "wall_time": ByTimer} {
		if got := res.Enforced[name]; got != want {
			t.Errorf("%s is enforced by %q, want %q", name, got, want)
		}
	}
	for _, key := range []string{"cpu_seconds", "cpu_user_seconds", "cpu_system_seconds", "peak_memory_bytes", "io_read_bytes", "voluntary_context_switches"} {
		if res.Sources[key] != rungroup.FromWait {
			t.Errorf("%s is from %q", key, res.Sources[key])
		}
	}
	// No subreaper: nobody knows what the program leaves behind, and the result says so.
	if !slices.ContainsFunc(res.Warnings, func(w string) bool { return strings.Contains(w, "outlive") }) {
		t.Errorf("warnings %q", res.Warnings)
	}
}

// Samples, grace and events work without a group, too.
func TestWithoutCgroupsSampled(t *testing.T) {
	withoutCgroups(t)
	cfg := shell("", `trap "exit 5" TERM; while :; do :; done`)
	cfg.BestEffort, cfg.Sample, cfg.CPUTime, cfg.Grace = true, 20*time.Millisecond, 300*time.Millisecond, safety
	events, res := eventsOf(t, cfg)
	if res.Verdict != CPUTimeLimit || deref(res.ExitCode) != 5 || len(events) < 5 {
		t.Errorf("%d events, %s", len(events), res.JSON(false))
	}
	var last Seconds
	for _, e := range events {
		if sample, ok := e.(*Sample); ok {
			if sample.CPUSeconds == nil || *sample.CPUSeconds < last || sample.MemoryBytes != nil {
				t.Errorf("%s", sample.JSON())
				continue
			}
			last = *sample.CPUSeconds
		}
	}
	if last < 0.1 {
		t.Errorf("the last sample saw %v CPU seconds", last)
	}
}

func resourcesOf(cfg *Config) *resources { return newResources(cfg, newReport(cfg), nil) }

func TestConcede(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		want bool
	}{
		"no network namespace": {&reexec.Error{Step: reexec.StepNet, Errno: unix.EPERM}, true},
		"no program":           {&reexec.Error{Step: reexec.StepLookup, Errno: unix.ENOENT}, false},
		"no user":              {&reexec.Error{Step: reexec.StepUser, Errno: unix.EPERM}, false},
		"no group to leave":    {&reexec.Error{Step: reexec.StepJoin, Errno: unix.EACCES}, false},
		"something else":       {errors.New("else"), false},
	} {
		res := resourcesOf(&Config{BestEffort: true, NoNetwork: true})
		if got := res.concede(at("net", test.err)); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
		warnings := &res.report.result.Warnings
		if test.want && (res.concede(at("net", test.err)) || len(*warnings) != 1 || (*warnings)[0] != test.err.Error()) {
			t.Errorf("%s: conceded twice, or not told: %q", name, *warnings)
		}
	}
}

// A limit of the caller's own is not replaced, and what can't be raised is not asked for.
func TestFallbackRlimits(t *testing.T) {
	own := reexec.Rlimit{Resource: unix.RLIMIT_DATA, Soft: 1 << 30, Hard: 1 << 30}
	cfg := &Config{Limits: cgroup.Limits{Memory: 1 << 20}, Rlimits: []reexec.Rlimit{own}}
	res := resourcesOf(cfg)
	res.withoutGroup("mem")
	if !res.report.enforces("mem", ByNothing) || len(res.fallback.limits) != 0 {
		t.Errorf("%v, %v", res.report.result.Enforced, res.fallback.limits)
	}
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &now); err != nil {
		t.Fatal(err)
	}
	res = resourcesOf(&Config{User: &User{UID: 65533}, Limits: cgroup.Limits{PIDs: cgroup.MaxPIDs}})
	res.withoutGroup("pids")
	if limits := res.fallback.limits; len(limits) != 1 || limits[0].Hard > now.Max || limits[0].Soft != limits[0].Hard {
		t.Errorf("%v, with a hard limit of %d", limits, now.Max)
	}
}

// Regression: one run in 16, which sweeps, ended cgshim with a trace if it had left its group.
func TestSweepWithoutGroup(t *testing.T) {
	cfg := Config{Args: []string{"/bin/true"}, BestEffort: true}
	res := newResources(&cfg, newReport(&cfg), nil)
	res.startSweep()
	res.release()
}
