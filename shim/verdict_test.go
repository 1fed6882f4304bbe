package shim

import (
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
)

func exited(code int) unix.WaitStatus                { return unix.WaitStatus(code << 8) }
func signaled(sig unix.Signal) unix.WaitStatus       { return unix.WaitStatus(sig) }
func signaledDumped(sig unix.Signal) unix.WaitStatus { return unix.WaitStatus(sig) | 0x80 }

// The verdict, the exit status and limits_hit, of facts alone.
func TestVerdict(t *testing.T) {
	killed, zero := signaled(unix.SIGKILL), exited(0)
	for name, test := range map[string]struct {
		ending     ending
		verdict    Verdict
		exitStatus int
		hits       []string
	}{
		"exit 0":           {ending{status: zero}, OK, 0, nil},
		"exit 1":           {ending{status: exited(1)}, NonzeroExit, 1, nil},
		"exit 124":         {ending{status: exited(124)}, NonzeroExit, 124, nil},
		"exit 125":         {ending{status: exited(125)}, NonzeroExit, 125, nil},
		"exit 137":         {ending{status: exited(137)}, NonzeroExit, 137, nil},
		"exit 255":         {ending{status: exited(255)}, NonzeroExit, 255, nil},
		"own SIGKILL":      {ending{status: killed}, Signaled, 137, nil},
		"own SIGSEGV":      {ending{status: signaledDumped(unix.SIGSEGV)}, Signaled, 139, nil},
		"real-time signal": {ending{status: signaled(40)}, Signaled, 168, nil}, // has no name

		"OOM":                         {ending{status: killed, oom: true}, MemoryLimit, 137, nil},
		"OOM of a grandchild":         {ending{status: zero, oom: true}, MemoryLimit, 124, nil},
		"OOM, seen while it ran":      {ending{status: killed, oom: true, endedBy: MemoryLimit}, MemoryLimit, 137, []string{"memory"}},
		"OOM, dies slowly":            {ending{status: killed, oom: true, overWall: true}, MemoryLimit, 137, []string{"wall_time"}},
		"wall time":                   {ending{status: killed, endedBy: WallTimeLimit}, WallTimeLimit, 137, []string{"wall_time"}},
		"wall time, ends cleanly":     {ending{status: zero, endedBy: WallTimeLimit, overWall: true}, WallTimeLimit, 124, []string{"wall_time"}},
		"wall time, exits non-zero":   {ending{status: exited(4), endedBy: WallTimeLimit}, WallTimeLimit, 4, []string{"wall_time"}},
		"wall time, then an OOM":      {ending{status: killed, endedBy: WallTimeLimit, oom: true}, WallTimeLimit, 137, []string{"wall_time"}},
		"wall time while stopping":    {ending{status: killed, endedBy: WallTimeLimit, cancelled: true}, WallTimeLimit, 137, []string{"wall_time"}},
		"wall time in CPU's grace":    {ending{status: zero, endedBy: CPUTimeLimit, overCPU: true, overWall: true}, CPUTimeLimit, 124, []string{"cpu_time", "wall_time"}},
		"wall time, seen late":        {ending{status: zero, overWall: true}, WallTimeLimit, 124, []string{"wall_time"}},
		"wall time, late, cancelled":  {ending{status: zero, overWall: true, cancelled: true}, WallTimeLimit, 124, []string{"wall_time"}},
		"wall time, late, exit 3":     {ending{status: exited(3), overWall: true}, WallTimeLimit, 3, []string{"wall_time"}},
		"CPU time":                    {ending{status: killed, endedBy: CPUTimeLimit, overCPU: true}, CPUTimeLimit, 137, []string{"cpu_time"}},
		"CPU time, seen late":         {ending{status: zero, overCPU: true}, CPUTimeLimit, 124, []string{"cpu_time"}},
		"CPU time, late, and wall":    {ending{status: zero, overCPU: true, overWall: true}, CPUTimeLimit, 124, []string{"cpu_time", "wall_time"}},
		"CPU time, dying of wall":     {ending{status: killed, endedBy: WallTimeLimit, overCPU: true}, WallTimeLimit, 137, []string{"wall_time", "cpu_time"}},
		"CPU time, late, signal":      {ending{status: signaled(unix.SIGSEGV), overCPU: true}, CPUTimeLimit, 139, []string{"cpu_time"}},
		"cancelled, dies":             {ending{status: signaled(unix.SIGTERM), cancelled: true}, Cancelled, 143, nil},
		"cancelled, ends cleanly":     {ending{status: zero, cancelled: true}, Cancelled, 124, nil},
		"cancelled, exits non-zero":   {ending{status: exited(4), cancelled: true}, Cancelled, 4, nil},
		"cancelled, OOM":              {ending{status: killed, cancelled: true, oom: true}, MemoryLimit, 137, nil},
		"too much output":             {ending{status: killed, endedBy: OutputLimit, tooMuch: true}, OutputLimit, 137, []string{"output"}},
		"too much, seen late":         {ending{status: zero, tooMuch: true}, OutputLimit, 124, []string{"output"}},
		"too much, and an OOM":        {ending{status: killed, tooMuch: true, oom: true}, MemoryLimit, 137, []string{"output"}},
		"too much, after wall time":   {ending{status: killed, endedBy: WallTimeLimit, tooMuch: true}, WallTimeLimit, 137, []string{"wall_time", "output"}},
		"output lost":                 {ending{status: zero, outputLost: true}, Failed, 125, nil},
		"output lost, exit 3":         {ending{status: exited(3), outputLost: true}, Failed, 125, nil},
		"output lost, SIGPIPE":        {ending{status: signaled(unix.SIGPIPE), outputLost: true}, Failed, 125, nil},
		"output lost, after a limit":  {ending{status: killed, endedBy: WallTimeLimit, outputLost: true}, WallTimeLimit, 137, []string{"wall_time"}},
		"output lost, over a limit":   {ending{status: zero, overCPU: true, outputLost: true}, CPUTimeLimit, 124, []string{"cpu_time"}},
		"output lost, cancelled":      {ending{status: zero, cancelled: true, outputLost: true}, Cancelled, 124, nil},
		"rlimit":                      {ending{status: killed, ulimit: "ulimit_cpu"}, Signaled, 137, []string{"ulimit_cpu"}},
		"not enforced":                {ending{status: killed, broken: true}, Failed, 125, nil},
		"not enforced, and over that": {ending{status: killed, broken: true, overCPU: true}, Failed, 125, []string{"cpu_time"}},
	} {
		r := run{cfg: &Config{}, result: newResult(&Config{})}
		r.classify(true, &test.ending)
		if res := r.result; res.Verdict != test.verdict || res.ExitStatus() != test.exitStatus {
			t.Errorf("%s: verdict %s, exit status %d", name, res.Verdict, res.ExitStatus())
		}
		if hits := test.ending.hits(); !slices.Equal(hits, test.hits) {
			t.Errorf("%s: limits hit %q, want %q", name, hits, test.hits)
		}
	}
}

