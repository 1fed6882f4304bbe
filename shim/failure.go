package shim

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/reexec"
)

// fail records that the program never ran.
func (r *run) fail(step string, err error) {
	r.noteError(step, err)
	r.result.Error.exitStatus = exitStatus(err)
}

// noteError records the first error; what fails after it is joined to its message.
func (r *run) noteError(step string, err error) {
	if e := r.result.Error; e != nil {
		e.Message += "; " + step + ": " + oneLine(err)
		return
	}
	r.result.Error = explain(r.cfg, step, err)
}

// Explain is what a Result would say of an error that was met before there could be one: of NewPool, for example.
func Explain(err error) *ErrorInfo {
	step := "cgroup"
	var e *reexec.Error
	if errors.As(err, &e) {
		step = e.Step.String()
	}
	return explain(&Config{}, step, err)
}

func explain(cfg *Config, step string, err error) *ErrorInfo {
	what := ""
	var e *reexec.Error
	if errors.As(err, &e) {
		if e.Step == reexec.StepStage && e.Arg == "" && refusal(err) {
			e.Arg = refusedCall(e.Errno)
		}
		what = programHint(cfg, e)
	}
	if what == "" {
		what = hint(step, err)
	}
	info := &ErrorInfo{Step: step, Message: message(step, err), cause: err}
	info.Hint = optional(withCheck(what, info.check()))
	var errno unix.Errno
	if errors.As(err, &errno) {
		info.Errno = optional(errnoName(errno))
	}
	return info
}

func errnoName(errno unix.Errno) string {
	if name := unix.ErrnoName(errno); name != "" {
		return name
	}
	return strconv.Itoa(int(errno))
}

// oneLine is for errors.Join, which puts each error on a line of its own.
func oneLine(err error) string { return escapeBytes(strings.ReplaceAll(err.Error(), "\n", "; ")) }

// escapeBytes writes bytes that are no UTF-8 as %q does: a name may have some, and JSON would have U+FFFD for all of them.
func escapeBytes(text string) string {
	if utf8.ValidString(text) {
		return text
	}
	var b strings.Builder
	for i, r := range text {
		_, size := utf8.DecodeRuneInString(text[i:])
		if r == utf8.RuneError && size == 1 {
			fmt.Fprintf(&b, `\x%02x`, text[i])
			continue
		}
		b.WriteString(text[i : i+size])
	}
	return b.String()
}

// message puts the step first, unless the error says it itself, or is about the caller's own words.
func message(step string, err error) string {
	text := oneLine(err)
	if words, ok := strings.CutPrefix(text, ErrConfig.Error()+": "); ok {
		return words
	}
	if step == "usage" || strings.HasPrefix(text, step) {
		return text
	}
	return step + ": " + text
}

// launchError names the step at which the launch failed, and what it was about: for a join the file.
func (r *run) launchError(err error, join *cgroup.Join) (string, error) {
	var e *reexec.Error
	if !errors.As(err, &e) {
		return "stage", err
	}
	switch e.Step {
	case reexec.StepStage:
		switch {
		case errors.Is(r.gaveUp, cgroup.ErrFrozen):
			return "join", r.gaveUp
		case r.gaveUp != nil:
			err = r.gaveUp
		case slices.ContainsFunc(r.early, cancels): // Ctrl-C is for the stage, too
			err = errToldToStop
		}
	case reexec.StepJoin:
		if e.Index < len(join.Paths) {
			err = &cgroup.Error{Op: "join", Path: join.Paths[e.Index], Err: e.Errno}
		}
	case reexec.StepRlimit:
		if limits := r.rlimits(); e.Index >= 0 && e.Index < len(limits) {
			e.Arg = rlimitName(limits[e.Index].Resource)
		}
	case reexec.StepUser:
		e.Arg = fmt.Sprintf("%d:%d", r.cfg.User.UID, r.cfg.User.GID)
	case reexec.StepAffinity:
		e.Arg = r.cfg.Limits.CPUSetCPUs
	case reexec.StepFD:
		if e.Index >= 0 && e.Index < len(r.cfg.KeepFDs) {
			e.Arg = strconv.Itoa(r.cfg.KeepFDs[e.Index])
		}
	}
	return e.Step.String(), err
}

