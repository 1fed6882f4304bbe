package shim

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/reexec"
	"github.com/cgshim/cgshim/shim/internal/place"
)

// examine is Examine on a host that does without some of the kernel's files.
func examine(t *testing.T, without ...string) map[string]Check {
	t.Helper()
	real := detect
	t.Cleanup(func() { detect = real })
	detect = func() (*cgroup.Host, error) {
		host, err := real()
		if err != nil {
			return nil, err
		}
		return host.Without(without...), nil
	}
	if slices.Contains(without, "cgroup.kill") {
		t.Cleanup(func() { canKill = place.CanKill })
		canKill = func(*cgroup.Host, string) bool { return false }
	}
	report := Examine(t.Context(), Config{Parent: newParent(t)})
	assertValid(t, report.JSON())
	found := map[string]Check{}
	last := -1
	for _, c := range report.Checks {
		found[c.Name] = c
		at := slices.Index(checks, c.Name)
		if at <= last {
			t.Errorf("%s is not in its place", c.Name)
		}
		last = at
		if c.Found == "" || (c.Status == CheckOK) != (c.Remedy == nil) {
			t.Errorf("%+v: want what was found, and a remedy unless it is ok", c)
		}
	}
	return found
}

func TestExamine(t *testing.T) {
	found := examine(t)
	for _, name := range checks {
		if c, ok := found[name]; !ok || c.Status == CheckFail {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

// What an older kernel lacks is told, with what to do about it, and fails nobody.
func TestExamineOldKernel(t *testing.T) {
	found := examine(t, "memory.peak", "memory.max_usage_in_bytes", "pids.peak", "cgroup.kill", "cpu.pressure")
	for _, name := range []string{"memory-peak", "pids-peak", "cgroup-kill", "pressure"} {
		if c := found[name]; c.Status != CheckWarn {
			t.Errorf("%+v, want a warning", c)
		}
	}
	for name, c := range found {
		if c.Status == CheckFail {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

func TestExamineWithoutCgroups(t *testing.T) {
	real := detect
	defer func() { detect = real }()
	detect = func() (*cgroup.Host, error) { return nil, &cgroup.Error{Op: "detect", Err: cgroup.ErrNotMounted} }
	report := Examine(t.Context(), Config{})
	assertValid(t, report.JSON())
	if c := report.Checks[0]; report.OK || c.Name != "cgroup-mount" || c.Status != CheckFail || c.Remedy == nil {
		t.Errorf("%s", report.JSON())
	}
}

// Every hint for a setup error names a check that there is.
func TestHintsNameChecks(t *testing.T) {
	file := func(err error) error { return &cgroup.Error{Op: "write", Path: "/x", Err: err} }
	lacking := func(c cgroup.Controller) error {
		return &cgroup.Error{Op: "enable", Value: string(c), Err: cgroup.ErrNoController}
	}
	for _, test := range []struct {
		step  string
		err   error
		check string
	}{
		{"cgroup", file(fs.ErrPermission), "permission"},
		{"cgroup", file(unix.EROFS), "permission"},
		{"cgroup", file(unix.ENOSPC), "permission"},
		{"cgroup", file(unix.EEXIST), "permission"},
		{"cgroup", file(cgroup.ErrNotMounted), "cgroup-mount"},
		{"cgroup", file(cgroup.ErrPopulated), "placement"},
		{"cgroup", file(ErrOthers), "placement"},
		{"cgroup", file(ErrForeign), "placement"},
		{"cgroup", file(ErrNoSystemd), "placement"},
		{"cgroup", file(errUnanswered), "placement"},
		{"cgroup", fmt.Errorf("%w: x", errors.ErrUnsupported), "placement"},
		{"cgroup", lacking(cgroup.Memory), "controller-memory"},
		{"cgroup", fmt.Errorf("%w: %w", errNotDelegated, lacking(cgroup.IO)), "controller-io"},
		{"limit", lacking(cgroup.PIDs), "controller-pids"},
		{"limit", file(cgroup.ErrNotEnforced), "controller-cpuset"},
		{"limit", file(cgroup.ErrSwapAccounting), "swap-accounting"},
		{"limit", file(unix.EIO), "permission"},
		{"join", file(unix.EOPNOTSUPP), "placement"},
		{"cgroup", file(fmt.Errorf("%w: %w", cgroup.ErrThreaded, unix.EOPNOTSUPP)), "placement"},
		{"limit", &cgroup.Error{Op: "write", Path: "/x/cpu.cfs_quota_us", Err: unix.EINVAL}, ""}, // the controller works
		{"join", &cgroup.Error{Op: "join", Path: "/cpu/x/tasks", Err: unix.EINVAL}, ""},
		{"signals", unix.ENOSYS, ""},
		{"stage", &reexec.Error{Step: reexec.StepStage, Errno: unix.ENOENT}, "permission"},
		{"stage", &reexec.Error{Step: reexec.StepStage, Errno: unix.EAGAIN}, "permission"},
		{"clone", &reexec.Error{Step: reexec.StepClone, Errno: unix.EAGAIN}, "clone-into-cgroup"},
		{"net", &reexec.Error{Step: reexec.StepNet, Errno: unix.EPERM}, "net-namespace"},
		{"user", &reexec.Error{Step: reexec.StepUser, Errno: unix.EPERM}, "change-user"},
		{"exec", &reexec.Error{Step: reexec.StepExec, Errno: unix.ENOENT}, ""},
		{"chdir", &reexec.Error{Step: reexec.StepChdir, Errno: unix.ENOENT}, ""},
		{"usage", configError("x"), ""},
		{"kill", file(cgroup.ErrNotEmpty), ""},
	} {
		r := &run{cfg: &Config{}, result: newResult(&Config{})}
		r.noteError(test.step, test.err)
		text := deref(r.result.Error.Hint)
		if test.check == "" {
			if text != nil && strings.Contains(text.(string), "doctor") {
				t.Errorf("%s: %v: %v", test.step, test.err, text)
			}
			continue
		}
		if !slices.Contains(checks, test.check) || text == nil || !strings.Contains(text.(string), "cgshim doctor") || !strings.Contains(text.(string), test.check) {
			t.Errorf("%s: %v: %v, want check %s", test.step, test.err, text, test.check)
		}
	}
}
