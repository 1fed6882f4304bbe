// Package doctor finds out what works on this system, by trying: "cgshim doctor".
//
// It makes real runs, of programs that this binary has in it (selftest.go): a binary that has this package is one of them when its
// environment says so.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/shim"
	"github.com/cgshim/cgshim/shim/internal/advice"
	"github.com/cgshim/cgshim/shim/internal/confine"
	"github.com/cgshim/cgshim/shim/internal/fault"
	"github.com/cgshim/cgshim/shim/internal/jsonline"
	"github.com/cgshim/cgshim/shim/internal/ledger"
	"github.com/cgshim/cgshim/shim/internal/place"
	"github.com/cgshim/cgshim/shim/internal/seam"
)

// The states of a Check.
const (
	OK   = "ok"
	Warn = "warn" // cgshim works; a figure is unknown, something slower is done instead, or a flag that few need is refused
	Fail = "fail" // a flag that everybody needs can't work
)

// A Check is one thing that Examine has tried.
//
// In JSON: One thing that cgshim doctor has tried.
type Check struct {
	// A stable name.
	Name string `json:"name" jsonschema:"minLength=1"`
	// warn: cgshim works, but a figure is unknown, something slower is done instead, or a flag that few need is refused.
	Status string `json:"status" jsonschema:"words=OK Warn Fail"`
	// What was seen.
	Found string `json:"found"`
	// What to do; nil if it is ok, or nothing can be done.
	Remedy *string `json:"remedy"`
}

// A Place is where the group of a run is made, and why there.
//
// In JSON: Where a run's cgroup is made.
type Place struct {
	Manager string `json:"manager" jsonschema:"enum=cgroupfs systemd"`
	// The group above it; with systemd the slice of its scope, empty for the manager's default.
	Parent string `json:"parent"`
	// Why, for people.
	Reason string `json:"reason"`
}

// A Report is what Examine has found. Its JSON form is one line; nil (null in JSON) is unknown.
//
// In JSON: What cgshim doctor --json prints.
type Report struct {
	Type          string `json:"type" jsonschema:"const=doctor"`
	SchemaVersion int    `json:"schema_version" jsonschema:"const=1"`
	// Of cgshim.
	Version string `json:"version"`
	// No check has failed.
	OK bool `json:"ok"`
	// Its release.
	Kernel string `json:"kernel"`
	// nil without a cgroup mount.
	CgroupVersion *int `json:"cgroup_version" jsonschema:"enum=1 2"`
	// nil if there is no place.
	Placement *Place  `json:"placement"`
	Checks    []Check `json:"checks"`
}

// JSON is the report on one line, with a newline.
func (r *Report) JSON() []byte { return jsonline.Encode(r, false) }

// Examine finds out what works here, by trying: it makes real runs, of programs that this binary has in it, with
// the Manager, Parent and Nest of a Config. It takes half a second, and leaves nothing. When ctx is over it
// comes to an end soon, and the report says nothing.
func Examine(ctx context.Context, cfg shim.Config) *Report {
	e := examiner{ctx: ctx, report: &Report{Type: "doctor", SchemaVersion: shim.SchemaVersion, OK: true, Checks: []Check{}}, cfg: cfg}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		e.report.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	if e.place() && e.start() {
		e.controllers()
		e.kernel()
		e.selfTests()
		e.user()
	}
	e.network()
	e.userNamespaces()
	e.landlock()
	return e.report
}

type examiner struct {
	ctx    context.Context
	report *Report
	plain  *shim.Result // of a run without limits
	cfg    shim.Config
	host   *cgroup.Host
}

// note puts a check into the report, or in the place of an earlier one of its name.
func (e *examiner) note(c Check) {
	if c.Status == Fail {
		e.report.OK = false
	}
	at := slices.IndexFunc(e.report.Checks, func(old Check) bool { return old.Name == c.Name })
	if at < 0 {
		e.report.Checks = append(e.report.Checks, c)
		return
	}
	e.report.Checks[at] = c
}

// pass notes a check that is ok.
func (e *examiner) pass(name, found string) { e.note(Check{Name: name, Status: OK, Found: found}) }

// reject notes one that is not, with what to do about it.
func (e *examiner) reject(name, found string) {
	e.rejectFor(name, found, e.situation("", nil).Remedy(name))
}

