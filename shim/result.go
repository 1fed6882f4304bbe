package shim

import (
	"time"

	"github.com/cgshim/cgshim/shim/internal/monitor"
)

// SchemaVersion is the result's schema_version. Within a version keys are only added.
const SchemaVersion = 1

// A Verdict says in one word how a run ended.
type Verdict string

// The verdicts. Of several limits, the first one that ended the run gives the verdict.
const (
	OK            Verdict = "ok"              // exit status 0
	NonzeroExit   Verdict = "nonzero-exit"    // another exit status
	Signaled      Verdict = "signaled"        // a signal that cgshim did not send
	MemoryLimit   Verdict = "memory-limit"    // the kernel killed a process for the run's own memory limit
	CPUTimeLimit  Verdict = "cpu-time-limit"  // Config.CPUTime: killed for it, or over it by the end
	WallTimeLimit Verdict = "wall-time-limit" // Config.WallTime, likewise
	OutputLimit   Verdict = "output-limit"    // Config.OutputLimit
	Cancelled     Verdict = "cancelled"       // cgshim was told to stop
	Failed        Verdict = "error"           // the program never ran, or cgshim failed, or could not deliver the output: see Error
)

// A Result is everything there is to say about a run. Nil (null in JSON) is unknown, never 0.
type Result struct {
	Type          string  `json:"type"` // always "result"
	SchemaVersion int     `json:"schema_version"`
	Verdict       Verdict `json:"verdict"`

	ExitCode   *int    `json:"exit_code"`   // nil if a signal ended the program, or it never ran
	Signal     *int    `json:"signal"`      // nil if it exited by itself, or never ran
	SignalName *string `json:"signal_name"` // "SIGKILL"
	CoreDumped *bool   `json:"core_dumped"`

	PeakMemoryBytes  *uint64  `json:"peak_memory_bytes"`
	CPUSeconds       *Seconds `json:"cpu_seconds"` // all processes of the run
	CPUUserSeconds   *Seconds `json:"cpu_user_seconds"`
	CPUSystemSeconds *Seconds `json:"cpu_system_seconds"`
	WallSeconds      *Seconds `json:"wall_seconds"` // from the program's creation to its end

	OOMKills   *uint64  `json:"oom_kills"`
	PIDsPeak   *uint64  `json:"pids_peak"`   // tasks, threads included
	PIDsDenied *uint64  `json:"pids_denied"` // forks refused by the limit
	LimitsHit  []string `json:"limits_hit"`  // also limits that ended nothing; never nil

	PeakSwapBytes       *uint64  `json:"peak_swap_bytes"`
	CPUThrottledSeconds *Seconds `json:"cpu_throttled_seconds"`
	IOReadBytes         *uint64  `json:"io_read_bytes"`  // from block devices, whatever the page cache spared
	IOWriteBytes        *uint64  `json:"io_write_bytes"` // to block devices, during the run

	// The largest of the readings at every Config.Sample, before a kill, and then at the end of the run; nil if nobody
	// looked before that, when there is nothing left to see.
	MemoryAnonBytes   *uint64 `json:"memory_anon_bytes"`
	MemoryFileBytes   *uint64 `json:"memory_file_bytes"`
	MemoryKernelBytes *uint64 `json:"memory_kernel_bytes"`

	// Of the program and those of its descendants that were waited for; nil if there were others.
	VoluntarySwitches   *uint64 `json:"voluntary_context_switches"`
	InvoluntarySwitches *uint64 `json:"involuntary_context_switches"`

	// How long some, or all, tasks of the run that were not idle waited for the resource.
	CPUSomePressure    *Seconds `json:"pressure_cpu_some_seconds"`
	CPUFullPressure    *Seconds `json:"pressure_cpu_full_seconds"`
	MemorySomePressure *Seconds `json:"pressure_memory_some_seconds"`
	MemoryFullPressure *Seconds `json:"pressure_memory_full_seconds"`
	IOSomePressure     *Seconds `json:"pressure_io_some_seconds"`
	IOFullPressure     *Seconds `json:"pressure_io_full_seconds"`

	OutputBytes *uint64 `json:"output_bytes"` // delivered; nil without Config.OutputLimit

	LeftoverKilled  *uint64  `json:"leftover_killed"`  // processes that outlived the program
	SetupSeconds    *Seconds `json:"setup_seconds"`    // before the program was created
	TeardownSeconds *Seconds `json:"teardown_seconds"` // after it ended

	Sources  map[string]string `json:"sources"`  // key → kernel file, "wait4" or "sampled"
	Enforced map[string]string `json:"enforced"` // requested limit → one of the By constants
	Limits   RequestedLimits   `json:"limits"`

	CgroupVersion *int       `json:"cgroup_version"`
	Cgroup        *string    `json:"cgroup"`
	CgroupBase64  string     `json:"cgroup_base64,omitempty"` // set by the method JSON, if Cgroup is no UTF-8
	PID           *int       `json:"pid"`
	Argv          []string   `json:"argv"`
	ArgvBase64    []string   `json:"argv_base64,omitempty"` // set by the method JSON, if Argv is no UTF-8
	ArgvTruncated bool       `json:"argv_truncated"`        // set by the method JSON: Argv is the beginning of the arguments only
	StartedAt     *string    `json:"started_at"`            // RFC 3339, UTC, microseconds
	Error         *ErrorInfo `json:"error"`

	// What Config.BestEffort did without, figures that are less than exact, whose memory limit it was if not the run's, and a
	// resource limit of the caller's that ended the program; never nil.
	Warnings []string `json:"warnings"`
}

