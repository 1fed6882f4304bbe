package shim

import (
	"golang.org/x/sys/unix"
)

// rlimitNames are the resources of getrlimit(2), by docker's and limits.conf(5)'s names.
var rlimitNames = [...]string{
	unix.RLIMIT_CPU:        "cpu",
	unix.RLIMIT_FSIZE:      "fsize",
	unix.RLIMIT_DATA:       "data",
	unix.RLIMIT_STACK:      "stack",
	unix.RLIMIT_CORE:       "core",
	unix.RLIMIT_RSS:        "rss",
	unix.RLIMIT_NPROC:      "nproc",
	unix.RLIMIT_NOFILE:     "nofile",
	unix.RLIMIT_MEMLOCK:    "memlock",
	unix.RLIMIT_AS:         "as",
	unix.RLIMIT_LOCKS:      "locks",
	unix.RLIMIT_SIGPENDING: "sigpending",
	unix.RLIMIT_MSGQUEUE:   "msgqueue",
	unix.RLIMIT_NICE:       "nice",
	unix.RLIMIT_RTPRIO:     "rtprio",
	unix.RLIMIT_RTTIME:     "rttime",
}

// RlimitNames lists the resources that Config.Rlimits can limit; the index is the resource's number.
func RlimitNames() []string { return append([]string{}, rlimitNames[:]...) }

func rlimitName(resource int) string {
	if resource < 0 || resource >= len(rlimitNames) {
		return ""
	}
	return rlimitNames[resource]
}

// ulimitNames are the resource limits whose end of a program can be proved, by their names in limits_hit.
var ulimitNames = map[int]string{unix.RLIMIT_CPU: "ulimit_cpu", unix.RLIMIT_FSIZE: "ulimit_fsize"}
