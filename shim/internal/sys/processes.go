package sys

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Processes reads all of /proc. A process that is gone while it does so is left out.
func Processes() []Process {
	var list []Process
	names, _ := filepath.Glob("/proc/[0-9]*")
	for _, name := range names {
		pid, err := strconv.Atoi(filepath.Base(name))
		if err != nil {
			continue
		}
		if p, err := ReadProcess(pid); err == nil {
			list = append(list, p)
		}
	}
	return list
}

// FirstThreadsChildren lists the children of this process's first thread, whose children orphans become if the process is a subreaper.
func FirstThreadsChildren() (pids []int) {
	self := strconv.Itoa(os.Getpid())
	content, err := os.ReadFile("/proc/self/task/" + self + "/children")
	if err != nil { // a kernel without CONFIG_PROC_CHILDREN
		for _, p := range Processes() {
			if p.Parent == os.Getpid() {
				pids = append(pids, p.PID)
			}
		}
		return pids
	}
	for _, field := range strings.Fields(string(content)) {
		if pid, err := strconv.Atoi(field); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// UnifiedPath is where a process is in cgroup2's hierarchy, see cgroups(7).
func UnifiedPath(pid int) (path string, known bool) {
	content, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return "", false
	}
	for line := range strings.Lines(string(content)) {
		if path, known := strings.CutPrefix(line, "0::"); known {
			return strings.TrimSuffix(strings.TrimSuffix(path, "\n"), " (deleted)"), true
		}
	}
	return "", false
}
