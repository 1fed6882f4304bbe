package shim

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
)

func exited(code int) unix.WaitStatus                { return unix.WaitStatus(code << 8) }
func signaled(sig unix.Signal) unix.WaitStatus       { return unix.WaitStatus(sig) }
func signaledDumped(sig unix.Signal) unix.WaitStatus { return unix.WaitStatus(sig) | 0x80 }

func TestClassify(t *testing.T) {
	const unknown = -1
	for name, test := range map[string]struct {
		killedFor Verdict
		oomKills  int
		cancelled bool
		tooMuch   bool
		status    unix.WaitStatus

		verdict    Verdict
		exitCode   any
		signal     any
		signalName any
		exitStatus int
	}{
		"exit 0":              {"", 0, false, false, exited(0), OK, 0, nil, nil, 0},
		"exit 0, OOM unknown": {"", unknown, false, false, exited(0), OK, 0, nil, nil, 0},
		"exit 1":              {"", 0, false, false, exited(1), NonzeroExit, 1, nil, nil, 1},
		"exit 125":            {"", 0, false, false, exited(125), NonzeroExit, 125, nil, nil, 125},
		"exit 137":            {"", 0, false, false, exited(137), NonzeroExit, 137, nil, nil, 137},
		"exit 255":            {"", 0, false, false, exited(255), NonzeroExit, 255, nil, nil, 255},
		"own SIGKILL":         {"", 0, false, false, signaled(unix.SIGKILL), Signaled, nil, 9, "SIGKILL", 137},
		"own SIGSEGV":         {"", 0, false, false, signaled(unix.SIGSEGV), Signaled, nil, 11, "SIGSEGV", 139},
		"real-time signal":    {"", 0, false, false, signaled(40), Signaled, nil, 40, nil, 168}, // has no name

		"OOM":                       {"", 1, false, false, signaled(unix.SIGKILL), MemoryLimit, nil, 9, "SIGKILL", 137},
		"OOM of a grandchild":       {"", 1, false, false, exited(0), MemoryLimit, 0, nil, nil, 0},
		"OOM, seen while it ran":    {MemoryLimit, 2, false, false, signaled(unix.SIGKILL), MemoryLimit, nil, 9, "SIGKILL", 137},
		"wall time":                 {WallTimeLimit, 0, false, false, signaled(unix.SIGKILL), WallTimeLimit, nil, 9, "SIGKILL", 137},
		"CPU time":                  {CPUTimeLimit, 0, false, false, signaled(unix.SIGKILL), CPUTimeLimit, nil, 9, "SIGKILL", 137},
		"wall time, then an OOM":    {WallTimeLimit, 1, false, false, signaled(unix.SIGKILL), WallTimeLimit, nil, 9, "SIGKILL", 137},
		"wall time while stopping":  {WallTimeLimit, 0, true, false, signaled(unix.SIGKILL), WallTimeLimit, nil, 9, "SIGKILL", 137},
		"cancelled, dies":           {"", 0, true, false, signaled(unix.SIGTERM), Cancelled, nil, 15, "SIGTERM", 143},
		"cancelled, ends cleanly":   {"", 0, true, false, exited(0), Cancelled, 0, nil, nil, 0},
		"cancelled, exits non-zero": {"", 0, true, false, exited(4), Cancelled, 4, nil, nil, 4},
		"too much output":           {OutputLimit, 0, false, true, signaled(unix.SIGKILL), OutputLimit, nil, 9, "SIGKILL", 137},
		"too much, seen late":       {"", 0, false, true, exited(0), OutputLimit, 0, nil, nil, 0},
		"too much, and an OOM":      {"", 1, false, true, signaled(unix.SIGKILL), MemoryLimit, nil, 9, "SIGKILL", 137},
		"too much, after wall time": {WallTimeLimit, 0, false, true, signaled(unix.SIGKILL), WallTimeLimit, nil, 9, "SIGKILL", 137},
		"cancelled, OOM":            {"", 1, true, false, signaled(unix.SIGKILL), MemoryLimit, nil, 9, "SIGKILL", 137},
	} {
		cfg := &Config{Args: []string{"x"}, Limits: cgroup.Limits{Memory: 1}}
		now := time.Now()
		r := run{cfg: cfg, result: newResult(cfg), killedFor: test.killedFor, cancelled: test.cancelled, started: now, ended: now.Add(time.Second)}
		r.host, r.group, r.oom.own = new(cgroup.Host), new(cgroup.Group), true // of v1, which announces an OOM
		if test.oomKills != unknown {
			kills := cgroup.Figure{Value: uint64(test.oomKills), Source: "file"}
			r.samples.final = cgroup.Stats{OOMKills: kills, OwnOOMKills: kills}
		}
		r.classify(true, test.status, test.tooMuch)
		res := r.result
		if res.Verdict != test.verdict || deref(res.ExitCode) != test.exitCode || deref(res.Signal) != test.signal ||
			deref(res.SignalName) != test.signalName || res.ExitStatus() != test.exitStatus {
			t.Errorf("%s: verdict %s, exit code %v, signal %v %v, exit status %d", name, res.Verdict,
				deref(res.ExitCode), deref(res.Signal), deref(res.SignalName), res.ExitStatus())
		}
		if deref(res.WallSeconds) != Seconds(1) || deref(res.CoreDumped) != false {
			t.Errorf("%s: wall %v, core dumped %v", name, deref(res.WallSeconds), deref(res.CoreDumped))
		}
	}
}

