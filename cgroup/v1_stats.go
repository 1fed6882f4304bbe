package cgroup

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

func (g *v1) stats(s *Stats, r *reader, parts Part) {
	if dir, ok := g.of[Memory]; ok {
		g.memoryStats(dir, s, r, parts)
	}
	if dir, ok := g.of[CPUAcct]; ok && parts&(PartCPU|PartCPUUsage) != 0 {
		g.cpuStats(dir, s, r, parts)
	}
	if dir, ok := g.of[CPU]; ok && parts&PartCPU != 0 {
		r.keys(dir+"/cpu.stat", 1, map[string]*Figure{"throttled_time": &s.CPUThrottled})
	}
	if dir, ok := g.of[PIDs]; ok && parts&PartPIDs != 0 {
		if parts&PartCurrent != 0 {
			s.PIDsCurrent = r.number(dir+"/pids.current", 1)
		}
		s.PIDsPeak = r.number(dir+"/pids.peak", 1) // since Linux 6.1 on v2, later on v1
		r.keys(dir+"/pids.events", 1, map[string]*Figure{"max": &s.PIDsDenied})
	}
	if dir, ok := g.of[IO]; ok && parts&PartIO != 0 {
		ioStats(dir, s, r)
	}
	if g.unified != "" && parts&PartPressure != 0 {
		r.pressures(g.unified, s)
	}
}

func (g *v1) memoryStats(dir string, s *Stats, r *reader, parts Part) {
	if parts&(PartMemory|PartMemoryPeak) != 0 {
		s.MemoryPeak = r.number(dir+"/memory.max_usage_in_bytes", 1)
	}
	if parts&PartMemory != 0 {
		if parts&PartCurrent != 0 {
			s.MemoryCurrent = r.number(dir+"/memory.usage_in_bytes", 1)
		}
		r.keys(dir+"/memory.stat", 1, map[string]*Figure{
			"total_rss": &s.MemoryAnon, "total_cache": &s.MemoryFile, "total_swap": &s.SwapCurrent,
		})
		s.MemoryKernel = r.number(dir+"/memory.kmem.usage_in_bytes", 1)
		r.noSwap(s) // memory.memsw.max_usage_in_bytes is RAM and swap together
		// Later, somebody may have lowered the limit, or turned swap on or off.
		unreached := r.warm.isPrepared() && s.SwapPeak.Known() && farBelow(s.MemoryPeak, g.memory.Load())
		if r.opens == 0 && !unreached {
			if hits := r.number(dir+"/memory.failcnt", 1); hits.Value > 0 {
				s.MemoryHits = hits // 0 says nothing: without swap the kernel fails on memsw first, uncounted
			}
			if hits := r.number(dir+"/memory.memsw.failcnt", 1); hits.Value > 0 {
				s.SwapHits = hits
			}
		}
	}
	if parts&(PartMemory|PartOOM) != 0 {
		// since Linux 4.13; not in memory.stat
		r.keys(dir+"/memory.oom_control", 1, map[string]*Figure{"oom_kill": &s.OwnOOMKills})
		s.OOMKills = s.OwnOOMKills
		if r.opens == 0 {
			s.OOMKills.Value += oomKillsBelow(dir)
		}
	}
}

// cpuStats reads cpuacct's figures, or those of the cgroup2 directory that stands for it: see Options.Frugal.
func (g *v1) cpuStats(dir string, s *Stats, r *reader, parts Part) {
	if dir == g.unified {
		r.keys(dir+"/"+cpuStatFile, 1000, map[string]*Figure{"usage_usec": &s.CPUUsage, "user_usec": &s.CPUUser, "system_usec": &s.CPUSystem})
		return
	}
	s.CPUUsage = r.number(dir+"/cpuacct.usage", 1)
	if parts&PartCPU == 0 {
		return
	}
	s.CPUUser = r.number(dir+"/cpuacct.usage_user", 1) // since Linux 4.8
	s.CPUSystem = r.number(dir+"/cpuacct.usage_sys", 1)
	if !s.CPUUser.Known() && r.opens == 0 {
		const userHZ = 100 // fixed for user space on amd64 and arm64
		r.keys(dir+"/cpuacct.stat", 1e9/userHZ, map[string]*Figure{"user": &s.CPUUser, "system": &s.CPUSystem})
	}
	scaleCPU(s)
}