// What enforces a limit: Result.Enforced.
const (
	ByCgroup    = "cgroup"
	ByRlimit    = "rlimit"    // of each process by itself
	ByTimer     = "timer"     // cgshim looks, and kills
	ByRelay     = "relay"     // the output passes through cgshim
	ByNamespace = "namespace" // a network namespace
	ByNothing   = "none"      // only with Config.BestEffort
)

// RequestedLimits are the limits as they were asked for; absent is not asked for.
type RequestedLimits struct {
	MemBytes        int64   `json:"mem_bytes,omitempty"`
	SwapBytes       int64   `json:"swap_bytes,omitempty"`
	PIDs            int64   `json:"pids,omitempty"`
	CPUs            float64 `json:"cpus,omitempty"`
	CPUWeight       uint64  `json:"cpu_weight,omitempty"`
	CPUShares       uint64  `json:"cpu_shares,omitempty"`
	CPUSetCPUs      string  `json:"cpuset_cpus,omitempty"`
	CPUSetMems      string  `json:"cpuset_mems,omitempty"`
	CPUTimeSeconds  Seconds `json:"cpu_time_seconds,omitempty"`
	WallTimeSeconds Seconds `json:"wall_time_seconds,omitempty"`
	GraceSeconds    Seconds `json:"grace_seconds,omitempty"`
	OutputBytes     int64   `json:"output_bytes,omitempty"`

	// Per device, "major:minor".
	DeviceReadBPS   map[string]uint64 `json:"device_read_bps,omitempty"`
	DeviceWriteBPS  map[string]uint64 `json:"device_write_bps,omitempty"`
	DeviceReadIOPS  map[string]uint64 `json:"device_read_iops,omitempty"`
	DeviceWriteIOPS map[string]uint64 `json:"device_write_iops,omitempty"`

	Ulimits map[string]RequestedRlimit `json:"ulimits,omitempty"` // per name, such as "nofile"
	Net     string                     `json:"net,omitempty"`     // "none"
}

// RequestedRlimit is one resource limit; nil is unlimited.
type RequestedRlimit struct {
	Soft *uint64 `json:"soft"`
	Hard *uint64 `json:"hard"`
}

// ErrorInfo is why a run failed.
type ErrorInfo struct {
	Step    string  `json:"step"`  // what was being done
	Errno   *string `json:"errno"` // "ENOENT"; nil if no system call failed
	Message string  `json:"message"`
	Hint    *string `json:"hint"` // what to do about it; nil if there is nothing to say

	exitStatus int
	cause      error
}

// Seconds is a duration in seconds. In JSON it has six digits and no exponent.
type Seconds float64

// MarshalJSON implements json.Marshaler.
func (s Seconds) MarshalJSON() ([]byte, error) {
	return s.append(nil), nil
}

// The exit statuses of cgshim itself; the program's own are passed through.
const (
	ExitLimit      = 124 // a limit or a cancellation gave the verdict, and the program's own status was 0
	ExitFailed     = 125 // cgshim failed
	ExitCannotExec = 126 // the program is there, but could not be executed
	ExitNotFound   = 127
	exitSignalBase = 128 // plus the signal that ended the program
)

// ExitStatus is what cgshim exits with: the program's own status, 128 plus the signal that ended it, or
// one of the constants above. A run that went over a limit, or was cancelled, is never a success.
func (r *Result) ExitStatus() int {
	switch {
	case r.Error != nil && r.Error.exitStatus != 0:
		return r.Error.exitStatus
	case r.Verdict == Failed:
		return ExitFailed
	case r.ExitCode != nil && *r.ExitCode == 0 && (limitOf[r.Verdict] != "" || r.Verdict == Cancelled):
		return ExitLimit
	case r.ExitCode != nil:
		return *r.ExitCode
	case r.Signal != nil:
		return exitSignalBase + *r.Signal
	}
	return ExitFailed
}

// limitOf is the name in limits_hit of the limit that a verdict is about.
var limitOf = map[Verdict]string{
	MemoryLimit: monitor.Memory, CPUTimeLimit: monitor.CPUTime, WallTimeLimit: monitor.WallTime, OutputLimit: monitor.Output,
}

// seconds is a duration as a result has it.
func seconds(d time.Duration) *Seconds {
	s := Seconds(d.Seconds())
	return &s
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
