package sys

import (
	"path/filepath"
	"strconv"
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