func ioStats(dir string, s *Stats, r *reader) {
	bytes := map[string]*Figure{"Read": &s.IORead, "Write": &s.IOWrite}
	r.ioStat(dir+"/blkio.throttle.io_service_bytes_recursive", bytes) // since Linux 4.12
	if !s.IORead.Known() && r.opens == 0 {
		r.ioStat(dir+"/blkio.throttle.io_service_bytes", bytes)
	}
	for _, f := range bytes {
		if f.Value == 0 {
			*f = Figure{} // says nothing: since Linux 6.10 only disks that somebody throttles are counted
		}
	}
}

// farBelow reports whether a limit was not reached, without a look at the file that counts that: the largest charge, that of a huge
// page, was never too much.
func farBelow(peak Figure, limit int64) bool {
	page := uint64(os.Getpagesize())
	huge := page * page / 8 // a page of page table entries, of 8 bytes, maps so much
	return limit > 0 && peak.Known() && peak.Value+4*huge <= uint64(limit)
}

// scaleCPU makes user and system add up to the usage. v1 counts the two in whole timer ticks: a program
// of one millisecond may have four of user time, or none. The usage is exact; the ticks only say in what
// proportion to split it. The kernel does the same for v2 and for getrusage (cputime_adjust).
func scaleCPU(s *Stats) {
	if !s.CPUUsage.Known() || !s.CPUUser.Known() || !s.CPUSystem.Known() {
		return
	}
	user, system := s.CPUUser.Value, s.CPUSystem.Value
	if system == 0 {
		s.CPUUser.Value = s.CPUUsage.Value
		return
	}
	share := float64(system) / (float64(user) + float64(system))
	s.CPUSystem.Value = min(uint64(float64(s.CPUUsage.Value)*share), s.CPUUsage.Value) // a float rounds up, too
	s.CPUUser.Value = s.CPUUsage.Value - s.CPUSystem.Value
}

// oomKillsBelow adds up what v1 counts in each group for itself.
func oomKillsBelow(dir string) (sum uint64) {
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil || st.Nlink <= 2 { // no directory in it
		return 0
	}
	children, _ := os.ReadDir(dir)
	for _, child := range children {
		if child.IsDir() {
			content, _ := readFile(dir + "/" + child.Name() + "/memory.oom_control") // it may be gone, or too deep for a path
			kills, _ := keyed(content, "oom_kill")
			sum += kills + oomKillsBelow(dir+"/"+child.Name())
		}
	}
	return sum
}

// cpuStatFile is there on v2, also beside v1 on a hybrid host.
const cpuStatFile = "cpu.stat"

// watchOOM also watches the group above, unless that is another's to refuse: then no OOM is known to be somebody else's.
func (g *v1) watchOOM(belowRoot bool) (*OOMWatch, error) {
	dir, ok := g.of[Memory]
	if !ok {
		return nil, &Error{Op: "watch", Value: string(Memory), Err: ErrNoController}
	}
	event, err := oomEvent(dir)
	if err != nil {
		return nil, err
	}
	above := -1
	if !belowRoot {
		if above, err = oomEvent(filepath.Dir(dir)); err != nil {
			above = -1
		}
	}
	return &OOMWatch{fd: event, above: above, events: unix.POLLIN, read: readCounter}, nil
}

// oomEvent registers an eventfd for memory.oom_control (cgroup-v1/memory.rst, "OOM Control").
func oomEvent(dir string) (fd int, err error) {
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return 0, &Error{Op: "eventfd", Err: err}
	}
	control, err := openFile(dir+"/memory.oom_control", unix.O_RDONLY)
	if err == nil {
		err = writeFile(dir+"/cgroup.event_control", strconv.Itoa(event)+" "+strconv.Itoa(control))
		unix.Close(control)
	}
	if err != nil {
		unix.Close(event)
		return 0, err
	}
	return event, nil
}

// readCounter is what an eventfd has counted since it was last read.
func readCounter(fd int) uint64 {
	var buf [8]byte
	n, err := retry(func() (int, error) { return unix.Read(fd, buf[:]) })
	if err != nil || n != len(buf) {
		return 0
	}
	return binary.NativeEndian.Uint64(buf[:])
}
