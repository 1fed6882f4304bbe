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
type Started struct {
	Type          string  `json:"type"` // "started"
	SchemaVersion int     `json:"schema_version"`
	PID           int     `json:"pid"`
	Cgroup        *string `json:"cgroup"`
	CgroupBase64  string  `json:"cgroup_base64,omitempty"` // as in Result
	Manager       *string `json:"manager"`                 // who made the group's parent, see Place
	Placement     *string `json:"placement"`               // why the group is where it is, for people
	StartedAt     string  `json:"started_at"`              // as in Result

	// Born says that the program was created inside its cgroups (CLONE_INTO_CGROUP), and did not have to join them. It is not in
	// the JSON.
	Born bool `json:"-"`
}

// Sample is what the run has used so far: one comes every Config.Sample. The keys mean what they mean in
// Result, up to now.
type Sample struct {
	Type        string  `json:"type"` // "sample"
	WallSeconds Seconds `json:"wall_seconds"`
	Usage
}

// Usage is what a run has used so far, and now.
type Usage struct {
	MemoryBytes         *uint64  `json:"memory_bytes"` // charged now
	PeakMemoryBytes     *uint64  `json:"peak_memory_bytes"`
	MemoryAnonBytes     *uint64  `json:"memory_anon_bytes"` // now, and so the next three
	MemoryFileBytes     *uint64  `json:"memory_file_bytes"`
	MemoryKernelBytes   *uint64  `json:"memory_kernel_bytes"`
	SwapBytes           *uint64  `json:"swap_bytes"`
	CPUSeconds          *Seconds `json:"cpu_seconds"`
	CPUUserSeconds      *Seconds `json:"cpu_user_seconds"`
	CPUSystemSeconds    *Seconds `json:"cpu_system_seconds"`
	CPUThrottledSeconds *Seconds `json:"cpu_throttled_seconds"`
	PIDs                *uint64  `json:"pids"` // tasks now
	PIDsPeak            *uint64  `json:"pids_peak"`
	PIDsDenied          *uint64  `json:"pids_denied"`
	OOMKills            *uint64  `json:"oom_kills"`
	IOReadBytes         *uint64  `json:"io_read_bytes"`
	IOWriteBytes        *uint64  `json:"io_write_bytes"`
}

// LimitReached says that a limit was reached: at once if that ends the run, and otherwise when it is
// noticed, at the next sample or at the end. Each limit is told once.
type LimitReached struct {
	Type        string  `json:"type"`  // "limit"
	Limit       string  `json:"limit"` // as in Result.LimitsHit
	WallSeconds Seconds `json:"wall_seconds"`
	EndsRun     bool    `json:"ends_run"`
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