// How the program ended is in the result as the wait status has it, whatever the verdict.
func TestClassifyEnd(t *testing.T) {
	for name, test := range map[string]struct {
		status                    unix.WaitStatus
		exitCode, signal, sigName any
		dumped                    bool
	}{
		"exit 0":           {exited(0), 0, nil, nil, false},
		"exit 137":         {exited(137), 137, nil, nil, false},
		"SIGKILL":          {signaled(unix.SIGKILL), nil, 9, "SIGKILL", false},
		"real-time signal": {signaled(40), nil, 40, nil, false},
		"core dump":        {signaledDumped(unix.SIGABRT), nil, 6, "SIGABRT", true},
	} {
		for _, by := range []Verdict{"", WallTimeLimit} {
			now := time.Now()
			r := run{cfg: &Config{}, result: newResult(&Config{}), started: now, ended: now.Add(time.Second)}
			r.classify(true, &ending{status: test.status, endedBy: by})
			res := r.result
			if deref(res.ExitCode) != test.exitCode || deref(res.Signal) != test.signal || deref(res.SignalName) != test.sigName ||
				deref(res.CoreDumped) != test.dumped || deref(res.WallSeconds) != Seconds(1) {
				t.Errorf("%s: %s", name, res.JSON(false))
			}
		}
	}
}

// The final figures are held against the limits; one that is not known is held against none.
func TestEndingOver(t *testing.T) {
	cpu := func(d time.Duration) cgroup.Figure { return cgroup.Figure{Value: uint64(d), Source: "file"} }
	const limit = 100 * time.Millisecond
	for name, test := range map[string]struct {
		cfg               Config
		cpu               cgroup.Figure
		wall              time.Duration
		first             first
		overCPU, overWall bool
		seconds           Seconds
	}{
		"no limits":                {Config{}, cpu(time.Hour), time.Hour, unknownFirst, false, false, 3600},
		"below":                    {Config{CPUTime: limit, WallTime: limit}, cpu(limit - 1), limit - 1, unknownFirst, false, false, 0.099999999},
		"exactly":                  {Config{CPUTime: limit, WallTime: limit}, cpu(limit), limit, unknownFirst, false, false, 0.1},
		"above":                    {Config{CPUTime: limit, WallTime: limit}, cpu(limit + 1), limit + 1, unknownFirst, true, true, 0.100000001},
		"CPU unknown":              {Config{CPUTime: limit}, cgroup.Figure{}, 0, unknownFirst, false, false, 0},
		"the end came first":       {Config{WallTime: limit}, cpu(0), time.Second, endFirst, false, false, 0.1},
		"… and was seen soon":      {Config{WallTime: limit}, cpu(0), limit / 2, endFirst, false, false, 0.05},
		"the limit came first":     {Config{WallTime: limit}, cpu(0), time.Second, limitFirst, false, true, 1},
		"… by less than is looked": {Config{WallTime: limit}, cpu(0), limit, limitFirst, false, true, 0.100000001},
	} {
		now := time.Now()
		r := run{cfg: &test.cfg, result: newResult(&test.cfg), started: now, ended: now.Add(test.wall)}
		r.samples.final.CPUUsage, r.watch.first = test.cpu, test.first
		end := r.ending(exited(0), false, false)
		r.classify(true, end)
		if end.overCPU != test.overCPU || end.overWall != test.overWall || deref(r.result.WallSeconds) != test.seconds {
			t.Errorf("%s: over CPU time %v, over wall time %v, %v", name, end.overCPU, end.overWall, deref(r.result.WallSeconds))
		}
	}
}

// What never ran has no exit code, signal or wall time, and the error's exit status.
func TestClassifyNotRun(t *testing.T) {
	r := run{cfg: &Config{}, result: newResult(&Config{})}
	r.classify(false, &ending{})
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
		r.noteHits(r.ending(exited(0), test.tooMuch, false))
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
