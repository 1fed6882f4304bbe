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
	// exit status 0
	OK Verdict = "ok"
	// another exit status
	NonzeroExit Verdict = "nonzero-exit"
	// by a signal that cgshim did not send
	Signaled Verdict = "signaled"
	// the kernel killed a process of the run for the run's own memory limit. For a limit above it, which is not the program's
	// fault, or one that the program has set below, it is how the program ended; "warnings" says whose limit above it was.
	MemoryLimit Verdict = "memory-limit"
	// cgshim killed the run for --cpu-time, or found when it had ended that it had gone over it
	CPUTimeLimit Verdict = "cpu-time-limit"
	// the same for --wall-time
	WallTimeLimit Verdict = "wall-time-limit"
	// the same for --output-limit
	OutputLimit Verdict = "output-limit"
	// cgshim was told to stop, or its caller has ended (--alive-fd, --die-with-caller)
	Cancelled Verdict = "cancelled"
	// the program never ran, or cgshim failed, or some of the output could not be delivered
	Failed Verdict = "error"
)

// A Result is everything there is to say about a run. Nil (null in JSON) is unknown, never 0.
//
// The comments are the words of the JSON Schema (their first paragraph) and of cgshim-result(5): make generate.
//
// In JSON: The last line of a run, always, and the only one without --events.
type Result struct {
	// Says that this line is the result.
	Type string `json:"type" jsonschema:"const=result"`
	// Within a version keys are only ever added.
	SchemaVersion int `json:"schema_version" jsonschema:"const=1"`
	// How the run ended. Of several limits, the first one that ended it; if none did, one that the final figures are above.
	//
	// A run that has ended by itself, a moment before it would have been killed, and whose cpu_seconds (of all processes, until
	// the last was killed) or wall_seconds is above its limit, has that verdict. Before "cancelled" come the limits, and before
	// the "error" of step "output" both.
	Verdict Verdict `json:"verdict"`

	// The program's own exit status, whatever the verdict; nil if a signal ended it, or it never ran.
	ExitCode *int `json:"exit_code" jsonschema:"minimum=0,maximum=255"`
	// The number of the signal that ended the program; nil if it exited, or never ran.
	Signal *int `json:"signal" jsonschema:"minimum=1,maximum=64"`
	// The signal's name, such as SIGKILL; nil without a signal, and for one that has no name.
	SignalName *string `json:"signal_name"`
	// Whether the kernel dumped core; nil if the program never ran.
	CoreDumped *bool `json:"core_dumped"`

	// The most memory that was charged to the run at any moment: all of its processes, page cache and kernel memory included. The
	// kernel charges in batches of 64 pages per CPU.
	//
	// From memory.peak (v2, since Linux 5.19), memory.max_usage_in_bytes (v1). Where there is neither, the memory is sampled every
	// 10 ms, and "warnings" says so; where the limit was reached, the limit is the peak.
	PeakMemoryBytes *uint64 `json:"peak_memory_bytes"`
	// CPU time of all processes of the run.
	//
	// From cpu.stat (v2; on hybrid hosts since Linux 4.15, without --cpu-time), cpuacct.usage (v1).
	CPUSeconds *Seconds `json:"cpu_seconds"`
	// Of it, in user mode.
	//
	// From cpu.stat, cpuacct.usage_user (v1). With cpu_system_seconds it adds up to cpu_seconds.
	CPUUserSeconds *Seconds `json:"cpu_user_seconds"`
	// Of it, in the kernel.
	//
	// From cpu.stat, cpuacct.usage_sys (v1).
	CPUSystemSeconds *Seconds `json:"cpu_system_seconds"`
	// From the program's creation to the end of the run; nil if it never ran.
	//
	// That is the program's end; with --wait-all it is that of the last process. It is when cgshim has seen it. A cgshim that was
	// stopped, or had to wait for a CPU, sees it late; but for whether the program ended before its --wall-time was over, the
	// kernel is asked, if it took longer than 20 ms, without --wait-all and since Linux 5.3: if so, this is at most the limit.
	WallSeconds *Seconds `json:"wall_seconds"`

	// Processes that the kernel killed for lack of memory: on v2 all, on v1 those that it chose. Nil on v2 before Linux 5.17,
	// unless it is 0 or 1.
	//
	// Also at limits that the program has set below its own group, as a cgshim(1) that is the program may, and at limits above it:
	// those do not make the verdict "memory-limit" (memory.events.local). From memory.events (v2), memory.oom_control (v1; without
	// those in groups that are gone by the end). At the limit of --mem the whole run is killed: v2 counts all its processes, and
	// v1 those only that the kernel has chosen, which is one in most cases. Of a single process both tell 1. On v2 the first
	// victim, which the kernel counts twice, is taken off again: that takes its "oom_group_kill" (since Linux 5.17), and makes it
	// one too few if the victim, one of several, was gone before the kernel counted the others.
	OOMKills *uint64 `json:"oom_kills"`
	// The most tasks, threads included, at any moment.
	//
	// From pids.peak (since Linux 6.1, v1 later).
	PIDsPeak *uint64 `json:"pids_peak"`
	// Forks that the process limit refused.
	//
	// From pids.events.
	PIDsDenied *uint64 `json:"pids_denied"`
	// Every limit that was reached, also those that ended nothing.
	//
	// The last two are resource limits of --ulimit, named where it is proved that one of them ended the program itself: by SIGXCPU
	// or SIGKILL, with as much CPU time (by the clock that the kernel holds against the limit, which counts in ticks and may be
	// ahead of cpu_seconds) as the soft or the hard limit; or by SIGXFSZ. Limits that the program has set itself are not. (v1
	// can't tell memory that was reclaimed at the limit; there "memory" is an OOM kill.)
	LimitsHit []string `json:"limits_hit" jsonschema:"values.limits=hits,uniqueItems"` // never nil

	// The most swap in use at any moment.
	//
	// From memory.swap.peak (v2, since Linux 6.5). Elsewhere it is 0 if the run may have no swap (memory.swap.max) or the host has
	// none (/proc/swaps), sampled with --sample, and else nil.
	PeakSwapBytes *uint64 `json:"peak_swap_bytes"`
	// How long tasks were held back by the CPU bandwidth limit; nil without the cpu controller.
	//
	// From cpu.stat. The controller is used with a CPU limit only, unless it comes with another.
	CPUThrottledSeconds *Seconds `json:"cpu_throttled_seconds"`
	// Bytes read from block devices; what the page cache had is not.
	//
	// v2: by all processes during the run, from io.stat. Devices that stack on others (dm, md) are not counted twice. v1 does not
	// count what goes through the page cache, nor, since Linux 6.10, disks that nobody throttles: there it is what wait4(2) tells
	// of the program and what was waited for, unless blkio.throttle.io_service_bytes_recursive has more; nil if there were other
	// processes, as for voluntary_context_switches.
	IOReadBytes *uint64 `json:"io_read_bytes"`
	// Bytes written to block devices. v2: during the run; v1: also what the page cache was left to write.
	//
	// From where io_read_bytes is. On v2, what the page cache holds is not written yet.
	IOWriteBytes *uint64 `json:"io_write_bytes"`

	// Anonymous memory: the largest of the readings at every sample, before a kill, and then at the end of the run; nil if nobody
	// looked before the end.
	//
	// The kernel tells only what there is at the moment. It is read at every --sample, and right before a kill by cgshim, from
	// memory.stat; or it is sampled. What the kernel tells may be two seconds old where no more than 64 pages for each CPU have
	// changed since: it counts them on each CPU, and adds them up then.
	MemoryAnonBytes *uint64 `json:"memory_anon_bytes"`
	// Page cache and shared memory: the largest of the same readings.
	MemoryFileBytes *uint64 `json:"memory_file_bytes"`
	// The kernel's own structures: the largest of the same readings.
	//
	// From memory.stat (v2, since Linux 5.18), memory.kmem.usage_in_bytes (v1).
	MemoryKernelBytes *uint64 `json:"memory_kernel_bytes"`

	// How often the program, and what it has waited for, gave up the CPU to wait; nil if there were other processes.
	//
	// From wait4(2). It can't tell of orphans, of those that were killed with their parents, and of children of a program that
	// ignores SIGCHLD. The CPU time says whether there were: of all that were waited for, wait4(2) tells as much as the group. A
	// program that has started very many threads can be taken for one that has.
	VoluntarySwitches *uint64 `json:"voluntary_context_switches"`
	// How often they were made to give it up.
	InvoluntarySwitches *uint64 `json:"involuntary_context_switches"`

	// How long some task of the run waited for the CPU; nil where the kernel has no PSI.
	//
	// The total of cpu.pressure (v2 since Linux 4.20, and v1 on hybrid hosts).
	CPUSomePressure *Seconds `json:"pressure_cpu_some_seconds"`
	// How long every task that was not idle of the run waited for the CPU; nil where the kernel has no PSI.
	CPUFullPressure *Seconds `json:"pressure_cpu_full_seconds"`
	// How long some task of the run waited for memory; nil where the kernel has no PSI.
	//
	// The total of memory.pressure.
	MemorySomePressure *Seconds `json:"pressure_memory_some_seconds"`
	// How long every task that was not idle of the run waited for memory; nil where the kernel has no PSI.
	MemoryFullPressure *Seconds `json:"pressure_memory_full_seconds"`
	// How long some task of the run waited for I/O; nil where the kernel has no PSI.
	//
	// The total of io.pressure.
	IOSomePressure *Seconds `json:"pressure_io_some_seconds"`
	// How long every task that was not idle of the run waited for I/O; nil where the kernel has no PSI.
	IOFullPressure *Seconds `json:"pressure_io_full_seconds"`

	// Bytes of standard output and error that were delivered; nil without an output limit.
	OutputBytes *uint64 `json:"output_bytes"`

	// Processes that outlived the program by their own doing, and were killed.
	LeftoverKilled *uint64 `json:"leftover_killed"`
	// cgshim's own time before the program was created.
	SetupSeconds *Seconds `json:"setup_seconds"`
	// cgshim's own time after the run had ended.
	TeardownSeconds *Seconds `json:"teardown_seconds"`

	// For each figure that is known, the kernel file that it is from, or wait4 or sampled.
	Sources map[string]string `json:"sources" jsonschema:"values.minLength=1"`
	// For each limit that was asked for, and for the shield, what enforces it.
	Enforced map[string]string `json:"enforced" jsonschema:"keys.limits=enforced,values.words=By"`
	// The limits as they were asked for; what was not asked for is absent.
	Limits RequestedLimits `json:"limits"`

	// Where the host has its controllers; nil if that was not found out.
	CgroupVersion *int `json:"cgroup_version" jsonschema:"enum=1 2"`
	// The path of the run's cgroup below each mount point; nil if it had none. U+FFFD is in the place of each byte that is no UTF-8.
	Cgroup *string `json:"cgroup" jsonschema:"pattern=^/"`
	// The bytes of cgroup, in base64; only there if they are no UTF-8.
	CgroupBase64 string `json:"cgroup_base64,omitempty" jsonschema:"contentEncoding=base64"` // set by the method JSON
	// The program's process id, as cgshim saw it; nil if it never ran.
	PID *int `json:"pid" jsonschema:"minimum=1"`
	// The program and its arguments. U+FFFD is in the place of each byte that is no UTF-8. Only the first of them, and the last of
	// these cut, if argv_truncated is true.
	Argv []string `json:"argv"`
	// The bytes of each string of argv, in base64; only there if one of them is no UTF-8.
	ArgvBase64 []string `json:"argv_base64,omitempty" jsonschema:"values.contentEncoding=base64"` // set by the method JSON
	// Whether argv is only a beginning, because a result has to fit into a pipe of 64 KiB. Of such a result warnings, error.message,
	// error.hint, the cpuset limits and the paths of the file system may be cut, too: they end in U+2026 then.
	//
	// A result is at most 63 KiB long, in one write, so that a pipe takes it before anybody reads; one of cgshim batch, with an id
	// of at most 1000 bytes, 64 KiB. More than 8 warnings, and paths of a flag, are left out then.
	ArgvTruncated bool `json:"argv_truncated"` // set by the method JSON
	// When the program was created, in UTC with microseconds (RFC 3339); nil if it never ran.
	StartedAt *string `json:"started_at" jsonschema:"format=date-time"`
	// Why the program never ran, or what went wrong; nil if nothing did.
	//
	// Beside a verdict that is not "error" it is something that does not touch the verdict.
	Error *ErrorInfo `json:"error"`

	// What best effort did without, figures that are less than exact, a memory limit above the run's for which the kernel killed,
	// and a resource limit of the caller's that ended the program.
	//
	// Each is a sentence. A resource limit of the caller's is one that the program has from there, and not from --ulimit.
	Warnings []string `json:"warnings"` // never nil
}

