package shim

import (
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/shim/internal/monitor"
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
		"OOM, seen while it ran":      {ending{status: killed, oom: true, Outcome: monitor.Outcome{EndedBy: monitor.Memory}}, MemoryLimit, 137, []string{"memory"}},
		"OOM, dies slowly":            {ending{status: killed, oom: true, overWall: true}, MemoryLimit, 137, []string{"wall_time"}},
		"wall time":                   {ending{status: killed, Outcome: monitor.Outcome{EndedBy: monitor.WallTime}}, WallTimeLimit, 137, []string{"wall_time"}},
		"wall time, ends cleanly":     {ending{status: zero, Outcome: monitor.Outcome{EndedBy: monitor.WallTime}, overWall: true}, WallTimeLimit, 124, []string{"wall_time"}},
		"wall time, exits non-zero":   {ending{status: exited(4), Outcome: monitor.Outcome{EndedBy: monitor.WallTime}}, WallTimeLimit, 4, []string{"wall_time"}},
		"wall time, then an OOM":      {ending{status: killed, Outcome: monitor.Outcome{EndedBy: monitor.WallTime}, oom: true}, WallTimeLimit, 137, []string{"wall_time"}},
		"wall time while stopping":    {ending{status: killed, Outcome: monitor.Outcome{EndedBy: monitor.WallTime, Cancelled: true}}, WallTimeLimit, 137, []string{"wall_time"}},
		"wall time in CPU's grace":    {ending{status: zero, Outcome: monitor.Outcome{EndedBy: monitor.CPUTime}, overCPU: true, overWall: true}, CPUTimeLimit, 124, []string{"cpu_time", "wall_time"}},
		"wall time, seen late":        {ending{status: zero, overWall: true}, WallTimeLimit, 124, []string{"wall_time"}},
		"wall time, late, cancelled":  {ending{status: zero, overWall: true, Outcome: monitor.Outcome{Cancelled: true}}, WallTimeLimit, 124, []string{"wall_time"}},
		"wall time, late, exit 3":     {ending{status: exited(3), overWall: true}, WallTimeLimit, 3, []string{"wall_time"}},
		"CPU time":                    {ending{status: killed, Outcome: monitor.Outcome{EndedBy: monitor.CPUTime}, overCPU: true}, CPUTimeLimit, 137, []string{"cpu_time"}},
		"CPU time, seen late":         {ending{status: zero, overCPU: true}, CPUTimeLimit, 124, []string{"cpu_time"}},
		"CPU time, late, and wall":    {ending{status: zero, overCPU: true, overWall: true}, CPUTimeLimit, 124, []string{"cpu_time", "wall_time"}},
		"CPU time, dying of wall":     {ending{status: killed, Outcome: monitor.Outcome{EndedBy: monitor.WallTime}, overCPU: true}, WallTimeLimit, 137, []string{"wall_time", "cpu_time"}},
		"CPU time, late, signal":      {ending{status: signaled(unix.SIGSEGV), overCPU: true}, CPUTimeLimit, 139, []string{"cpu_time"}},
		"cancelled, dies":             {ending{status: signaled(unix.SIGTERM), Outcome: monitor.Outcome{Cancelled: true}}, Cancelled, 143, nil},
		"cancelled, ends cleanly":     {ending{status: zero, Outcome: monitor.Outcome{Cancelled: true}}, Cancelled, 124, nil},
		"cancelled, exits non-zero":   {ending{status: exited(4), Outcome: monitor.Outcome{Cancelled: true}}, Cancelled, 4, nil},
		"cancelled, OOM":              {ending{status: killed, Outcome: monitor.Outcome{Cancelled: true}, oom: true}, MemoryLimit, 137, nil},
		"too much output":             {ending{status: killed, Outcome: monitor.Outcome{EndedBy: monitor.Output}, tooMuch: true}, OutputLimit, 137, []string{"output"}},
		"too much, seen late":         {ending{status: zero, tooMuch: true}, OutputLimit, 124, []string{"output"}},
		"too much, and an OOM":        {ending{status: killed, tooMuch: true, oom: true}, MemoryLimit, 137, []string{"output"}},
		"too much, after wall time":   {ending{status: killed, Outcome: monitor.Outcome{EndedBy: monitor.WallTime}, tooMuch: true}, WallTimeLimit, 137, []string{"wall_time", "output"}},
		"output lost":                 {ending{status: zero, outputLost: true}, Failed, 125, nil},
		"output lost, exit 3":         {ending{status: exited(3), outputLost: true}, Failed, 125, nil},
		"output lost, SIGPIPE":        {ending{status: signaled(unix.SIGPIPE), outputLost: true}, Failed, 125, nil},
		"output lost, after a limit":  {ending{status: killed, Outcome: monitor.Outcome{EndedBy: monitor.WallTime}, outputLost: true}, WallTimeLimit, 137, []string{"wall_time"}},
		"output lost, over a limit":   {ending{status: zero, overCPU: true, outputLost: true}, CPUTimeLimit, 124, []string{"cpu_time"}},
		"output lost, cancelled":      {ending{status: zero, Outcome: monitor.Outcome{Cancelled: true}, outputLost: true}, Cancelled, 124, nil},
		"rlimit":                      {ending{status: killed, ulimit: "ulimit_cpu"}, Signaled, 137, []string{"ulimit_cpu"}},
		"not enforced":                {ending{status: killed, Outcome: monitor.Outcome{EnforcementLost: true}}, Failed, 125, nil},
		"not enforced, and over that": {ending{status: killed, Outcome: monitor.Outcome{EnforcementLost: true}, overCPU: true}, Failed, 125, []string{"cpu_time"}},
	} {
		r := newReport(&Config{})
		test.ending.ran = true
		r.classify(&test.ending)
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
		for _, by := range []string{"", monitor.WallTime} {
			r := newReport(&Config{})
			r.classify(&ending{ran: true, status: test.status, Outcome: monitor.Outcome{EndedBy: by}, wall: time.Second})
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
		first             monitor.First
		overCPU, overWall bool
		seconds           Seconds
	}{
		"no limits":                {Config{}, cpu(time.Hour), time.Hour, monitor.UnknownFirst, false, false, 3600},
		"below":                    {Config{CPUTime: limit, WallTime: limit}, cpu(limit - 1), limit - 1, monitor.UnknownFirst, false, false, 0.099999999},
		"exactly":                  {Config{CPUTime: limit, WallTime: limit}, cpu(limit), limit, monitor.UnknownFirst, false, false, 0.1},
		"above":                    {Config{CPUTime: limit, WallTime: limit}, cpu(limit + 1), limit + 1, monitor.UnknownFirst, true, true, 0.100000001},
		"CPU unknown":              {Config{CPUTime: limit}, cgroup.Figure{}, 0, monitor.UnknownFirst, false, false, 0},
		"the end came first":       {Config{WallTime: limit}, cpu(0), time.Second, monitor.EndFirst, false, false, 0.1},
		"… and was seen soon":      {Config{WallTime: limit}, cpu(0), limit / 2, monitor.EndFirst, false, false, 0.05},
		"the limit came first":     {Config{WallTime: limit}, cpu(0), time.Second, monitor.LimitFirst, false, true, 1},
		"… by less than is looked": {Config{WallTime: limit}, cpu(0), limit, monitor.LimitFirst, false, true, 0.100000001},
	} {
		r := newReport(&test.cfg)
		end := &ending{ran: true, Outcome: monitor.Outcome{First: test.first}}
		end.hold(&test.cfg, test.wall, test.cpu)
		r.classify(end)
		if end.overCPU != test.overCPU || end.overWall != test.overWall || deref(r.result.WallSeconds) != test.seconds {
			t.Errorf("%s: over CPU time %v, over wall time %v, %v", name, end.overCPU, end.overWall, deref(r.result.WallSeconds))
		}
	}
}

