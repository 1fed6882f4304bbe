package rungroup

import "github.com/cgshim/cgshim/cgroup"

// A NamedLimit is one limit by its name in a result.
type NamedLimit struct {
	Name   string
	Limits cgroup.Limits
}

// LimitsByName takes the limits apart. Swap is part of the memory limit, and is here for its name.
func LimitsByName(l *cgroup.Limits) []NamedLimit {
	var list []NamedLimit
	add := func(asked bool, name string, limits cgroup.Limits) {
		if asked {
			list = append(list, NamedLimit{name, limits})
		}
	}
	memory := cgroup.Limits{Memory: l.Memory, Swap: l.Swap, OOMGroup: true}
	add(l.Memory != 0, "mem", memory)
	add(l.Swap != 0, "swap", memory)
	add(l.PIDs != 0, "pids", cgroup.Limits{PIDs: l.PIDs})
	add(l.CPUs != 0, "cpus", cgroup.Limits{CPUs: l.CPUs})
	add(l.CPUWeight != 0, "cpu_weight", cgroup.Limits{CPUWeight: l.CPUWeight})
	add(l.CPUShares != 0, "cpu_shares", cgroup.Limits{CPUShares: l.CPUShares})
	add(l.CPUSetCPUs != "", "cpuset_cpus", cgroup.Limits{CPUSetCPUs: l.CPUSetCPUs})
	add(l.CPUSetMems != "", "cpuset_mems", cgroup.Limits{CPUSetMems: l.CPUSetMems})
	rates := map[string][]cgroup.IOLimit{}
	for _, io := range l.IO {
		device := cgroup.IOLimit{Major: io.Major, Minor: io.Minor}
		for name, limit := range map[string]cgroup.IOLimit{
			"device_read_bps": {ReadBPS: io.ReadBPS}, "device_write_bps": {WriteBPS: io.WriteBPS},
			"device_read_iops": {ReadIOPS: io.ReadIOPS}, "device_write_iops": {WriteIOPS: io.WriteIOPS},
		} {
			if limit != (cgroup.IOLimit{}) {
				limit.Major, limit.Minor = device.Major, device.Minor
				rates[name] = append(rates[name], limit)
			}
		}
	}
	for name, limits := range rates {
		add(true, name, cgroup.Limits{IO: limits})
	}
	return list
}

// Hits names the limits that were reached, as far as the cgroup's counters tell.
func (g *Group) Hits(s *cgroup.Stats) []string {
	l := &g.Limits
	var names []string
	for _, hit := range []struct {
		name string
		yes  bool
	}{
		{"memory", g.OwnOOM(s) || l.Memory != 0 && s.MemoryHits.Value > 0},
		{"swap", l.Swap > 0 && s.SwapHits.Value > 0},
		{"pids", l.PIDs != 0 && s.PIDsDenied.Value > 0},
		{"cpus", l.CPUs != 0 && s.CPUThrottled.Value > 0},
	} {
		if hit.yes {
			names = append(names, hit.name)
		}
	}
	return names
}