// What enforces a limit: Result.Enforced.
const (
	// the run's cgroup
	ByCgroup = "cgroup"
	// of each process by itself
	ByRlimit = "rlimit"
	// cgshim looks, and kills
	ByTimer = "timer"
	// the output passes through cgshim
	ByRelay = "relay"
	// a network namespace
	ByNamespace = "namespace"
	// Landlock
	ByLandlock = "landlock"
	// nothing does: only with --best-effort, and for the shield where the kernel has none
	ByNothing = "none"
)

// RequestedLimits are the limits as they were asked for; absent is not asked for.
//
// In JSON: The limits that were asked for.
type RequestedLimits struct {
	MemBytes        int64   `json:"mem_bytes,omitempty" jsonschema:"minimum=0"`      // --mem
	SwapBytes       int64   `json:"swap_bytes,omitempty" jsonschema:"minimum=0"`     // --swap
	MemHighBytes    int64   `json:"mem_high_bytes,omitempty" jsonschema:"minimum=0"` // --mem-high
	PIDs            int64   `json:"pids,omitempty" jsonschema:"minimum=0"`           // --pids
	CPUs            float64 `json:"cpus,omitempty" jsonschema:"exclusiveMinimum=0"`  // --cpus
	CPUWeight       uint64  `json:"cpu_weight,omitempty"`                            // --cpu-weight
	CPUShares       uint64  `json:"cpu_shares,omitempty"`                            // --cpu-shares
	CPUSetCPUs      string  `json:"cpuset_cpus,omitempty"`                           // --cpuset-cpus
	CPUSetMems      string  `json:"cpuset_mems,omitempty"`                           // --cpuset-mems
	CPUTimeSeconds  Seconds `json:"cpu_time_seconds,omitempty"`                      // --cpu-time
	WallTimeSeconds Seconds `json:"wall_time_seconds,omitempty"`                     // --wall-time
	GraceSeconds    Seconds `json:"grace_seconds,omitempty"`                         // --grace
	OutputBytes     int64   `json:"output_bytes,omitempty" jsonschema:"minimum=0"`   // --output-limit

	// --device-read-bps, by device number
	DeviceReadBPS map[string]uint64 `json:"device_read_bps,omitempty" jsonschema:"keys.pattern=^[0-9]+:[0-9]+$,values.minimum=1"`
	// --device-write-bps, by device number
	DeviceWriteBPS map[string]uint64 `json:"device_write_bps,omitempty" jsonschema:"keys.pattern=^[0-9]+:[0-9]+$,values.minimum=1"`
	// --device-read-iops, by device number
	DeviceReadIOPS map[string]uint64 `json:"device_read_iops,omitempty" jsonschema:"keys.pattern=^[0-9]+:[0-9]+$,values.minimum=1"`
	// --device-write-iops, by device number
	DeviceWriteIOPS map[string]uint64 `json:"device_write_iops,omitempty" jsonschema:"keys.pattern=^[0-9]+:[0-9]+$,values.minimum=1"`

	// --ulimit, by name
	//
	// Nil is unlimited.
	Ulimits map[string]RequestedRlimit `json:"ulimits,omitempty"`
	Net     string                     `json:"net,omitempty" jsonschema:"const=none"` // --net

	Shield   string   `json:"shield,omitempty" jsonschema:"enum=auto on off"` // --shield
	FSRo     []string `json:"fs_ro,omitempty"`                                // --fs-ro
	FSRw     []string `json:"fs_rw,omitempty"`                                // --fs-rw
	FSSystem bool     `json:"fs_system,omitempty"`                            // --fs-system
}

// RequestedRlimit is one resource limit; nil is unlimited.
//
// In JSON: A resource limit; null is unlimited.
type RequestedRlimit struct {
	Soft *uint64 `json:"soft"`
	Hard *uint64 `json:"hard"`
}

// ErrorInfo is why a run failed.
//
// In JSON: What went wrong.
type ErrorInfo struct {
	// What was being done.
	//
	// Before the program runs it is usage, privileges, open, signals, descriptors, threads, memory, stage, cgroup, limit, join,
	// oom-score-adj, chdir, exec, keep-fd, net, clone, cpuset, rlimit, user, no-new-privs, landlock, pdeathsig or output; or cancelled (by a
	// request of cgshim batch, its end, or a signal while files were opened, before it began; the verdict is "cancelled"). After
	// that it is cpu-time, kill, output, wait, stats or remove.
	Step string `json:"step" jsonschema:"minLength=1"`
	// The errno's name, such as ENOENT; nil if no system call failed.
	Errno   *string `json:"errno"`
	Message string  `json:"message" jsonschema:"minLength=1"`
	// What to do about it; nil if there is nothing useful to say.
	Hint *string `json:"hint"`

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
