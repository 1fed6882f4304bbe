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
	"github.com/cgshim/cgshim/shim/internal/advice"
	"github.com/cgshim/cgshim/shim/internal/fault"
)

func TestExitStatusOfError(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		want int
	}{
		"other":           {errors.New("x"), ExitFailed},
		"cgroup ENOENT":   {&cgroup.Error{Op: "create", Err: unix.ENOENT}, ExitFailed},
		"stage":           {&reexec.Error{Step: reexec.StepStage, Errno: unix.ENOENT}, ExitFailed},
		"chdir ENOENT":    {&reexec.Error{Step: reexec.StepChdir, Errno: unix.ENOENT}, ExitFailed},
		"not found":       {&reexec.Error{Step: reexec.StepLookup, Errno: unix.ENOENT}, ExitNotFound},
		"not executable":  {&reexec.Error{Step: reexec.StepLookup, Errno: unix.EACCES}, ExitCannotExec},
		"no interpreter":  {&reexec.Error{Step: reexec.StepExec, Errno: unix.ENOENT}, ExitCannotExec},
		"no program":      {&reexec.Error{Step: reexec.StepExec, Errno: unix.ENOEXEC}, ExitCannotExec},
		"wrapped":         {fmt.Errorf("x: %w", &reexec.Error{Step: reexec.StepLookup, Errno: unix.ENOENT}), ExitNotFound},
		"clone EAGAIN":    {&reexec.Error{Step: reexec.StepClone, Errno: unix.EAGAIN}, ExitFailed},
		"no new privs":    {&reexec.Error{Step: reexec.StepNoNewPrivs, Errno: unix.EINVAL}, ExitFailed},
		"join permission": {&reexec.Error{Step: reexec.StepJoin, Errno: unix.EACCES}, ExitFailed},
	} {
		if got := exitStatus(test.err); got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}
}

// What a step was about is named: the resource, the user, the descriptor.
func TestLaunchErrorNames(t *testing.T) {
	cfg := &Config{
		KeepFDs: []int{5, 9}, User: &User{UID: 1, GID: 2}, Limits: cgroup.Limits{CPUSetCPUs: "0-1"},
		Rlimits: []reexec.Rlimit{{Resource: unix.RLIMIT_CORE}, {Resource: unix.RLIMIT_NICE}},
	}
	for name, e := range map[string]*reexec.Error{
		`rlimit "nice"`: {Step: reexec.StepRlimit, Errno: unix.EPERM, Index: 1},
		`user "1:2"`:    {Step: reexec.StepUser, Errno: unix.EPERM},
		`cpuset "0-1"`:  {Step: reexec.StepAffinity, Errno: unix.EINVAL},
		`keep-fd "9"`:   {Step: reexec.StepFD, Errno: unix.EBADF, Index: 1},
		`keep-fd: `:     {Step: reexec.StepFD, Errno: unix.EMFILE, Index: -1},
		`rlimit: `:      {Step: reexec.StepRlimit, Errno: unix.EPERM, Index: -1},
	} {
		if _, err := launchFails(cfg, e, nil); !strings.HasPrefix(err.Error(), name) {
			t.Errorf("%v, want %s", err, name)
		}
	}
}

// launchFails is the step and the error of a launch that has failed.
func launchFails(cfg *Config, err error, join *cgroup.Join) (step string, _ error) {
	err = resourcesOf(cfg).launchError(err, join)
	var e *stepError
	if !errors.As(err, &e) {
		return "", err
	}
	return e.step, e.err
}

func TestLaunchError(t *testing.T) {
	join := &cgroup.Join{Paths: []string{"/sys/a/cgroup.procs", "/sys/b/tasks"}}
	step, err := launchFails(&Config{}, &reexec.Error{Step: reexec.StepJoin, Errno: unix.EBUSY, Index: 1}, join)
	if step != "join" || !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), "/sys/b/tasks") {
		t.Errorf("join: step %q, %v", step, err)
	}
	step, err = launchFails(&Config{}, &reexec.Error{Step: reexec.StepChdir, Errno: unix.ENOENT, Arg: "/x"}, join)
	if step != "chdir" || !errors.Is(err, unix.ENOENT) {
		t.Errorf("the stage's own reason is lost: step %q, %v", step, err)
	}
	if step, err = launchFails(&Config{}, unix.EINVAL, join); step != "stage" || !errors.Is(err, unix.EINVAL) {
		t.Errorf("other: step %q, %v", step, err)
	}
}

