package cgroup

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// maxCPU is above any CPU or NUMA node number of the kernel (NR_CPUS).
const maxCPU = 8191

// ParseCPUList parses a list of CPUs or NUMA nodes such as "0-2,7", the List format of cpuset(7). The
// result is sorted, without duplicates. What is not such a list is ErrInvalid, an empty one included.
func ParseCPUList(list string) ([]int, error) {
	var numbers []int
	for part := range strings.SplitSeq(list, ",") {
		from, to, isRange := strings.Cut(part, "-")
		first, err := parseCPU(from)
		last := first
		if isRange {
			var lastErr error
			last, lastErr = parseCPU(to)
			err = errors.Join(err, lastErr)
		}
		if err != nil || last < first {
			return nil, fmt.Errorf("%w list of CPUs or nodes: %.100q", ErrInvalid, list)
		}
		for n := first; n <= last; n++ {
			numbers = append(numbers, n)
		}
		if len(numbers) > maxCPU+1 { // the same again and again: it could be millions of times
			return nil, fmt.Errorf("%w list of CPUs or nodes: %.100q", ErrInvalid, list)
		}
	}
	slices.Sort(numbers)
	return slices.Compact(numbers), nil
}

// parseCPU is stricter than ParseUint, which takes a sign.
func parseCPU(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n > maxCPU || s[0] == '+' {
		return 0, ErrInvalid
	}
	return int(n), nil
}

// OnlineCPUs lists the CPUs that are in use, see Documentation/admin-guide/cputopology.rst.
func OnlineCPUs() ([]int, error) { return online("/sys/devices/system/cpu/online") }

// OnlineMems lists the NUMA nodes that are in use. A kernel without NUMA has node 0.
func OnlineMems() ([]int, error) {
	nodes, err := online("/sys/devices/system/node/online")
	if errors.Is(err, os.ErrNotExist) {
		return []int{0}, nil
	}
	return nodes, err
}

func online(path string) ([]int, error) {
	content, err := readValue(path)
	if err != nil {
		return nil, err
	}
	return ParseCPUList(strings.TrimSpace(content))
}