// exitStatus tells a program that is not there (127) and one that is but can't be executed (126) from
// everything else (125).
func exitStatus(err error) int {
	var e *reexec.Error
	if !errors.As(err, &e) {
		return ExitFailed
	}
	switch {
	case e.Step == reexec.StepLookup && errors.Is(e.Errno, unix.ENOENT):
		return ExitNotFound
	case e.Step == reexec.StepLookup, e.Step == reexec.StepExec:
		return ExitCannotExec
	}
	return ExitFailed
}

// withCheck adds the check of Examine that is about the same to a hint.
func withCheck(hint, check string) string {
	switch {
	case check == "":
		return hint
	case hint == "":
		return "cgshim doctor tells more: see " + check
	}
	return hint + " (cgshim doctor: " + check + ")"
}

// check is the check of Examine that the error is about; "" if none is.
func (e *ErrorInfo) check() string { return doctorCheck(e.Step, e.cause) }

// doctorCheck is the check that a setup error is about; "" for errors of the caller's or the program's own.
func doctorCheck(step string, err error) string {
	var launch *reexec.Error
	var e *cgroup.Error
	switch {
	case errors.As(err, &launch):
		return map[reexec.Step]string{
			reexec.StepNet: "net-namespace", reexec.StepClone: "clone-into-cgroup", reexec.StepJoin: "permission",
			reexec.StepUser: "change-user", reexec.StepStage: "permission", reexec.StepAffinity: "controller-cpuset",
		}[launch.Step]
	case errors.Is(err, errToldToStop), errors.Is(err, errNotStarted), errors.Is(err, cgroup.ErrFrozen):
		return ""
	case errors.Is(err, cgroup.ErrNotMounted):
		return "cgroup-mount"
	case errors.Is(err, ErrOthers), errors.Is(err, ErrForeign), errors.Is(err, ErrNoSystemd), errors.Is(err, errUnanswered), errors.Is(err, cgroup.ErrPopulated),
		(step == "cgroup" || step == "join") && errors.Is(err, errors.ErrUnsupported): // also ErrThreaded
		return "placement"
	case errors.Is(err, unix.EINVAL): // a value that the kernel does not take here: the controller works
		return ""
	case errors.Is(err, cgroup.ErrSwapAccounting):
		return "swap-accounting"
	case errors.Is(err, cgroup.ErrNotEnforced):
		return "controller-cpuset"
	case errors.As(err, &e) && controllerOf(e) != "":
		return "controller-" + controllerOf(e)
	}
	return map[string]string{"cgroup": "permission", "limit": "permission", "join": "permission", "stage": "permission"}[step]
}

// controllerOf is the controller that an error is about: one that is not there, or can't be enabled, or whose limit
// can't be written; "" if it is about none.
func controllerOf(e *cgroup.Error) string {
	word, _, _ := strings.Cut(path.Base(e.Path), ".") // memory.max
	switch {
	case errors.Is(e, cgroup.ErrNoController):
		word = e.Value
	case e.Op == "create": // a name that somebody has chosen
		return ""
	case path.Base(e.Path) == "cgroup.subtree_control": // "+memory +pids"
		word, _, _ = strings.Cut(strings.TrimPrefix(e.Value, "+"), " ")
	}
	switch word {
	case "memory", "pids", "cpu", "cpuset", "io":
		return word
	case "cpuacct":
		return "cpu"
	case "blkio":
		return "io"
	}
	return ""
}