// What never ran has no exit code, signal or wall time, and the error's exit status.
func TestClassifyNotRun(t *testing.T) {
	r := newReport(&Config{})
	r.classify(&ending{})
	res := r.result
	if res.Verdict != Failed || res.ExitCode != nil || res.Signal != nil || res.CoreDumped != nil || res.WallSeconds != nil {
		t.Errorf("%s", res.JSON(false))
	}
	if res.ExitStatus() != ExitFailed {
		t.Errorf("exit status %d", res.ExitStatus())
	}
}

// The limits that the cgroup's counters tell come first, and none comes twice.
func TestHits(t *testing.T) {
	for name, test := range map[string]struct {
		counted []string
		endedBy string
		tooMuch bool
		want    []string
	}{
		"none":               {nil, "", false, []string{}},
		"memory":             {[]string{"memory"}, "memory", false, []string{"memory"}},
		"CPU time":           {nil, "cpu_time", false, []string{"cpu_time"}},
		"output":             {nil, "output", true, []string{"output"}},
		"output, seen late":  {[]string{"pids"}, "", true, []string{"pids", "output"}},
		"pids and wall time": {[]string{"pids"}, "wall_time", false, []string{"pids", "wall_time"}},
	} {
		r := newReport(&Config{})
		r.classify(&ending{ran: true, counted: test.counted, tooMuch: test.tooMuch, Outcome: monitor.Outcome{EndedBy: test.endedBy}})
		if !slices.Equal(r.result.LimitsHit, test.want) || r.result.LimitsHit == nil {
			t.Errorf("%s: %q, want %q", name, r.result.LimitsHit, test.want)
		}
	}
}
