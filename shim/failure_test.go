package shim

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/reexec"
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

func TestHints(t *testing.T) {
	seen := map[string]string{}
	for name, test := range map[string]struct {
		step string
		err  error
	}{
		"not mounted":     {"cgroup", &cgroup.Error{Op: "detect", Err: cgroup.ErrNotMounted}},
		"no answer":       {"cgroup", &cgroup.Error{Op: "create", Err: fmt.Errorf("%w: %w", errUnanswered, errToldToStop)}},
		"populated":       {"cgroup", &cgroup.Error{Op: "write", Err: fmt.Errorf("%w: %w", cgroup.ErrPopulated, unix.EBUSY)}},
		"no controller":   {"cgroup", &cgroup.Error{Op: "create", Value: "memory", Err: cgroup.ErrNoController}},
		"swap accounting": {"limit", &cgroup.Error{Op: "write", Err: cgroup.ErrSwapAccounting}},
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
		r := &run{cfg: cfg}
		if _, err := r.launchError(e, nil); !strings.HasPrefix(err.Error(), name) {
			t.Errorf("%v, want %s", err, name)
		}
	}
}

func TestLaunchError(t *testing.T) {
	join := &cgroup.Join{Paths: []string{"/sys/a/cgroup.procs", "/sys/b/tasks"}}
	step, err := (&run{cfg: &Config{}}).launchError(&reexec.Error{Step: reexec.StepJoin, Errno: unix.EBUSY, Index: 1}, join)
	if step != "join" || !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), "/sys/b/tasks") {
		t.Errorf("join: step %q, %v", step, err)
	}
	step, err = (&run{cfg: &Config{}}).launchError(&reexec.Error{Step: reexec.StepChdir, Errno: unix.ENOENT, Arg: "/x"}, join)
	if step != "chdir" || !errors.Is(err, unix.ENOENT) {
		t.Errorf("the stage's own reason is lost: step %q, %v", step, err)
	}
	if step, err = (&run{cfg: &Config{}}).launchError(unix.EINVAL, join); step != "stage" || !errors.Is(err, unix.EINVAL) {
		t.Errorf("other: step %q, %v", step, err)
	}
}

// Regression: launchError turns the *reexec.Error of a join into a *cgroup.Error, and the hint for a
// threaded parent looked for the former only.
func TestJoinKeepsItsHint(t *testing.T) {
	join := &cgroup.Join{Paths: []string{"/sys/a/cgroup.procs"}}
	step, err := (&run{cfg: &Config{}}).launchError(&reexec.Error{Step: reexec.StepJoin, Errno: unix.EOPNOTSUPP}, join)
	if got := hint(step, err); !strings.Contains(got, "threaded") {
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
	r := run{cfg: &Config{}, result: newResult(&Config{})}
	r.noteError("cgroup", &cgroup.Error{Op: "create", Path: "/x", Err: unix.EACCES})
	r.noteError("remove", unix.EBUSY)
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
	r := run{cfg: &Config{}, result: newResult(&Config{})}
	r.noteError("stage", errors.New("x"))
	if r.result.Error.Errno != nil {
		t.Errorf("an errno from nowhere: %v", *r.result.Error.Errno)
	}
}
