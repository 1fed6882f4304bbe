package advice

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/reexec"
	"github.com/cgshim/cgshim/shim/internal/fault"
)

// hint is without the check of cgshim doctor.
func hint(step string, err error) string {
	s := About(step, err, nil)
	return s.hint(s.class())
}

func TestHints(t *testing.T) {
	seen := map[string]string{}
	for name, test := range map[string]struct {
		step string
		err  error
	}{
		"not mounted":     {"cgroup", &cgroup.Error{Op: "detect", Err: cgroup.ErrNotMounted}},
		"no answer":       {"cgroup", &cgroup.Error{Op: "create", Err: fmt.Errorf("%w: %w", fault.ErrUnanswered, fault.ErrToldToStop)}},
		"populated":       {"cgroup", &cgroup.Error{Op: "write", Err: fmt.Errorf("%w: %w", cgroup.ErrPopulated, unix.EBUSY)}},
		"no controller":   {"cgroup", &cgroup.Error{Op: "create", Value: "memory", Err: cgroup.ErrNoController}},
		"swap accounting": {"limit", &cgroup.Error{Op: "write", Err: cgroup.ErrSwapAccounting}},
		"v2 only":         {"limit", &cgroup.Error{Op: "set", Value: "memory.high", Err: cgroup.ErrV2Only}},
		"not enforced":    {"limit", &cgroup.Error{Op: "write", Err: cgroup.ErrNotEnforced}},
		"no queue":        {"limit", &cgroup.Error{Op: "write", Path: "/x/io.max", Err: unix.ENODEV}},
		"not empty":       {"kill", &cgroup.Error{Op: "kill", Err: cgroup.ErrNotEmpty}},
		"EEXIST":          {"cgroup", &cgroup.Error{Op: "create", Err: unix.EEXIST}},
		"EROFS":           {"cgroup", &cgroup.Error{Op: "create", Err: unix.EROFS}},
		"EACCES":          {"cgroup", &cgroup.Error{Op: "create", Err: unix.EACCES}},
		"lookup ENOENT":   {"exec", &reexec.Error{Step: reexec.StepLookup, Errno: unix.ENOENT}},
		"lookup EACCES":   {"exec", &reexec.Error{Step: reexec.StepLookup, Errno: unix.EACCES}},
		"exec ENOENT":     {"exec", &reexec.Error{Step: reexec.StepExec, Errno: unix.ENOENT}},
		"exec ENOEXEC":    {"exec", &reexec.Error{Step: reexec.StepExec, Errno: unix.ENOEXEC}},
		"exec EAGAIN":     {"exec", &reexec.Error{Step: reexec.StepExec, Errno: unix.EAGAIN}},
		"user":            {"user", &reexec.Error{Step: reexec.StepUser, Errno: unix.EPERM}},
		"net":             {"net", &reexec.Error{Step: reexec.StepNet, Errno: unix.EPERM}},
		"net ENOSPC":      {"net", &reexec.Error{Step: reexec.StepNet, Errno: unix.ENOSPC}},
		"rlimit":          {"rlimit", &reexec.Error{Step: reexec.StepRlimit, Errno: unix.EPERM}},
		"keep-fd":         {"keep-fd", &reexec.Error{Step: reexec.StepFD, Errno: unix.EMFILE}},
		"exec ETXTBSY":    {"exec", &reexec.Error{Step: reexec.StepExec, Errno: unix.ETXTBSY}},
		"threaded":        {"cgroup", &cgroup.Error{Op: "write", Err: fmt.Errorf("%w: %w", cgroup.ErrThreaded, unix.EOPNOTSUPP)}},
		"quota":           {"limit", &cgroup.Error{Op: "write", Err: &cgroup.QuotaError{Group: "/x", CPUs: 0.2, Err: unix.EINVAL}}},
		"exclusive":       {"limit", &cgroup.Error{Op: "write", Path: "/x/cpuset.cpus", Err: unix.EINVAL}},
		"real time":       {"cgroup", &cgroup.Error{Op: "write", Path: "/x/cgroup.subtree_control", Value: "+memory +cpu", Err: unix.EINVAL}},
		"too many":        {"cgroup", &cgroup.Error{Op: "create", Err: unix.ENOSPC}},
		"tasks":           {"clone", &reexec.Error{Step: reexec.StepClone, Errno: unix.EAGAIN}},
		"no such user":    {"user", &reexec.Error{Step: reexec.StepUser, Errno: unix.EINVAL}},
		"no namespaces":   {"net", &reexec.Error{Step: reexec.StepNet, Errno: unix.EINVAL}},
		"net EROFS":       {"net", &reexec.Error{Step: reexec.StepNet, Errno: unix.EROFS}},
		"net, privileges": {"usage", fault.Config("both: %w", &reexec.Error{Step: reexec.StepNet, Errno: unix.EPERM})},
		"refused":         {"stage", &reexec.Error{Step: reexec.StepStage, Errno: unix.ENOSYS}},
		"exec E2BIG":      {"exec", &reexec.Error{Step: reexec.StepExec, Errno: unix.E2BIG}},
		"stage":           {"stage", &reexec.Error{Step: reexec.StepStage, Errno: unix.ENOENT}},
	} {
		got := hint(test.step, test.err)
		if got == "" {
			t.Errorf("%s: no hint", name)
		}
		if other, ok := seen[got]; ok && got != "" {
			t.Errorf("%s and %s have the same hint %q", name, other, got)
		}
		seen[got] = name
	}
	for _, step := range []string{"cgroup", "limit", "join"} {
		for _, errno := range []unix.Errno{unix.EACCES, unix.EPERM} {
			if got := hint(step, &cgroup.Error{Op: "write", Err: errno}); !strings.Contains(got, "root") {
				t.Errorf("%s: %v: hint %q does not say who may", step, errno, got)
			}
		}
	}
	if got, want := hint("limit", &cgroup.Error{Op: "write", Path: "/sys/cpuset.cpus", Err: unix.EACCES}), hint("limit", cgroup.ErrNotEnforced); got != want {
		t.Errorf("CPUs that the parent does not have: %q", got)
	}
	if got := hint("exec", &reexec.Error{Step: reexec.StepExec, Errno: unix.EACCES}); got == "" {
		t.Error("exec EACCES: no hint")
	}
}

