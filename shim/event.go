package shim

import (
	"time"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/shim/internal/jsonline"
)

// An Event is something that happened during a run, or a Sample: see Config.OnEvent. Events have a
// JSON form of one line; nil (null in JSON) is unknown, never 0.
type Event interface {
	// JSON is the event on one line, with a newline.
	JSON() []byte
}

// Started says that the program is running.
//
// In JSON: The program runs.
type Started struct {
	Type          string `json:"type" jsonschema:"const=started"`
	SchemaVersion int    `json:"schema_version" jsonschema:"const=1"`
	// As in the result.
	PID int `json:"pid" jsonschema:"minimum=1"`
	// As in the result.
	Cgroup *string `json:"cgroup" jsonschema:"pattern=^/"`
	// As in the result.
	CgroupBase64 string `json:"cgroup_base64,omitempty" jsonschema:"contentEncoding=base64"`
	// Who made the group's parent: cgshim itself, or systemd, by a scope; nil without a group.
	Manager *string `json:"manager" jsonschema:"enum=cgroupfs systemd"`
	// Why the group is where it is, for people; nil without a group.
	Placement *string `json:"placement"`
	// As in the result.
	StartedAt string `json:"started_at" jsonschema:"format=date-time"`

	// Born says that the program was created inside its cgroups (CLONE_INTO_CGROUP), and did not have to join them. It is not in
	// the JSON.
	Born bool `json:"-"`
}

// Sample is what the run has used so far: one comes every Config.Sample. The keys mean what they mean in
// Result, up to now.
//
// In JSON: What the run has used; one comes every --sample. The keys mean what they mean in the result.
type Sample struct {
	Type        string  `json:"type" jsonschema:"const=sample"`
	WallSeconds Seconds `json:"wall_seconds"` // Since the program's creation.
	Usage
}

// Usage is what a run has used so far, and now.
type Usage struct {
	MemoryBytes         *uint64  `json:"memory_bytes"`          // Charged now.
	PeakMemoryBytes     *uint64  `json:"peak_memory_bytes"`     // So far.
	MemoryAnonBytes     *uint64  `json:"memory_anon_bytes"`     // Now.
	MemoryFileBytes     *uint64  `json:"memory_file_bytes"`     // Now.
	MemoryKernelBytes   *uint64  `json:"memory_kernel_bytes"`   // Now.
	SwapBytes           *uint64  `json:"swap_bytes"`            // Now.
	CPUSeconds          *Seconds `json:"cpu_seconds"`           // So far.
	CPUUserSeconds      *Seconds `json:"cpu_user_seconds"`      // So far.
	CPUSystemSeconds    *Seconds `json:"cpu_system_seconds"`    // So far.
	CPUThrottledSeconds *Seconds `json:"cpu_throttled_seconds"` // So far.
	PIDs                *uint64  `json:"pids"`                  // Tasks now.
	PIDsPeak            *uint64  `json:"pids_peak"`             // So far.
	PIDsDenied          *uint64  `json:"pids_denied"`           // So far.
	OOMKills            *uint64  `json:"oom_kills"`             // So far.
	IOReadBytes         *uint64  `json:"io_read_bytes"`         // So far.
	IOWriteBytes        *uint64  `json:"io_write_bytes"`        // So far.
}

// LimitReached says that a limit was reached: at once if that ends the run, and otherwise when it is
// noticed, at the next sample or at the end. Each limit is told once.
//
// In JSON: A limit was reached. Each is told once.
type LimitReached struct {
	Type string `json:"type" jsonschema:"const=limit"`
	// Its name, as in the result's limits_hit.
	Limit string `json:"limit" jsonschema:"limits=hits"`
	// Since the program's creation; of a limit that ends nothing, when that was noticed.
	WallSeconds Seconds `json:"wall_seconds"`
	// Whether it is what ends the run, or gives the verdict of one that has ended by itself.
	EndsRun bool `json:"ends_run"`
}

// JSON implements Event.
func (e *Started) JSON() []byte {
	exact := *e
	exact.CgroupBase64 = inexact(e.Cgroup)
	return jsonline.Encode(&exact, false)
}

// JSON implements Event.
func (e *Sample) JSON() []byte { return jsonline.Encode(e, false) }

// JSON implements Event.
func (e *LimitReached) JSON() []byte { return jsonline.Encode(e, false) }

// UsageOf is the usage that the counters of a run's group tell.
func UsageOf(s *cgroup.Stats) Usage {
	return Usage{
		MemoryBytes:         value(s.MemoryCurrent),
		PeakMemoryBytes:     value(s.MemoryPeak),
		MemoryAnonBytes:     value(s.MemoryAnon),
		MemoryFileBytes:     value(s.MemoryFile),
		MemoryKernelBytes:   value(s.MemoryKernel),
		SwapBytes:           value(s.SwapCurrent),
		CPUSeconds:          valueSeconds(s.CPUUsage),
		CPUUserSeconds:      valueSeconds(s.CPUUser),
		CPUSystemSeconds:    valueSeconds(s.CPUSystem),
		CPUThrottledSeconds: valueSeconds(s.CPUThrottled),
		PIDs:                value(s.PIDsCurrent),
		PIDsPeak:            value(s.PIDsPeak),
		PIDsDenied:          value(s.PIDsDenied),
		OOMKills:            value(s.OOMKills),
		IOReadBytes:         value(s.IORead),
		IOWriteBytes:        value(s.IOWrite),
	}
}

func value(f cgroup.Figure) *uint64 {
	if !f.Known() {
		return nil
	}
	return &f.Value
}

func valueSeconds(f cgroup.Figure) *Seconds {
	if !f.Known() {
		return nil
	}
	return seconds(time.Duration(f.Value))
}
