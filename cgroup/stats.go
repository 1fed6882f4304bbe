package cgroup

import "path/filepath"

// A Figure is one number and where it is from. The zero Figure is unknown: the kernel does not tell.
type Figure struct {
	Value uint64
	// Source is the kernel file's name, such as "memory.peak"; empty if the figure is unknown.
	Source string
}

// Known says whether the kernel told the figure.
func (f Figure) Known() bool { return f.Source != "" }

// Stats is what a group has used so far. After the last process is gone it is final.
type Stats struct {
	MemoryCurrent Figure // bytes charged now
	MemoryPeak    Figure // bytes, the most ever charged; charges come in batches of 64 pages per CPU
	MemoryHits    Figure // how often the memory limit was reached, reclaim that succeeded included; never 0 on v1
	SwapPeak      Figure // bytes
	SwapHits      Figure // how often the swap limit was reached; never 0 on v1, where it is RAM and swap together
	OOMKills      Figure // processes that the kernel killed for lack of memory
	CPUUsage      Figure // nanoseconds, user and system, all processes, those that are gone included
	CPUUser       Figure // nanoseconds
	CPUSystem     Figure // nanoseconds
	CPUThrottled  Figure // nanoseconds for which tasks were held back by the CPU bandwidth limit
	PIDsCurrent   Figure // tasks now
	PIDsPeak      Figure // tasks, the most ever at once
	PIDsDenied    Figure // forks that the process limit refused
}

// part selects figures, for callers that want few of them often.
type part uint

const (
	memoryPart part = 1 << iota
	cpuPart
	pidsPart
	oomPart      // of memoryPart only the OOM kills
	cpuUsagePart // of cpuPart at least the usage
)

// reader collects figures from files, and remembers the first error that is not "no such file": that
// one means that the kernel lacks the figure, any other that the reading failed.
type reader struct{ err error }

func (r *reader) read(path string) (string, bool) {
	content, err := readFile(path)
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