// hint says what to do about an error; "" if there is nothing useful to say.
func hint(step string, err error) string {
	var e *reexec.Error
	if errors.As(err, &e) {
		return launchHint(e)
	}
	switch {
	case errors.Is(err, errUnanswered):
		return "is it stopped, or very busy? systemctl status (a user's: systemctl --user status); or go on without it: --best-effort"
	case step == "oom-score-adj" && errors.Is(err, fs.ErrPermission):
		return "lowering it below what root has set takes CAP_SYS_RESOURCE: run as root, or give one that is not below cgshim's own (cat /proc/self/oom_score_adj)"
	case step == "privileges":
		return "chmod u-s,g-s and setcap -r take them from the file; who may have programs run as somebody else gets cgshim by sudo, or by a service that makes the command line"
	case step == "descriptors" && errors.Is(err, unix.EMFILE):
		return "raise the soft limit for cgshim (ulimit -n), and lower it for the program: --ulimit nofile"
	case step == "threads", errors.Is(err, errThreads):
		return "raise the limit of tasks for cgshim (ulimit -u, a container's --pids-limit, a unit's TasksMax=), and lower it for the program: --ulimit nproc, or --pids"
	case step == "memory":
		return "raise the soft limit for cgshim (ulimit -v, ulimit -d), and lower it for the program: --ulimit as, --ulimit data, or --mem"
	case step == "open":
		return "a FIFO waits for its other end; else the file system does not answer"
	case errors.Is(err, errToldToStop), errors.Is(err, errNotStarted):
		return "if that took long: the file system of the program, its interpreter or --chdir does not answer"
	case errors.Is(err, cgroup.ErrNotMounted):
		return "mount one: mount -t cgroup2 none /sys/fs/cgroup; in a container, start it with a writable /sys/fs/cgroup"
	case errors.Is(err, fs.ErrNotExist) && strings.Contains(err.Error(), `"/proc/`):
		return "cgshim needs /proc: mount -t proc proc /proc"
	case errors.Is(err, ErrOthers):
		return "--nest moves them into a group of their own below it, where they stay; or choose another place: --parent, or --manager systemd"
	case errors.Is(err, ErrForeign):
		return "run cgshim there as the user whose it is; or leave it, and its limits, with --manager systemd or --parent; or go on without a cgroup: --best-effort"
	case errors.Is(err, ErrNoSystemd) && os.Geteuid() == 0:
		return "systemd runs this host, and is asked for a scope: is /run/systemd/private there? --manager cgroupfs does without it"
	case errors.Is(err, ErrNoSystemd):
		return "there is no service manager for this user: log in (ssh, a terminal), or loginctl enable-linger USER; or run as root (sudo), or go on without a cgroup: --best-effort"
	case errors.Is(err, errNotDelegated):
		return delegation + "; or go on without the limit: --best-effort"
	case errors.Is(err, cgroup.ErrFrozen):
		return "thaw it (echo 0 into its cgroup.freeze, v1: echo THAWED into its freezer.state), or choose another --parent"
	case errors.Is(err, cgroup.ErrNotEmpty):
		return "a process is in an uninterruptible sleep (state D in ps): its device or network file system does not answer; or it is in a frozen cgroup. Its group stays until cgshim gc"
	case step == "signals" && refusal(err):
		return refusalHint()
	}
	switch step {
	case "cgroup", "limit", "join":
		return cgroupHint(step, err)
	}
	return ""
}

// cgroupHint is about what the kernel says of a cgroup.
func cgroupHint(step string, err error) string {
	var above *cgroup.QuotaError
	switch {
	case errors.Is(err, cgroup.ErrPopulated):
		return "cgroup v2 does not limit children of a group that has processes itself: move those into a child of it (in a container, also those of its root group), or choose another --parent"
	case errors.Is(err, cgroup.ErrNoController):
		return "the kernel, the boot parameters or the parent cgroup leave this controller out: see cgroup.controllers (v2) or /proc/cgroups (v1), or run without the limit, or with --best-effort"
	case errors.As(err, &above):
		return fmt.Sprintf("ask for at most --cpus %s, the quota of %q, or raise that one (cpu.cfs_quota_us)", strconv.FormatFloat(above.CPUs, 'g', -1, 64), above.Group)
	case step == "limit" && errors.Is(err, unix.EINVAL) && strings.Contains(err.Error(), "/cpuset."):
		return "a cgroup beside it has some of these CPUs or memory nodes for itself (cpuset.cpu_exclusive, cpuset.mem_exclusive)"
	case errors.Is(err, cgroup.ErrNotEnforced), step == "limit" && errors.Is(err, fs.ErrPermission) && strings.Contains(err.Error(), "/cpuset."):
		return "the parent cgroup does not have all of these CPUs or memory nodes: see its cpuset.cpus.effective and cpuset.mems.effective"
	case errors.Is(err, cgroup.ErrSwapAccounting):
		return "boot with swapaccount=1, or turn swap off, or go on without this limit: --best-effort"
	case errors.Is(err, cgroup.ErrThreaded), errors.Is(err, unix.EOPNOTSUPP):
		return "the parent cgroup is threaded (cgroup.type), for threads of a program that is there already: choose a --parent of type domain, with none above it that is threaded"
	case errors.Is(err, unix.EINVAL) && aboutCPU(err) && (step != "join" || realTime()):
		return "a process with a real-time policy (SCHED_FIFO, SCHED_RR: chrt) can't be in a cgroup of the cpu controller, in a kernel with CONFIG_RT_GROUP_SCHED: start cgshim without it (chrt --other 0 cgshim …), or leave out --cpus, --cpu-weight and --cpu-shares"
	case step == "limit" && errors.Is(err, unix.ENODEV) && aboutIO(err):
		return "the kernel can't throttle this device: it has no request queue, or is no whole disk"
	case step == "cgroup" && errors.Is(err, fs.ErrExist):
		return "a cgroup of this name exists: another run uses it, or something was left behind; choose another --name"
	case step == "cgroup" && (errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EAGAIN)):
		return "there are too many cgroups: the kernel takes 65535 with memory, and cgroup.max.descendants and cgroup.max.depth of those above can be less; cgshim gc removes what dead runs have left"
	case errors.Is(err, unix.EROFS):
		return "the cgroup file system is mounted read-only, as in most containers: start the container with a writable one (podman run --security-opt unmask=/sys/fs/cgroup, docker run --privileged --cgroupns=private), or go on without one: --best-effort"
	case errors.Is(err, fs.ErrPermission) && os.Geteuid() == 0:
		return "root is refused: in a user namespace it is none for this (cat /proc/self/uid_map); else a security module says so (dmesg); give --parent a cgroup that is yours, or go on without one: --best-effort"
	case errors.Is(err, fs.ErrPermission):
		return "creating cgroups takes write permission in the hierarchy: run as root (sudo), or give --parent a cgroup that is delegated to you, or go on without one: --best-effort"
	}
	return ""
}

