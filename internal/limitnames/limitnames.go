// Package limitnames has the names of every limit of a run, in one table: of its flag, and of its keys in the JSON. The schema and the
// manual take them from here (tests/generate), and a test in cmd/cgshim fails if one of them is missing anywhere.
package limitnames

// A Limit is one limit by all of its names; "" and nil are a name that it does not have.
type Limit struct {
	Flag     string   // with no dashes
	Key      string   // in the result's "limits"
	Enforced string   // in the result's "enforced"
	Hits     []string // in the result's "limits_hit", and in the event "limit"
}

// All are the limits, in the order of --help.
var All = [...]Limit{
	{"mem", "mem_bytes", "mem", []string{"memory"}},
	{"swap", "swap_bytes", "swap", []string{"swap"}},
	{"pids", "pids", "pids", []string{"pids"}},
	{"cpus", "cpus", "cpus", []string{"cpus"}},
	{"cpu-weight", "cpu_weight", "cpu_weight", nil},
	{"cpu-shares", "cpu_shares", "cpu_shares", nil},
	{"cpuset-cpus", "cpuset_cpus", "cpuset_cpus", nil},
	{"cpuset-mems", "cpuset_mems", "cpuset_mems", nil},
	{"device-read-bps", "device_read_bps", "device_read_bps", nil},
	{"device-write-bps", "device_write_bps", "device_write_bps", nil},
	{"device-read-iops", "device_read_iops", "device_read_iops", nil},
	{"device-write-iops", "device_write_iops", "device_write_iops", nil},
	{"cpu-time", "cpu_time_seconds", "cpu_time", []string{"cpu_time"}},
	{"wall-time", "wall_time_seconds", "wall_time", []string{"wall_time"}},
	{"grace", "grace_seconds", "", nil},
	{"output-limit", "output_bytes", "output", []string{"output"}},
	{"ulimit", "ulimits", "ulimit", []string{"ulimit_cpu", "ulimit_fsize"}},
	{"net", "net", "net", nil},
}
