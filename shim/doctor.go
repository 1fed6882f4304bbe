package shim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/shim/internal/place"
)

// The states of a Check.
const (
	CheckOK   = "ok"
	CheckWarn = "warn" // cgshim works; a figure is unknown, something slower is done instead, or a flag that few need is refused
	CheckFail = "fail" // a flag that everybody needs can't work
)

// A Check is one thing that Examine has tried.
type Check struct {
	Name   string  `json:"name"`
	Status string  `json:"status"`
	Found  string  `json:"found"`  // what was seen, and where
	Remedy *string `json:"remedy"` // what to do; nil if it is ok, or nothing can be done
}

// A Report is what Examine has found. Its JSON form is one line; nil (null in JSON) is unknown.
type Report struct {
	Type          string  `json:"type"` // "doctor"
	SchemaVersion int     `json:"schema_version"`
	Version       string  `json:"version"` // of the caller, who sets it
	OK            bool    `json:"ok"`      // nothing has failed
	Kernel        string  `json:"kernel"`
	CgroupVersion *int    `json:"cgroup_version"`
	Placement     *Place  `json:"placement"`
	Checks        []Check `json:"checks"`
}

// JSON is the report on one line, with a newline.
func (r *Report) JSON() []byte { return encode(r, false) }

// Examine finds out what works here, by trying: it makes real runs, of programs that this binary has in it, with
// the Manager, Parent and Nest of a Config. It takes half a second, and leaves nothing. When ctx is over it
// comes to an end soon, and the report says nothing.
func Examine(ctx context.Context, cfg Config) *Report {
	e := examiner{ctx: ctx, report: &Report{Type: "doctor", SchemaVersion: SchemaVersion, OK: true, Checks: []Check{}}, cfg: cfg}
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
	e.namespaces()
	return e.report
}

// checks are the names of all that Examine can report, in its order.
var checks = []string{
	"cgroup-mount", "placement", "permission",
	"controller-memory", "controller-pids", "controller-cpu", "controller-cpuset", "swap-accounting", "controller-io",
	"memory-peak", "pids-peak", "cgroup-kill", "clone-into-cgroup", "pidfd", "pressure",
	"self-test-oom", "oom-kills", "self-test-pids", "self-test-wall-time", "self-test-cpu-time",
	"change-user", "net-namespace", "user-namespaces",
}

// optionalChecks are checks that fail nobody: few use what they are about, or there is something else.
var optionalChecks = []string{
	"controller-cpuset", "controller-io", "swap-accounting", "memory-peak", "pids-peak", "cgroup-kill", "clone-into-cgroup", "pidfd",
	"pressure", "oom-kills", "change-user", "net-namespace", "user-namespaces",
}

func optionalCheck(name string) bool { return slices.Contains(optionalChecks, name) }

type examiner struct {
	ctx    context.Context
	report *Report
	plain  *Result // of a run without limits
	cfg    Config
	host   *cgroup.Host
}