// What forbids a namespace is looked up: distributions have their own ways.
func TestNamespaceHints(t *testing.T) {
	for _, test := range []struct {
		errno               unix.Errno
		root                bool
		sysctl, value, want string
	}{
		{unix.EPERM, false, "kernel.unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"},
		{unix.EPERM, false, "kernel.apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns"},
		{unix.EACCES, false, "kernel.apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns"},
		{unix.EPERM, false, "kernel.apparmor_restrict_unprivileged_userns", "0", "user namespace"},
		{unix.EPERM, true, "kernel.apparmor_restrict_unprivileged_userns", "1", "--cap-add SYS_ADMIN"},
		{unix.ENOSPC, false, "user.max_user_namespaces", "0", "user.max_user_namespaces=10000"},
		{unix.ENOSPC, false, "user.max_user_namespaces", "100", "/proc/sys/user/max_net_namespaces"},
		{unix.EUSERS, false, "", "", "32 levels"},
	} {
		s := &Situation{step: "net", err: &reexec.Error{Step: reexec.StepNet, Errno: test.errno}, root: test.root}
		s.sysctl = func(name string) string {
			if name == test.sysctl {
				return test.value
			}
			return ""
		}
		if got := s.Hint(); !strings.Contains(got, test.want) || !strings.Contains(got, "(cgshim doctor: net-namespace)") {
			t.Errorf("%v with %s=%s: %q, want %q", test.errno, test.sysctl, test.value, got, test.want)
		}
	}
}

// A hint that is beside the point is worse than none.
func TestNoWrongHints(t *testing.T) {
	for name, test := range map[string]struct {
		step string
		err  error
	}{
		"chdir ENOENT":                {"chdir", &reexec.Error{Step: reexec.StepChdir, Errno: unix.ENOENT}},
		"net, out of descriptors":     {"net", &reexec.Error{Step: reexec.StepNet, Errno: unix.EMFILE}},
		"stage, out of memory":        {"stage", &reexec.Error{Step: reexec.StepStage, Errno: unix.ENOMEM}},
		"EINVAL of another file":      {"limit", &cgroup.Error{Op: "write", Path: "/cpu/x/cpu.shares", Err: unix.EINVAL}},
		"EINVAL, not real time":       {"join", &cgroup.Error{Op: "join", Path: "/sys/fs/cgroup/cpu/x/tasks", Err: unix.EINVAL}},
		"EINVAL of another hierarchy": {"join", &cgroup.Error{Op: "join", Path: "/sys/fs/cgroup/pids/x/tasks", Err: unix.EINVAL}},
		"EINVAL, without cpu":         {"cgroup", &cgroup.Error{Op: "write", Path: "/x/cgroup.subtree_control", Value: "+cpuset", Err: unix.EINVAL}},
		"a group that is gone":        {"limit", &cgroup.Error{Op: "write", Path: "/x/memory.max", Err: unix.ENODEV}},
		"a cpuset that is gone":       {"limit", &cgroup.Error{Op: "write", Path: "/x/cpuset.cpus", Err: unix.ENOENT}},
		"EEXIST, no name":             {"stage", unix.EEXIST},
		"a read-only file system":     {"output", unix.EROFS},
		"permission, not a cgroup's":  {"wait", unix.EPERM},
	} {
		if got := hint(test.step, test.err); got != "" {
			t.Errorf("%s: %q", name, got)
		}
	}
}
