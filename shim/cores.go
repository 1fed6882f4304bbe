package shim

import (
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
)

// ownCores lists the CPUs on which this process may run by core: those of one are hyper-threads of each other.
func ownCores() ([][]int, error) {
	online, err := cgroup.OnlineCPUs()
	if err != nil {
		return nil, err
	}
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, os.NewSyscallError("sched_getaffinity", err)
	}
	return cores(slices.DeleteFunc(online, func(cpu int) bool { return !set.IsSet(cpu) }), siblings), nil
}

// siblings are the CPUs of a CPU's core, see Documentation/admin-guide/cputopology.rst; it alone if that is not known.
func siblings(cpu int) []int {
	content, err := os.ReadFile("/sys/devices/system/cpu/cpu" + strconv.Itoa(cpu) + "/topology/thread_siblings_list")
	if err != nil {
		return []int{cpu}
	}
	list, err := cgroup.ParseCPUList(strings.TrimSpace(string(content)))
	if err != nil || !slices.Contains(list, cpu) {
		return []int{cpu}
	}
	return list
}

// cores groups CPUs by core, in order.
func cores(cpus []int, siblings func(int) []int) (list [][]int) {
	for _, cpu := range cpus {
		if slices.ContainsFunc(list, func(core []int) bool { return slices.Contains(core, cpu) }) {
			continue
		}
		list = append(list, slices.DeleteFunc(slices.Clone(siblings(cpu)), func(c int) bool { return !slices.Contains(cpus, c) }))
	}
	return list
}

// divide gives each job as many cores, as far as they go: 0 jobs is one for each.
func divide(cores [][]int, jobs int) ([]string, error) {
	if jobs == 0 {
		jobs = len(cores)
	}
	if jobs > len(cores) {
		return nil, configError("%d jobs, pinned, on %d cores: each needs one of its own", jobs, len(cores))
	}
	shares := make([]string, jobs)
	for i := range shares {
		var cpus []string
		for _, core := range cores[i*len(cores)/jobs : (i+1)*len(cores)/jobs] {
			for _, cpu := range core {
				cpus = append(cpus, strconv.Itoa(cpu))
			}
		}
		shares[i] = strings.Join(cpus, ",")
	}
	return shares, nil
}
