package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A Figure is one number and the kernel file that it is from. The zero Figure is unknown: the kernel does not tell.
type Figure struct {
	Value uint64
	// Source is the kernel file's name, such as "memory.peak"; empty if the figure is unknown.
	Source string
}

// Known reports whether the kernel told the figure.
func (f Figure) Known() bool { return f.Source != "" }

// Stats is what a group has used so far. After the last process is gone it is final.
type Stats struct {
	MemoryCurrent Figure // bytes charged now
	MemoryPeak    Figure // bytes, the most ever charged; charges come in batches of 64 pages per CPU
	MemoryHits    Figure // how often the group's own memory limit was reached, reclaim that succeeded included; never 0 on v1
	HighHits      Figure // how often the group was above its own high memory limit, and reclaimed from or slowed down; v2
	MemoryAnon    Figure // bytes charged now for anonymous memory
	MemoryFile    Figure // bytes charged now for page cache and shared memory
	MemoryKernel  Figure // bytes charged now for the kernel's own structures; v2 since Linux 5.18
	SwapCurrent   Figure // bytes
	SwapPeak      Figure // bytes; on v1 known only where the host has no swap
	SwapHits      Figure // how often the swap limit was reached; never 0 on v1, where it is RAM and swap together
	OOMKills      Figure // processes that the kernel killed for lack of memory, here and below; on v1 only where the group below is still there; on v2 before Linux 5.17 only 0 or 1
	OwnOOMKills   Figure // more than 0 if the limit of this group was why; on v1, which does not tell limits apart, victims that were in this very group
	AboveOOMKills Figure // more than 0 if a limit above was why, or the whole system had run out; v2
	CPUUsage      Figure // nanoseconds, user and system, all processes, those that are gone included
	CPUUser       Figure // nanoseconds
	CPUSystem     Figure // nanoseconds
	CPUThrottled  Figure // nanoseconds for which tasks were held back by the CPU bandwidth limit
	PIDsCurrent   Figure // tasks now
	PIDsPeak      Figure // tasks, the most ever at once
	PIDsDenied    Figure // forks that the process limit refused
	IORead        Figure // bytes read from block devices; never 0 on v1, which does not count all of them
	IOWrite       Figure // bytes written to block devices: not what the page cache holds, and on v1 has held

	// Pressure, see Documentation/accounting/psi.rst: nanoseconds for which some, or all, tasks of the
	// group that were not idle waited for the resource. v2, and v1 on hybrid hosts.
	CPUSome, CPUFull, MemorySome, MemoryFull, IOSome, IOFull Figure
}

// A Part is some of the figures of Stats. Group.Stats opens no file that the parts asked for do not need.
type Part uint

// The parts. Figures that a part does not have are unknown.
const (
	PartMemory     Part = 1 << iota // Memory…, Swap… and …OOMKills, but for what PartCurrent has
	PartCPU                         // CPUUsage, CPUUser, CPUSystem, CPUThrottled
	PartPIDs                        // PIDsPeak, PIDsDenied
	PartIO                          // IORead, IOWrite
	PartPressure                    // …Some and …Full
	PartCurrent                     // with PartMemory and PartPIDs also MemoryCurrent, SwapCurrent, PIDsCurrent
	PartOOM                         // OOMKills, OwnOOMKills, AboveOOMKills and, on v2, MemoryHits and HighHits
	PartMemoryPeak                  // MemoryPeak
	PartCPUUsage                    // CPUUsage

	// Totals are all figures that are not of the moment, for when nobody is in the group any more.
	Totals = PartMemory | PartCPU | PartPIDs | PartIO | PartPressure
	// Sample is what to read often: all but the pressure.
	Sample = PartMemory | PartCPU | PartPIDs | PartIO | PartCurrent

	allParts = Totals | PartCurrent
)

// reader collects figures from files, and remembers the first error that is not "no such file": that
// one means that the kernel lacks the figure, any other that the reading failed.
type reader struct {
	err    error
	hidden []string // see Host.Without
	warm   *warm
	opens  int // see Tuning.Prepare; 0 reads
}

