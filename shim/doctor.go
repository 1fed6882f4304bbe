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
// the Manager, Parent and Nest of a Config. It takes some tens of milliseconds, and leaves nothing.
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
	}
	e.namespaces()
	return e.report
}

// checks are the names of all that Examine can report, in its order, with what to do about one that is not ok
// if the error that it failed with does not say.
var checks = []struct{ name, remedy string }{
	{"cgroup-mount", ""},
	{"placement", ""},
	{"permission", ""},
	{"controller-memory", "boot with cgroup_enable=memory (Raspberry Pi and some Debian kernels turn it off)"},
	{"controller-pids", ""},
	{"controller-cpu", "a kernel with CONFIG_CFS_BANDWIDTH; real-time tasks in the parent cgroup keep v2 from enabling it"},
	{"controller-cpuset", ""},
	{"swap-accounting", "boot with swapaccount=1, or turn swap off: swapoff -a"},
	{"controller-io", "a kernel with CONFIG_BLK_DEV_THROTTLING"},
	{"memory-peak", "Linux 5.19 or newer: until then the peak is sampled, and may be too low"},
	{"pids-peak", "Linux 6.1 or newer: until then pids_peak is null"},
	{"cgroup-kill", "Linux 5.14 or newer: until then processes are frozen and killed one by one"},
	{"clone-into-cgroup", "Linux 5.7 or newer, and a seccomp profile that allows clone3 (docker run --security-opt seccomp=unconfined): until then each start takes 10 to 20 ms more"},
	{"pidfd", "Linux 5.3 or newer, and a seccomp profile that allows pidfd_open: until then cgshim kill can't work"},
	{"pressure", "boot with psi=1: until then the pressure figures are null"},
	{"self-test-oom", ""},
	{"self-test-pids", ""},
	{"self-test-wall-time", ""},
	{"self-test-cpu-time", ""},
	{"net-namespace", "--net none takes root; a user has it with bwrap --unshare-net"},
	{"user-namespaces", "sysctl -w user.max_user_namespaces=10000 kernel.unprivileged_userns_clone=1 (Ubuntu: kernel.apparmor_restrict_unprivileged_userns=0): bwrap and rootless containers need it, cgshim does not"},
}

// optionalChecks are checks that fail nobody: few use what they are about, or there is something else.
var optionalChecks = []string{
	"controller-cpuset", "controller-io", "swap-accounting", "memory-peak", "pids-peak", "cgroup-kill", "clone-into-cgroup", "pidfd",
	"pressure", "net-namespace", "user-namespaces",
}

type examiner struct {
	ctx    context.Context
	report *Report
	plain  *Result // of a run without limits
	cfg    Config
	host   *cgroup.Host
}

// pass notes a check that is ok.
func (e *examiner) pass(name, found string) {
	e.report.Checks = append(e.report.Checks, Check{Name: name, Status: CheckOK, Found: found})
}

// reject notes one that is not, with what to do about it: remedy, or else what is known of the check.
func (e *examiner) reject(name, found string, remedy *string) {
	c := Check{Name: name, Status: CheckFail, Found: found}
	if remedy != nil {
		c.Remedy = optional(withoutCheck(*remedy))
	}
	for _, known := range checks {
		if c.Remedy == nil && known.name == name {
			c.Remedy = optional(known.remedy)
		}
	}
	if slices.Contains(optionalChecks, name) {
		c.Status = CheckWarn
	} else {
		e.report.OK = false
	}
	e.report.Checks = append(e.report.Checks, c)
}

// judge is pass or reject.
func (e *examiner) judge(name string, ok bool, good, bad string) {
	if ok {
		e.pass(name, good)
	} else {
		e.reject(name, bad, nil)
	}
}

// place finds the hierarchies, and where a run would be in them.
func (e *examiner) place() bool {
	var err error
	if e.host, err = detect(); err != nil {
		e.reject("cgroup-mount", oneLine(err), optional(hint("cgroup", err)))
		return false
	}
	version := int(e.host.Version())
	e.report.CgroupVersion = &version
	var names []string
	for _, c := range e.host.Controllers() {
		names = append(names, string(c))
	}
	e.pass("cgroup-mount", fmt.Sprintf("cgroup v%d with %s", version, strings.Join(names, ", ")))
	place, err := Locate(e.host, &e.cfg, os.Getpid())
	if err != nil {
		e.reject("placement", oneLine(err), optional(hint("cgroup", err)))
		return false
	}
	e.report.Placement = &place
	where := place.Parent
	if place.Manager == ManagerSystemd {
		where = "a scope"
	}
	e.pass("placement", fmt.Sprintf("in %s: %s", where, place.Reason))
	return true
}

// start sees whether there can be a run at all.
func (e *examiner) start() bool {
	e.plain = e.run("exit", nil)
	if e.plain.Error != nil {
		e.reject("permission", e.plain.Error.Message, e.plain.Error.Hint)
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
			e.reject(try.name, res.Error.Message, res.Error.Hint)
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
		e.reject(name, errNotDelegated.Error(), optional(delegation))
	default:
		e.reject(name, "the io controller is not to be had there", nil)
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
	res := e.run("sleep", func(cfg *Config) {
		cfg.OnEvent = func(event Event) {
			if started, ok := event.(*Started); ok {
				kill, born = e.host.CanKill(*started.Cgroup), started.born
				_ = (&Running{Cgroup: *started.Cgroup, host: e.host}).Kill()
			}
		}
	})
	from := func(key string) string { return res.Sources[key] }
	e.judge("memory-peak", strings.HasPrefix(from("peak_memory_bytes"), "memory."), from("peak_memory_bytes")+" tells the peak", "the kernel does not tell the peak")
	e.judge("pids-peak", from("pids_peak") == "pids.peak", "pids.peak tells the most tasks at once", "the kernel does not tell pids_peak")
	e.judge("cgroup-kill", kill && res.Verdict == Signaled, "cgroup.kill kills a run", "there is no cgroup.kill")
	e.judge("clone-into-cgroup", born || e.host.Version() == cgroup.V1, "programs are born in their cgroup, or join it by a tasks file (v1)", "programs join by cgroup.procs")
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err == nil {
		err = errors.Join(unix.PidfdSendSignal(fd, 0, nil, 0), unix.Close(fd))
	}
	e.judge("pidfd", err == nil, "pidfd_open and pidfd_send_signal work", fmt.Sprint("pidfd_open: ", err))
	e.judge("pressure", from("pressure_cpu_some_seconds") != "", from("pressure_cpu_some_seconds")+" is there", "the kernel tells no pressure")
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
