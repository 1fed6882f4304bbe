package cgroup

import "golang.org/x/sys/unix"

func (g *v2) stats(s *Stats, r *reader, parts Part) {
	if parts&(PartMemory|PartMemoryPeak) != 0 {
		s.MemoryPeak = r.number(g.dir+"/memory.peak", 1) // since Linux 5.19
	}
	if parts&PartMemory != 0 {
		if parts&PartCurrent != 0 {
			s.MemoryCurrent = r.number(g.dir+"/memory.current", 1)
			s.SwapCurrent = r.number(g.dir+"/memory.swap.current", 1)
		}
		r.keys(g.dir+"/memory.stat", 1, map[string]*Figure{
			"anon": &s.MemoryAnon, "file": &s.MemoryFile, "kernel": &s.MemoryKernel,
		})
		s.SwapPeak = r.number(g.dir+"/memory.swap.peak", 1) // since Linux 6.5
		if limit, ok := r.read(g.dir + "/memory.swap.max"); ok && !s.SwapPeak.Known() && limit == "0\n" {
			s.SwapPeak = Figure{Source: "memory.swap.max"}
		}
		r.noSwap(s)
		r.keys(g.dir+"/memory.swap.events", 1, map[string]*Figure{"max": &s.SwapHits}) // since Linux 4.18
	}
	if parts&(PartMemory|PartOOM) != 0 {
		var ooms, groupKills Figure
		r.keys(g.dir+"/memory.events", 1, map[string]*Figure{
			"max": &s.MemoryHits, "high": &s.HighHits, "oom": &ooms, "oom_kill": &s.OOMKills, "oom_group_kill": &groupKills,
		})
		g.whoseOOM(s, r, ooms.Value)
		s.OOMKills = onceEach(s.OOMKills, groupKills)
	}
	if parts&(PartCPU|PartCPUUsage) != 0 {
		r.keys(g.dir+"/cpu.stat", 1000, map[string]*Figure{
			"usage_usec": &s.CPUUsage, "user_usec": &s.CPUUser, "system_usec": &s.CPUSystem,
			"throttled_usec": &s.CPUThrottled, // only with the cpu controller
		})
	}
	if parts&PartPIDs != 0 {
		if parts&PartCurrent != 0 {
			s.PIDsCurrent = r.number(g.dir+"/pids.current", 1)
		}
		s.PIDsPeak = r.number(g.dir+"/pids.peak", 1) // since Linux 6.1
		r.keys(g.dir+"/pids.events", 1, map[string]*Figure{"max": &s.PIDsDenied})
	}
	if parts&PartIO != 0 {
		r.ioStat(g.dir+"/io.stat", map[string]*Figure{"rbytes": &s.IORead, "wbytes": &s.IOWrite})
	}
	if parts&PartPressure != 0 {
		r.pressures(g.dir, s)
	}
}

// onceEach is how many processes were killed, of the kernel's count of OOM kills. Whenever a group is killed as a whole
// (memory.oom.group), the kernel counts the first victim twice, unless that has ended before the second time: hence at least 1.
// Before Linux 5.17 it does not tell how often that was, and a count of two can be one process: then the number is unknown.
func onceEach(kills, groupKills Figure) Figure {
	switch {
	case kills.Value < 2:
		return kills
	case !groupKills.Known():
		return Figure{}
	}
	kills.Value -= min(groupKills.Value, kills.Value-1)
	return kills
}

// whoseOOM finds out whose limit was why processes were killed. "oom" counts at the group whose limit it was, "oom_kill" where
// the victim was, and "oom_group_kill" (since Linux 5.17) at the group that was killed as a whole for it. memory.events has
// that of the groups below added, memory.events.local (since Linux 5.2) has not; all is how many "oom" the former tells of.
func (g *v2) whoseOOM(s *Stats, r *reader, all uint64) {
	var reached, high, ooms, kills, groupKills Figure
	r.keys(g.dir+"/memory.events.local", 1, map[string]*Figure{
		"max": &reached, "high": &high, "oom": &ooms, "oom_kill": &kills, "oom_group_kill": &groupKills,
	})
	if ooms.Known() {
		s.MemoryHits, s.HighHits = reached, high
	} else {
		ooms, kills = Figure{Value: all}, s.OOMKills // before, memory.events was the local one
	}
	s.OwnOOMKills, s.AboveOOMKills = s.OOMKills, s.OOMKills
	s.OwnOOMKills.Value, s.AboveOOMKills.Value = 0, 0
	victims := kills.Value + groupKills.Value // of this limit or one above
	switch {
	case ooms.Value > 0 && (all == ooms.Value || !groupKills.Known()): // of no limit below
		s.OwnOOMKills.Value = s.OOMKills.Value
	case ooms.Value > 0:
		s.OwnOOMKills.Value = victims
	case all == 0:
		s.AboveOOMKills.Value = s.OOMKills.Value
	default:
		s.AboveOOMKills.Value = victims
	}
}

// watchOOM polls memory.events itself, which takes none of the user's inotify instances: a read arms it.
func (g *v2) watchOOM(bool) (*OOMWatch, error) {
	fd, err := openFile(g.dir+"/memory.events", unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	var seen uint64
	w := &OOMWatch{fd: fd, above: -1, events: unix.POLLPRI, read: func(fd int) uint64 {
		content, err := readOpen(fd)
		if err != nil {
			return 0
		}
		ooms, _ := keyed(content, "oom")
		kills, _ := keyed(content, "oom_kill")
		before := seen
		seen = ooms + kills
		return seen - before
	}}
	w.Events()
	return w, nil
}