func (r *reader) read(path string) (string, bool) {
	if slices.Contains(r.hidden, filepath.Base(path)) {
		return "", false
	}
	if r.opens > 0 {
		r.warm.open(path, r.opens)
		return "", false
	}
	content, err := r.warm.value(path)
	if err == nil {
		return content, true
	}
	if r.err == nil && !missing(err) {
		r.err = err
	}
	return "", false
}

// number reads a file that holds one number, times scale.
func (r *reader) number(path string, scale uint64) Figure {
	content, ok := r.read(path)
	if !ok {
		return Figure{}
	}
	value, ok := parseUint(content)
	return figure(path, value, scale, ok)
}

// keys reads several keys of one flat keyed file.
func (r *reader) keys(path string, scale uint64, into map[string]*Figure) {
	content, ok := r.read(path)
	if !ok {
		return
	}
	for key, f := range into {
		value, ok := keyed(content, key)
		*f = figure(path, value, scale, ok)
	}
}

func figure(path string, value, scale uint64, ok bool) Figure {
	if !ok {
		return Figure{}
	}
	return Figure{Value: value * scale, Source: filepath.Base(path)}
}

// ioStat adds up a figure over the devices of io.stat, or of a v1 file with "DEVICE KEY VALUE" lines. keys
// are the words before a value, or in front of its "=". An empty file is a 0: there was no I/O.
func (r *reader) ioStat(path string, keys map[string]*Figure) {
	content, ok := r.read(path)
	if !ok {
		return
	}
	for _, f := range keys {
		*f = figure(path, 0, 1, true)
	}
	for line := range strings.Lines(content) {
		device, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !strings.Contains(device, ":") || stacked(device) {
			continue
		}
		words := strings.FieldsFunc(rest, func(c rune) bool { return c == ' ' || c == '=' })
		for i := 0; i+1 < len(words); i += 2 {
			if f := keys[words[i]]; f != nil {
				value, _ := parseUint(words[i+1])
				f.Value += value
			}
		}
	}
}

// stacked reports whether a device passes its I/O on to others (dm, md), which count the same bytes again.
func stacked(device string) bool {
	slaves, err := os.ReadDir("/sys/dev/block/" + device + "/slaves")
	return err == nil && len(slaves) > 0
}

// pressure reads the totals of a pressure file: "some avg10=0.00 avg60=0.00 avg300=0.00 total=0".
func (r *reader) pressure(path string, some, full *Figure) {
	content, ok := r.read(path)
	if errors.Is(r.err, unix.EOPNOTSUPP) {
		r.err = nil // the kernel has it, but it is turned off: psi=0
	}
	if !ok {
		return
	}
	for line := range strings.Lines(content) {
		kind, _, _ := strings.Cut(line, " ")
		_, total, ok := strings.Cut(line, " total=")
		value, isNumber := parseUint(total)
		switch kind {
		case "some":
			*some = figure(path, value, 1000, ok && isNumber)
		case "full":
			*full = figure(path, value, 1000, ok && isNumber)
		}
	}
}

func (r *reader) pressures(dir string, s *Stats) {
	r.pressure(dir+"/cpu.pressure", &s.CPUSome, &s.CPUFull)
	r.pressure(dir+"/memory.pressure", &s.MemorySome, &s.MemoryFull)
	r.pressure(dir+"/io.pressure", &s.IOSome, &s.IOFull)
}

// noSwap makes the swap peak a 0 where the host has no swap at all.
func (r *reader) noSwap(s *Stats) {
	if !s.SwapPeak.Known() && s.MemoryAnon.Known() && !hostHasSwap() {
		s.SwapPeak = Figure{Source: "/proc/swaps"}
	}
}

// SystemOOMKills is how many processes the kernel has killed for lack of memory since it booted, in whatever group
// (oom_kill in /proc/vmstat, since Linux 4.13).
func SystemOOMKills() (n uint64, known bool) {
	content, err := readFile("/proc/vmstat")
	if err != nil {
		return 0, false
	}
	return keyed(content, "oom_kill")
}