func (e *examiner) rejectFor(name, found, remedy string) {
	status := Fail
	if advice.Optional(name) {
		status = Warn
	}
	c := Check{Name: name, Status: status, Found: found}
	if remedy != "" {
		c.Remedy = &remedy
	}
	e.note(c)
}

// blame rejects a check for a run's error. What there is to do depends on what that is about, which may be another
// check that went well without a limit; and a place is fit only if it can have limits.
func (e *examiner) blame(name string, failed *shim.ErrorInfo) {
	failure := e.situation(failed.Step, failed.Unwrap())
	about := failure.Check()
	if about == "" {
		about = name
	}
	if about == "placement" {
		name = about
	}
	e.rejectFor(name, failed.Message, failure.Remedy(about))
}

func (e *examiner) situation(step string, err error) *advice.Situation {
	return advice.About(step, err, nil).On(e.host)
}

// judge is pass or reject.
func (e *examiner) judge(name string, ok bool, good, bad string) {
	if ok {
		e.pass(name, good)
	} else {
		e.reject(name, bad)
	}
}

// place finds the hierarchies, and where a run would be in them.
func (e *examiner) place() bool {
	var err error
	if e.host, err = seam.Detect(); err != nil {
		e.blame("cgroup-mount", shim.SetupError(&e.cfg, "cgroup", err).Error)
		return false
	}
	version := int(e.host.Version())
	e.report.CgroupVersion = &version
	var names []string
	for _, c := range e.host.Controllers() {
		names = append(names, string(c))
	}
	e.pass("cgroup-mount", fmt.Sprintf("cgroup v%d in %s with %s", version, e.host.MountPoint(e.host.Controllers()[0]), strings.Join(names, ", ")))
	found, err := place.Locate(e.host, place.Want{Manager: e.cfg.Manager, Parent: e.cfg.Parent, Nest: e.cfg.Nest}, os.Getpid())
	if err != nil {
		e.blame("placement", shim.SetupError(&e.cfg, "cgroup", err).Error)
		return false
	}
	e.report.Placement = &Place{found.Manager, found.Parent, found.Reason}
	where := found.Parent
	if found.Manager == shim.ManagerSystemd {
		where = "a scope"
	}
	e.pass("placement", fmt.Sprintf("in %s: %s", where, found.Reason))
	return true
}

// start sees whether there can be a run at all. If not, the check that fails is the one that its hint names.
func (e *examiner) start() bool {
	e.plain = e.run("exit", nil)
	if failed := e.plain.Error; failed != nil {
		name := e.situation(failed.Step, failed.Unwrap()).Check()
		if name == "" || advice.Optional(name) {
			name = "permission"
		}
		e.blame(name, failed)
		return false
	}
	e.pass("permission", "a run without limits works, in "+*e.plain.Cgroup)
	return true
}

// controllers tries a limit of each.
func (e *examiner) controllers() {
	for _, try := range []struct {
		name   string
		limits cgroup.Limits
		file   string
	}{
		{"controller-memory", cgroup.Limits{Memory: 1 << 30}, "--mem"},
		{"controller-pids", cgroup.Limits{PIDs: 1000}, "--pids"},
		{"controller-cpu", cgroup.Limits{CPUs: 1, CPUWeight: 50}, "--cpus and --cpu-weight"},
		{"controller-cpuset", cgroup.Limits{CPUSetCPUs: e.someCPU()}, "--cpuset-cpus"},
		{"swap-accounting", cgroup.Limits{Memory: 1 << 30, Swap: 1 << 20}, "--swap"},
	} {
		res := e.run("exit", func(cfg *shim.Config) { cfg.Limits = try.limits })
		if res.Error != nil {
			e.blame(try.name, res.Error)
			continue
		}
		e.pass(try.name, try.file+" works")
	}
	e.io()
}

// io can't try a limit without a disk to try it on.
func (e *examiner) io() {
	const name = "controller-io"
	switch place := e.report.Placement; {
	case e.host.Version() == cgroup.V1 && e.host.Has(cgroup.IO), e.plain.Sources["io_read_bytes"] == "io.stat":
		e.pass(name, "--device-read-bps and the like can work; not every disk allows it")
	case e.host.Has(cgroup.IO) && place.Manager == shim.ManagerSystemd && os.Geteuid() != 0:
		e.reject(name, fault.ErrNotDelegated.Error())
	default:
		e.reject(name, "the io controller is not to be had there")
	}
}