// aboutCPU says that an error is about entering a group of the cpu controller, or enabling that.
func aboutCPU(err error) bool {
	var e *cgroup.Error
	if !errors.As(err, &e) {
		return false
	}
	if path.Base(e.Path) == "cgroup.subtree_control" {
		return slices.Contains(strings.Fields(e.Value), "+cpu")
	}
	// The mount point of a v1 hierarchy is named for its controllers: /sys/fs/cgroup/cpu,cpuacct.
	named := func(c rune) bool { return c == '/' || c == ',' }
	return path.Base(e.Path) == "tasks" && slices.Contains(strings.FieldsFunc(e.Path, named), "cpu")
}

func aboutIO(err error) bool {
	var e *cgroup.Error
	return errors.As(err, &e) && (path.Base(e.Path) == "io.max" || strings.HasPrefix(path.Base(e.Path), "blkio."))
}

// realTime says whether this thread, and so what it starts, has a real-time policy, see sched(7).
func realTime() bool {
	const fifo, roundRobin, resetOnFork = 1, 2, 0x40000000
	policy, _, errno := unix.RawSyscall(unix.SYS_SCHED_GETSCHEDULER, 0, 0, 0)
	return errno == 0 && (policy&^resetOnFork == fifo || policy&^resetOnFork == roundRobin)
}

// delegation is what a user on a systemd host needs for every controller, see systemd.resource-control(5).
const delegation = "as root: mkdir -p /etc/systemd/system/user@.service.d && " +
	`printf '[Service]\nDelegate=cpu cpuset io memory pids\n' >/etc/systemd/system/user@.service.d/delegate.conf && ` +
	"systemctl daemon-reload; and log in again"

