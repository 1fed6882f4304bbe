// Package limits is the table of the limits of a run: it names each one everywhere, and says what of a cgroup enforces it. The schema and
// the manual take the names from here (tests/generate). Tests in shim and in cmd/cgshim fail if a name is missing anywhere.
package limits

import "github.com/cgshim/cgshim/cgroup"

// A Limit is one limit by all of its names; "" and nil are a name that it does not have.
type Limit struct {
	Flag     string   // without its dashes
	Key      string   // in the result's "limits"
	Enforced string   // in the result's "enforced"
	Hits     []string // in the result's "limits_hit", and in the event "limit"

	// Only is this limit, alone, if it was asked for. It is nil if no cgroup enforces the limit.
	Only func(*cgroup.Limits) (only cgroup.Limits, asked bool)
	// Reached reports whether the cgroup's counters tell that it was. It is nil if they can't: then Hits is empty, or the monitor
	// finds out.
	Reached func(*cgroup.Limits, *cgroup.Stats) bool
}

// All are the limits, in the order of the manual. They need no code that runs at the start of the program: a name is a constant, and a
// function refers to nothing around it.
var All = [...]Limit{
	{
		Flag: "mem", Key: "mem_bytes", Enforced: "mem", Hits: []string{"memory"},
		Only:    func(l *cgroup.Limits) (cgroup.Limits, bool) { return memory(l), l.Memory != 0 },
		Reached: func(l *cgroup.Limits, s *cgroup.Stats) bool { return l.Memory != 0 && s.MemoryHits.Value > 0 },
	},
	{
		// It is part of the memory limit, and is here for its names.
		Flag: "swap", Key: "swap_bytes", Enforced: "swap", Hits: []string{"swap"},
		Only:    func(l *cgroup.Limits) (cgroup.Limits, bool) { return memory(l), l.Swap != 0 },
		Reached: func(l *cgroup.Limits, s *cgroup.Stats) bool { return l.Swap > 0 && s.SwapHits.Value > 0 },
	},
	{
		Flag: "mem-high", Key: "mem_high_bytes", Enforced: "mem_high", Hits: []string{"mem_high"},
		Only: func(l *cgroup.Limits) (cgroup.Limits, bool) {
			return cgroup.Limits{MemoryHigh: l.MemoryHigh}, l.MemoryHigh != 0
		},
		Reached: func(l *cgroup.Limits, s *cgroup.Stats) bool { return l.MemoryHigh > 0 && s.HighHits.Value > 0 },
	},
	{
		Flag: "pids", Key: "pids", Enforced: "pids", Hits: []string{"pids"},
		Only:    func(l *cgroup.Limits) (cgroup.Limits, bool) { return cgroup.Limits{PIDs: l.PIDs}, l.PIDs != 0 },
		Reached: func(l *cgroup.Limits, s *cgroup.Stats) bool { return l.PIDs != 0 && s.PIDsDenied.Value > 0 },
	},
	{
		Flag: "cpus", Key: "cpus", Enforced: "cpus", Hits: []string{"cpus"},
		Only:    func(l *cgroup.Limits) (cgroup.Limits, bool) { return cgroup.Limits{CPUs: l.CPUs}, l.CPUs != 0 },
		Reached: func(l *cgroup.Limits, s *cgroup.Stats) bool { return l.CPUs != 0 && s.CPUThrottled.Value > 0 },
	},
	{
		Flag: "cpu-weight", Key: "cpu_weight", Enforced: "cpu_weight",
		Only: func(l *cgroup.Limits) (cgroup.Limits, bool) {
			return cgroup.Limits{CPUWeight: l.CPUWeight}, l.CPUWeight != 0
		},
	},
	{
		Flag: "cpu-shares", Key: "cpu_shares", Enforced: "cpu_shares",
		Only: func(l *cgroup.Limits) (cgroup.Limits, bool) {
			return cgroup.Limits{CPUShares: l.CPUShares}, l.CPUShares != 0
		},
	},
	{
		Flag: "cpuset-cpus", Key: "cpuset_cpus", Enforced: "cpuset_cpus",
		Only: func(l *cgroup.Limits) (cgroup.Limits, bool) {
			return cgroup.Limits{CPUSetCPUs: l.CPUSetCPUs}, l.CPUSetCPUs != ""
		},
	},
	{
		Flag: "cpuset-mems", Key: "cpuset_mems", Enforced: "cpuset_mems",
		Only: func(l *cgroup.Limits) (cgroup.Limits, bool) {
			return cgroup.Limits{CPUSetMems: l.CPUSetMems}, l.CPUSetMems != ""
		},
	},
	{
		Flag: "device-read-bps", Key: "device_read_bps", Enforced: "device_read_bps",
		Only: func(l *cgroup.Limits) (cgroup.Limits, bool) {
			return rates(l, func(io *cgroup.IOLimit) cgroup.IOLimit { return cgroup.IOLimit{ReadBPS: io.ReadBPS} })
		},
	},
	{
		Flag: "device-write-bps", Key: "device_write_bps", Enforced: "device_write_bps",
		Only: func(l *cgroup.Limits) (cgroup.Limits, bool) {
			return rates(l, func(io *cgroup.IOLimit) cgroup.IOLimit { return cgroup.IOLimit{WriteBPS: io.WriteBPS} })
		},
	},
	{
		Flag: "device-read-iops", Key: "device_read_iops", Enforced: "device_read_iops",
		Only: func(l *cgroup.Limits) (cgroup.Limits, bool) {
			return rates(l, func(io *cgroup.IOLimit) cgroup.IOLimit { return cgroup.IOLimit{ReadIOPS: io.ReadIOPS} })
		},
	},
	{
		Flag: "device-write-iops", Key: "device_write_iops", Enforced: "device_write_iops",
		Only: func(l *cgroup.Limits) (cgroup.Limits, bool) {
			return rates(l, func(io *cgroup.IOLimit) cgroup.IOLimit { return cgroup.IOLimit{WriteIOPS: io.WriteIOPS} })
		},
	},
	{Flag: "cpu-time", Key: "cpu_time_seconds", Enforced: "cpu_time", Hits: []string{"cpu_time"}},
	{Flag: "wall-time", Key: "wall_time_seconds", Enforced: "wall_time", Hits: []string{"wall_time"}},
	{Flag: "grace", Key: "grace_seconds"},
	{Flag: "output-limit", Key: "output_bytes", Enforced: "output", Hits: []string{"output"}},
	{Flag: "ulimit", Key: "ulimits", Enforced: "ulimit", Hits: []string{"ulimit_cpu", "ulimit_fsize"}},
	{Flag: "net", Key: "net", Enforced: "net"},
	{Flag: "shield", Key: "shield", Enforced: "shield"},
	{Flag: "fs-ro", Key: "fs_ro", Enforced: "fs"}, // the name of all three
	{Flag: "fs-rw", Key: "fs_rw"},
	{Flag: "fs-system", Key: "fs_system"},
}

// Names are the names of one kind.
func Names(kind func(*Limit) []string) []string {
	var list []string
	for i := range All {
		for _, name := range kind(&All[i]) {
			if name != "" {
				list = append(list, name)
			}
		}
	}
	return list
}

func memory(l *cgroup.Limits) cgroup.Limits {
	return cgroup.Limits{Memory: l.Memory, Swap: l.Swap, OOMGroup: true}
}

// rates is one rate of each device that has it.
func rates(l *cgroup.Limits, rate func(*cgroup.IOLimit) cgroup.IOLimit) (cgroup.Limits, bool) {
	var list []cgroup.IOLimit
	for i := range l.IO {
		only := rate(&l.IO[i])
		if only == (cgroup.IOLimit{}) {
			continue
		}
		only.Major, only.Minor = l.IO[i].Major, l.IO[i].Minor
		list = append(list, only)
	}
	return cgroup.Limits{IO: list}, list != nil
}
