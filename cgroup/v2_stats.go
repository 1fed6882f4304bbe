package cgroup

import (
	"errors"

	"golang.org/x/sys/unix"
)

func (g *v2) stats(s *Stats, r *reader, parts part) {
	if parts&(memoryPart|peakPart) != 0 {
		s.MemoryPeak = r.number(g.dir+"/memory.peak", 1) // since Linux 5.19
	}
	if parts&memoryPart != 0 {
		if parts&nowPart != 0 {
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
	if parts&(memoryPart|oomPart) != 0 {
		r.keys(g.dir+"/memory.events", 1, map[string]*Figure{"max": &s.MemoryHits, "oom_kill": &s.OOMKills})
		g.ownOOM(s, r)
	}
	if parts&(cpuPart|cpuUsagePart) != 0 {
		r.keys(g.dir+"/cpu.stat", 1000, map[string]*Figure{
			"usage_usec": &s.CPUUsage, "user_usec": &s.CPUUser, "system_usec": &s.CPUSystem,
			"throttled_usec": &s.CPUThrottled, // only with the cpu controller
		})
	}
	if parts&pidsPart != 0 {
		if parts&nowPart != 0 {
			s.PIDsCurrent = r.number(g.dir+"/pids.current", 1)
		}
		s.PIDsPeak = r.number(g.dir+"/pids.peak", 1) // since Linux 6.1
		r.keys(g.dir+"/pids.events", 1, map[string]*Figure{"max": &s.PIDsDenied})
	}
	if parts&ioPart != 0 {
		r.ioStat(g.dir+"/io.stat", map[string]*Figure{"rbytes": &s.IORead, "wbytes": &s.IOWrite})
	}
	if parts&pressurePart != 0 {
		r.pressures(g.dir, s)
	}
}

// ownOOM reads what happened at the limits of this group and those above (memory.events.local, since Linux 5.2), for
// memory.events has that of the groups below added.
func (g *v2) ownOOM(s *Stats, r *reader) {
	var reached, ooms, kills, groupKills Figure
	r.keys(g.dir+"/memory.events.local", 1, map[string]*Figure{
		"max": &reached, "oom": &ooms, "oom_kill": &kills, "oom_group_kill": &groupKills, // the last since 5.17
	})
	switch {
	case !kills.Known():
		s.OwnOOMKills = s.OOMKills
		return
	case !groupKills.Known() && ooms.Value > 0:
		s.OwnOOMKills = s.OOMKills
	default:
		s.OwnOOMKills = kills
		s.OwnOOMKills.Value += groupKills.Value
	}
	s.MemoryHits = reached
}

// watchOOM watches memory.events with inotify.
func (g *v2) watchOOM(above bool) (int, error) {
	if above {
		return -1, errors.ErrUnsupported
	}
	watch, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return -1, &Error{Op: "inotify", Err: err}
	}
	if _, err := unix.InotifyAddWatch(watch, g.dir+"/memory.events", unix.IN_MODIFY); err != nil {
		unix.Close(watch)
		return -1, &Error{Op: "watch", Path: g.dir + "/memory.events", Err: err}
	}
	return watch, nil
}
