package advice

import "slices"

// Checks are the names of all checks of cgshim doctor, in its order.
var Checks = []string{
	"cgroup-mount", "placement", "permission",
	"controller-memory", "controller-pids", "controller-cpu", "controller-cpuset", "swap-accounting", "controller-io",
	"memory-peak", "pids-peak", "cgroup-kill", "clone-into-cgroup", "pidfd", "pressure",
	"self-test-oom", "oom-kills", "self-test-pids", "self-test-wall-time", "self-test-cpu-time",
	"change-user", "net-namespace", "user-namespaces", "landlock", "shield",
}

// optionalChecks are checks that fail nobody: few use what they are about, or there is something else.
var optionalChecks = []string{
	"controller-cpuset", "controller-io", "swap-accounting", "memory-peak", "pids-peak", "cgroup-kill", "clone-into-cgroup", "pidfd",
	"pressure", "oom-kills", "change-user", "net-namespace", "user-namespaces", "landlock", "shield",
}

// Optional reports whether a check fails nobody.
func Optional(name string) bool { return slices.Contains(optionalChecks, name) }