// someCPU is one that this process may use.
func (e *examiner) someCPU() string {
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) == nil {
		for cpu := range len(set) * 64 {
			if set.IsSet(cpu) {
				return fmt.Sprint(cpu)
			}
		}
	}
	return "0"
}

// kernel tells what this kernel lacks, from what a run has used.
func (e *examiner) kernel() {
	var kill, born bool
	res := e.run("sleep", func(cfg *shim.Config) {
		cfg.OnEvent = func(event shim.Event) {
			if started, ok := event.(*shim.Started); ok {
				kill, born = seam.CanKill(e.host, *started.Cgroup), started.Born
				e.kill(*started.Cgroup)
			}
		}
	})
	if res.Error != nil {
		e.blame("cgroup-kill", res.Error)
		return
	}
	from := func(key string) string { return res.Sources[key] }
	e.judge("memory-peak", strings.HasPrefix(from("peak_memory_bytes"), "memory."), from("peak_memory_bytes")+" tells the peak", "the kernel does not tell the peak")
	e.judge("pids-peak", from("pids_peak") == "pids.peak", "pids.peak tells the most tasks at once", "the kernel does not tell pids_peak")
	e.judge("cgroup-kill", kill && res.Verdict == shim.Signaled, "cgroup.kill kills a run", "there is no cgroup.kill")
	// Where v1 has a cgroup2 directory beside it, for cgroup.kill, that has to be joined, too.
	e.judge("clone-into-cgroup", born || e.host.Version() == cgroup.V1 && !kill, "programs are born in their cgroup, or join it by a tasks file (v1)", "programs join by cgroup.procs")
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err == nil {
		err = errors.Join(unix.PidfdSendSignal(fd, 0, nil, 0), unix.Close(fd))
	}
	e.judge("pidfd", err == nil, "pidfd_open and pidfd_send_signal work", fmt.Sprint("pidfd_open: ", err))
	e.judge("pressure", from("pressure_cpu_some_seconds") != "", from("pressure_cpu_some_seconds")+" is there", "the kernel tells no pressure")
}

// kill kills a run from outside. If it can't, the run goes on until its time is over.
func (e *examiner) kill(path string) {
	ctx, cancel := context.WithTimeout(context.Background(), ledger.KillTimeout)
	defer cancel()
	if group, err := e.host.Open(path); err == nil {
		_ = group.Kill(ctx)
	}
}

// user sees whether the program can be somebody else.
func (e *examiner) user() {
	const nobody = 65534
	res := e.run("exit", func(cfg *shim.Config) { cfg.User = &shim.User{UID: nobody, GID: nobody} })
	if res.Error != nil && res.Error.Step != "exec" { // which that user may not be allowed to do with this binary
		e.blame("change-user", res.Error)
		return
	}
	e.pass("change-user", "--user works")
}

// network sees whether --net none works, also where there is no place for a run, and so no cgroup.
func (e *examiner) network() {
	const name = "net-namespace"
	nowhere := e.plain == nil || e.plain.Error != nil
	res := e.run("exit", func(cfg *shim.Config) { cfg.NoNetwork, cfg.BestEffort = true, nowhere })
	if res.Error != nil {
		e.blame(name, res.Error)
		return
	}
	warnings := slices.DeleteFunc(res.Warnings, func(text string) bool { return !strings.HasPrefix(text, "net: ") })
	e.judge(name, res.Enforced["net"] == shim.ByNamespace, "--net none works", strings.Join(warnings, "; "))
}

// userNamespaces are what --net none takes without CAP_SYS_ADMIN, and what is combined with cgshim.
func (e *examiner) userNamespaces() {
	err := tryUserNamespace()
	e.judge("user-namespaces", err == nil, "user namespaces can be made", fmt.Sprint("clone: ", err))
}

// landlock is what the shield and --fs-* need.
func (e *examiner) landlock() {
	abi := confine.ABI()
	e.judge("landlock", abi >= confine.ABITruncate, fmt.Sprintf("Landlock's ABI %d: --fs-ro, --fs-rw and --fs-system work", abi),
		fmt.Sprintf("Landlock's ABI %d (0: there is none): --fs-ro, --fs-rw and --fs-system take 3", abi))
	policy := confine.Policy{Shield: true}
	made, err := policy.Ruleset()
	if err == nil {
		_ = unix.Close(made.FD)
	}
	e.judge("shield", err == nil, "programs can't signal, trace or look into others",
		"a program of the same user, or root's, can signal and trace cgshim, and all others of this user")
}
