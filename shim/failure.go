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
	info := &ErrorInfo{Step: step, Message: message(step, err), cause: err}
	info.Hint = optional(withCheck(hint(step, err), info.check()))
	var errno unix.Errno
	if errors.As(err, &errno) {
		info.Errno = optional(errnoName(errno))
	}
	r.result.Error = info
}

func errnoName(errno unix.Errno) string {
	if name := unix.ErrnoName(errno); name != "" {
		return name
	}
	return strconv.Itoa(int(errno))
}

// oneLine is for errors.Join, which puts each error on a line of its own.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

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
		errors.Is(err, errors.ErrUnsupported):
		return "placement"
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
	case errors.Is(err, cgroup.ErrPopulated):
		return "cgroup v2 does not limit children of a group that has processes itself: move those into a child of it (in a container, also those of its root group), or choose another --parent"
	case errors.Is(err, cgroup.ErrNoController):
		return "the kernel, the boot parameters or the parent cgroup leave this controller out: see cgroup.controllers (v2) or /proc/cgroups (v1), or run without the limit, or with --best-effort"
	case errors.Is(err, cgroup.ErrNotEnforced), step == "limit" && strings.Contains(err.Error(), "/cpuset."):
		return "the parent cgroup does not have all of these CPUs or memory nodes: see its cpuset.cpus.effective and cpuset.mems.effective"
	case errors.Is(err, cgroup.ErrSwapAccounting):
		return "boot with swapaccount=1, or turn swap off, or go on without this limit: --best-effort"
	case step == "join" && errors.Is(err, unix.EOPNOTSUPP):
		return "the parent cgroup is threaded: choose a --parent of type domain"
	case step == "limit" && errors.Is(err, unix.ENODEV):
		return "the kernel can't throttle this device: it has no request queue, or is no whole disk"
	case errors.Is(err, cgroup.ErrNotEmpty):
		return "a process is in an uninterruptible sleep (state D in ps): its device or network file system does not answer; or it is in a frozen cgroup. Its group stays until cgshim gc"
	case errors.Is(err, fs.ErrExist):
		return "a cgroup of this name exists: another run uses it, or something was left behind; choose another --name"
	case errors.Is(err, unix.EROFS):
		return "the cgroup file system is mounted read-only, as in most containers: start the container with a writable one (podman run --security-opt unmask=/sys/fs/cgroup, docker run --privileged --cgroupns=private), or go on without one: --best-effort"
	case errors.Is(err, fs.ErrPermission) && (step == "cgroup" || step == "limit" || step == "join"):
		return "creating cgroups takes write permission in the hierarchy: run as root (sudo), or give --parent a cgroup that is delegated to you, or go on without one: --best-effort"
	}
	return ""
}

// delegation is what a user on a systemd host needs for every controller, see systemd.resource-control(5).
const delegation = "as root: mkdir -p /etc/systemd/system/user@.service.d && " +
	`printf '[Service]\nDelegate=cpu cpuset io memory pids\n' >/etc/systemd/system/user@.service.d/delegate.conf && ` +
	"systemctl daemon-reload; and log in again"

func launchHint(e *reexec.Error) string {
	switch {
	case e.Step == reexec.StepLookup && e.Errno == unix.ENOENT:
		return "check the spelling; a name without a slash is looked up in the program's PATH, one with a slash from --chdir"
	case e.Step == reexec.StepExec && e.Errno == unix.ENOENT:
		return "the file is there, but its interpreter (#! line) or dynamic loader is not"
	case e.Step == reexec.StepExec && e.Errno == unix.ENOEXEC:
		return "the file is no program for this machine: a script needs a #! line, a binary the right architecture"
	case (e.Step == reexec.StepExec || e.Step == reexec.StepLookup) && e.Errno == unix.EACCES:
		return "it is a directory, or not executable (chmod +x), or on a file system mounted noexec"
	case e.Step == reexec.StepUser && e.Errno == unix.EPERM:
		return "changing the user takes CAP_SETUID and CAP_SETGID: run as root, or without --user"
	case e.Step == reexec.StepNet && e.Errno == unix.EPERM:
		return "a network namespace takes CAP_SYS_ADMIN: run as root, or without --net none"
	case e.Step == reexec.StepNet:
		return "the kernel, or a limit in /proc/sys/user/max_net_namespaces, allows no further network namespace"
	case e.Step == reexec.StepRlimit && e.Errno == unix.EPERM:
		return "raising a hard limit takes CAP_SYS_RESOURCE: run as root, or stay below the one that ulimit -H -a shows"
	case e.Step == reexec.StepExec && e.Errno == unix.EAGAIN:
		return "the user has more processes than the nproc limit allows"
	case e.Step == reexec.StepFD && e.Errno == unix.EMFILE:
		return "the limit of open files is too low for the descriptors to keep: see ulimit -n"
	case e.Step == reexec.StepExec && e.Errno == unix.E2BIG:
		return "arguments and environment are longer than the kernel allows, see execve(2)"
	case e.Step == reexec.StepStage && e.Errno == unix.ENOENT:
		return "cgshim starts itself again through /proc/self/exe: is /proc mounted?"
	}
	return ""
}