// Regression: launchError turns the *reexec.Error of a join into a *cgroup.Error, and the hint for a
// threaded parent looked for the former only.
func TestJoinKeepsItsHint(t *testing.T) {
	join := &cgroup.Join{Paths: []string{"/sys/a/cgroup.procs"}}
	step, err := launchFails(&Config{}, &reexec.Error{Step: reexec.StepJoin, Errno: unix.EOPNOTSUPP}, join)
	if got := advice.About(step, err, nil).Hint(); !strings.Contains(got, "threaded") {
		t.Errorf("joining a threaded parent: hint %q", got)
	}
}

func TestMessage(t *testing.T) {
	cfg := Config{}
	for _, test := range []struct {
		step string
		err  error
		want string
	}{
		{"usage", cfg.Validate(), "no program given"},
		{"usage", errors.New(`--mem "x": y`), `--mem "x": y`}, // the caller's own words, without a step
		{"exec", &reexec.Error{Step: reexec.StepExec, Errno: unix.ENOENT, Arg: "x"}, `exec "x": no such file or directory`},
		{"cgroup", &cgroup.Error{Op: "create", Path: "/x", Err: unix.EEXIST}, `cgroup: create "/x": file exists`},
		{"join", &cgroup.Error{Op: "join", Path: "/x", Err: unix.EBUSY}, `join "/x": device or resource busy`},
	} {
		if got := message(test.step, test.err); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

func TestNoteErrorJoins(t *testing.T) {
	r := newReport(&Config{})
	r.Error("cgroup", &cgroup.Error{Op: "create", Path: "/x", Err: unix.EACCES})
	r.Error("remove", unix.EBUSY)
	e := r.result.Error
	// The first error is the cause: what follows from it must not replace its step, errno or hint.
	if e.Step != "cgroup" || deref(e.Errno) != "EACCES" || e.Hint == nil {
		t.Errorf("the first error is lost: %s", r.result.JSON(false))
	}
	if want := `cgroup: create "/x": permission denied; remove: device or resource busy`; e.Message != want {
		t.Errorf("message %q, want %q", e.Message, want)
	}
}

func TestErrnoName(t *testing.T) {
	if got := errnoName(unix.ENOENT); got != "ENOENT" {
		t.Error(got)
	}
	if got := errnoName(4094); got != "4094" { // one that has no name is not an empty string
		t.Error(got)
	}
	r := newReport(&Config{})
	r.Error("stage", errors.New("x"))
	if r.result.Error.Errno != nil {
		t.Errorf("an errno from nowhere: %v", *r.result.Error.Errno)
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
		{"cgroup", file(fault.ErrOthers), "placement"},
		{"cgroup", file(fault.ErrForeign), "placement"},
		{"cgroup", file(fault.ErrNoSystemd), "placement"},
		{"cgroup", file(fault.ErrUnanswered), "placement"},
		{"cgroup", fmt.Errorf("%w: x", errors.ErrUnsupported), "placement"},
		{"cgroup", lacking(cgroup.Memory), "controller-memory"},
		{"cgroup", fmt.Errorf("%w: %w", fault.ErrNotDelegated, lacking(cgroup.IO)), "controller-io"},
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
		text := deref(explain(&Config{}, test.step, test.err).Hint)
		if test.check == "" {
			if text != nil && strings.Contains(text.(string), "doctor") {
				t.Errorf("%s: %v: %v", test.step, test.err, text)
			}
			continue
		}
		if !slices.Contains(advice.Checks, test.check) || text == nil || !strings.Contains(text.(string), "cgshim doctor") || !strings.Contains(text.(string), test.check) {
			t.Errorf("%s: %v: %v, want check %s", test.step, test.err, text, test.check)
		}
	}
}