func launchHint(e *reexec.Error) string {
	exec := e.Step == reexec.StepExec
	switch {
	case refusal(e) && (e.Step == reexec.StepStage || e.Step == reexec.StepNoNewPrivs || e.Step == reexec.StepPdeathsig):
		return refusalHint()
	case e.Step == reexec.StepLookup && e.Errno == unix.ENOENT:
		return "check the spelling; a name without a slash is looked up in the program's PATH, one with a slash from --chdir"
	case exec && e.Errno == unix.ETXTBSY:
		return "a process has the file open for writing, also 100 ms later: a copy or a compiler that is not done, or one that has inherited the descriptor; fuser -v FILE tells which"
	case exec && e.Errno == unix.ENOENT:
		return "the file is there, but its interpreter (#! line) or dynamic loader is not"
	case exec && e.Errno == unix.ENOEXEC:
		return "the file is no program for this machine: a script needs a #! line, a binary the right architecture"
	case (exec || e.Step == reexec.StepLookup) && e.Errno == unix.EACCES:
		return "it is a directory, or not executable (chmod +x), or on a file system mounted noexec"
	case exec && e.Errno == unix.EAGAIN:
		return "the user has more processes than the nproc limit allows"
	case exec && e.Errno == unix.E2BIG:
		return "arguments and environment are longer than the kernel allows, see execve(2)"
	case e.Step == reexec.StepRlimit && e.Errno == unix.EPERM:
		return "raising a hard limit takes CAP_SYS_RESOURCE: run as root, or stay below the one that ulimit -H -a shows"
	case e.Step == reexec.StepFD && e.Errno == unix.EMFILE:
		return "the limit of open files is too low for the descriptors to keep: see ulimit -n"
	case e.Step == reexec.StepStage && e.Errno == unix.EFBIG:
		return "cgshim writes down what to clean up after its death, for which the caller's limit of file sizes (ulimit -f) has to leave some KiB; the program's can be lower: --ulimit fsize=0"
	case e.Step == reexec.StepStage && e.Errno == unix.ENOENT:
		return "cgshim starts itself again through /proc/self/exe: is /proc mounted?"
	case (e.Step == reexec.StepStage || e.Step == reexec.StepClone) && e.Errno == unix.EAGAIN:
		return "there are as many processes as a limit allows: ulimit -u of this user, or pids.max of a cgroup above"
	}
	return privilegeHint(e)
}

// privilegeHint is about what takes a privilege, which root may lack, too.
func privilegeHint(e *reexec.Error) string {
	root := os.Geteuid() == 0
	switch {
	case e.Step == reexec.StepUser && e.Errno == unix.EPERM && root:
		return "changing the user takes CAP_SETUID and CAP_SETGID, which this root has not got (in a container: --cap-add SETUID --cap-add SETGID); or a user namespace forbids setgroups (/proc/self/setgroups)"
	case e.Step == reexec.StepUser && e.Errno == unix.EPERM:
		return "changing the user takes CAP_SETUID and CAP_SETGID: run as root, or without --user"
	case e.Step == reexec.StepUser && e.Errno == unix.EINVAL:
		return "there is no such user or group in this user namespace: see /proc/self/uid_map and gid_map"
	case e.Step == reexec.StepNet && e.Errno == unix.EPERM && root:
		return "a network namespace takes CAP_SYS_ADMIN, which this root has not got (in a container: --cap-add SYS_ADMIN): run without --net none"
	case e.Step == reexec.StepNet && e.Errno == unix.EPERM:
		return "a network namespace takes CAP_SYS_ADMIN: run as root, or without --net none"
	case e.Step == reexec.StepNet && (e.Errno == unix.EINVAL || e.Errno == unix.ENOENT):
		return "the kernel has no network namespaces (CONFIG_NET_NS)"
	case e.Step == reexec.StepNet && (e.Errno == unix.ENOSPC || e.Errno == unix.EUSERS):
		return "a limit in /proc/sys/user/max_net_namespaces allows no further network namespace"
	}
	return ""
}

// refusal says whether an error is one that a system call gets which a filter refuses, and that needs no privilege.
func refusal(err error) bool { return errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) }

func refusalHint() string {
	if !filtered() {
		return "a security module or an old kernel refuses a system call that cgshim needs: dmesg may say which"
	}
	return "a seccomp filter refuses a system call that cgshim needs: in a container, docker or podman run --security-opt seccomp=unconfined; in a service, SystemCallFilter= of its unit"
}

// filtered says whether a seccomp filter is in force for this process, see proc_pid_status(5).
func filtered() bool {
	status, _ := os.ReadFile("/proc/self/status")
	return strings.Contains(string(status), "\nSeccomp:\t2")
}

// refusedCall tries those that starting a stage takes, and names the one that is refused with an errno; "" if none is.
func refusedCall(errno unix.Errno) string {
	var fds [2]int
	for _, call := range []struct {
		name string
		try  func() error
	}{
		{"memfd_create", func() (err error) { fds[0], err = unix.MemfdCreate("cgshim-probe", unix.MFD_CLOEXEC); return err }},
		{"pipe2", func() error { return unix.Pipe2(fds[:], unix.O_CLOEXEC) }},
		{"socketpair", func() (err error) {
			fds, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			return err
		}},
	} {
		fds = [2]int{-1, -1}
		if err := call.try(); errors.Is(err, errno) {
			return call.name
		}
		for _, fd := range fds {
			if fd >= 0 {
				unix.Close(fd)
			}
		}
	}
	return ""
}