// note puts a check into the report, or in the place of an earlier one of its name.
func (e *examiner) note(c Check) {
	if c.Status == CheckFail {
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
func (e *examiner) pass(name, found string) { e.note(Check{Name: name, Status: CheckOK, Found: found}) }

// reject notes one that is not, with what to do about it.
func (e *examiner) reject(name, found string) {
	e.rejectFor(name, found, remedy(name, e.situation(nil)))
}

func (e *examiner) rejectFor(name, found, remedy string) {
	status := CheckFail
	if optionalCheck(name) {
		status = CheckWarn
	}
	e.note(Check{Name: name, Status: status, Found: found, Remedy: optional(remedy)})
}

// blame rejects a check for a run's error. What there is to do depends on what that is about, which may be another
// check that went well without a limit; and a place is fit only if it can have limits.
func (e *examiner) blame(name string, failed *ErrorInfo) {
	about := failed.check()
	if about == "" {
		about = name
	}
	if about == "placement" {
		name = about
	}
	e.rejectFor(name, failed.Message, remedy(about, e.situation(failed.cause)))
}

func (e *examiner) situation(cause error) *situation {
	s := thisSituation(e.host)
	s.cause = cause
	return &s
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
	if e.host, err = detect(); err != nil {
		e.blame("cgroup-mount", SetupError(&e.cfg, "cgroup", err).Error)
		return false
	}
	version := int(e.host.Version())
	e.report.CgroupVersion = &version
	var names []string
	for _, c := range e.host.Controllers() {
		names = append(names, string(c))
	}
	e.pass("cgroup-mount", fmt.Sprintf("cgroup v%d in %s with %s", version, e.host.MountPoint(e.host.Controllers()[0]), strings.Join(names, ", ")))
	found, err := Locate(e.host, &e.cfg, os.Getpid())
	if err != nil {
		e.blame("placement", SetupError(&e.cfg, "cgroup", err).Error)
		return false
	}
	e.report.Placement = &found
	where := found.Parent
	if found.Manager == ManagerSystemd {
		where = "a scope"
	}
	e.pass("placement", fmt.Sprintf("in %s: %s", where, found.Reason))
	return true
}

// start sees whether there can be a run at all. If not, the check that fails is the one that its hint names.
func (e *examiner) start() bool {
	e.plain = e.run("exit", nil)
	if failed := e.plain.Error; failed != nil {
		name := failed.check()
		if name == "" || optionalCheck(name) {
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
		res := e.run("exit", func(cfg *Config) { cfg.Limits = try.limits })
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
	case e.host.Has(cgroup.IO) && place.Manager == ManagerSystemd && os.Geteuid() != 0:
		e.reject(name, errNotDelegated.Error())
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

// canKill is replaced by tests, with kernels that have less.
var canKill = place.CanKill

// kernel tells what this kernel lacks, from what a run has used.
func (e *examiner) kernel() {
	var kill, born bool
	res := e.run("sleep", func(cfg *Config) {
		cfg.OnEvent = func(event Event) {
			if started, ok := event.(*Started); ok {
				kill, born = canKill(e.host, *started.Cgroup), started.born
				_ = (&Running{Cgroup: *started.Cgroup, host: e.host}).Kill()
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
	e.judge("cgroup-kill", kill && res.Verdict == Signaled, "cgroup.kill kills a run", "there is no cgroup.kill")
	// Where v1 has a cgroup2 directory beside it, for cgroup.kill, that has to be joined, too.
	e.judge("clone-into-cgroup", born || e.host.Version() == cgroup.V1 && !kill, "programs are born in their cgroup, or join it by a tasks file (v1)", "programs join by cgroup.procs")
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err == nil {
		err = errors.Join(unix.PidfdSendSignal(fd, 0, nil, 0), unix.Close(fd))
	}
	e.judge("pidfd", err == nil, "pidfd_open and pidfd_send_signal work", fmt.Sprint("pidfd_open: ", err))
	e.judge("pressure", from("pressure_cpu_some_seconds") != "", from("pressure_cpu_some_seconds")+" is there", "the kernel tells no pressure")
}

// user sees whether the program can be somebody else.
func (e *examiner) user() {
	const nobody = 65534
	res := e.run("exit", func(cfg *Config) { cfg.User = &User{UID: nobody, GID: nobody} })
	if res.Error != nil && res.Error.Step != "exec" { // which that user may not be allowed to do with this binary
		e.blame("change-user", res.Error)
		return
	}
	e.pass("change-user", "--user works")
}

// namespaces are what --net none, and what is combined with cgshim, needs.
func (e *examiner) namespaces() {
	for _, try := range []struct {
		name string
		flag uintptr
		good string
	}{
		{"net-namespace", unix.CLONE_NEWNET, "--net none works"},
		{"user-namespaces", unix.CLONE_NEWUSER, "user namespaces can be made"},
	} {
		err := tryNamespace(try.flag)
		e.judge(try.name, err == nil, try.good, fmt.Sprint("clone: ", err))
	}
}