func TestClassifyCoreDump(t *testing.T) {
	r := run{cfg: &Config{}, result: newResult(&Config{})}
	r.classify(true, signaledDumped(unix.SIGABRT), false)
	if deref(r.result.CoreDumped) != true || deref(r.result.Signal) != 6 {
		t.Errorf("core dumped %v, signal %v", deref(r.result.CoreDumped), deref(r.result.Signal))
	}
}

// What never ran has no exit code, signal or wall time, and the error's exit status.
func TestClassifyNotRun(t *testing.T) {
	r := run{cfg: &Config{}, result: newResult(&Config{})}
	r.classify(false, exited(0), false)
	res := r.result
	if res.Verdict != Failed || res.ExitCode != nil || res.Signal != nil || res.CoreDumped != nil || res.WallSeconds != nil {
		t.Errorf("%s", res.JSON(false))
	}
	if res.ExitStatus() != ExitFailed {
		t.Errorf("exit status %d", res.ExitStatus())
	}
}

func TestNoteHits(t *testing.T) {
	known := func(n uint64) cgroup.Figure { return cgroup.Figure{Value: n, Source: "file"} }
	all := cgroup.Limits{Memory: 1, PIDs: 1, CPUs: 1}
	for name, test := range map[string]struct {
		limits    cgroup.Limits
		killedFor Verdict
		stats     cgroup.Stats
		tooMuch   bool
		want      []string
		above     bool // the OOM was announced to the group above, too
	}{
		"none":               {all, "", cgroup.Stats{}, false, []string{}, false},
		"memory, reclaimed":  {all, "", cgroup.Stats{MemoryHits: known(3)}, false, []string{"memory"}, false},
		"memory, killed":     {all, "", cgroup.Stats{OOMKills: known(1), OwnOOMKills: known(1)}, false, []string{"memory"}, false},
		"memory, above":      {all, "", cgroup.Stats{OOMKills: known(1), OwnOOMKills: known(1)}, false, []string{}, true},
		"memory, no limit":   {cgroup.Limits{}, "", cgroup.Stats{MemoryHits: known(3)}, false, []string{}, false},
		"pids":               {all, "", cgroup.Stats{PIDsDenied: known(1)}, false, []string{"pids"}, false},
		"pids of a parent":   {cgroup.Limits{}, "", cgroup.Stats{PIDsDenied: known(1)}, false, []string{}, false},
		"cpus":               {all, "", cgroup.Stats{CPUThrottled: known(1)}, false, []string{"cpus"}, false},
		"CPU time":           {all, CPUTimeLimit, cgroup.Stats{}, false, []string{"cpu_time"}, false},
		"output":             {all, OutputLimit, cgroup.Stats{}, true, []string{"output"}, false},
		"output, seen late":  {all, "", cgroup.Stats{PIDsDenied: known(1)}, true, []string{"pids", "output"}, false},
		"pids and wall time": {all, WallTimeLimit, cgroup.Stats{PIDsDenied: known(1)}, false, []string{"pids", "wall_time"}, false},
	} {
		cfg := &Config{Limits: test.limits}
		r := run{cfg: cfg, result: newResult(cfg), killedFor: test.killedFor, host: new(cgroup.Host), group: new(cgroup.Group)}
		if r.oom.own = !test.above; test.above {
			r.oom.aboveCount = 1
		}
		r.samples.final = test.stats
		r.noteHits(test.tooMuch)
		if len(r.result.LimitsHit) != len(test.want) {
			t.Errorf("%s: %q, want %q", name, r.result.LimitsHit, test.want)
			continue
		}
		if warned := len(r.result.Warnings) > 0; warned != test.above {
			t.Errorf("%s: warnings %q", name, r.result.Warnings)
		}
		for i, hit := range r.result.LimitsHit {
			if hit != test.want[i] {
				t.Errorf("%s: %q, want %q", name, r.result.LimitsHit, test.want)
			}
		}
	}
}
