package advice

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/reexec"
	"github.com/cgshim/cgshim/shim/internal/confine"
	"github.com/cgshim/cgshim/shim/internal/fault"
)

// table is the table. The first class that an error is in counts; and of the rows that are about a check, or its class, the first
// with a remedy. It is a function so that a run that goes well has nothing to do with it.
func table() []row {
	return []row{
		// Launches.
		{
			is: launching(reexec.StepStage, unix.EPERM, unix.ENOSYS), check: "permission", hints: refused,
			remedies: []choice{{nil, `grep Seccomp: /proc/self/status  # 2: a filter refuses a system call that cgshim needs
docker run --security-opt seccomp=unconfined IMAGE  # in a service it is SystemCallFilter= of its unit
podman run --security-opt seccomp=unconfined IMAGE`}},
		},
		{is: either(launching(reexec.StepNoNewPrivs, unix.EPERM, unix.ENOSYS), launching(reexec.StepPdeathsig, unix.EPERM, unix.ENOSYS)), check: noCheck, hints: refused},
		{is: launching(reexec.StepLookup, unix.ENOENT), check: noCheck, hints: always("check the spelling; a name without a slash is looked up in the program's PATH, one with a slash from --chdir")},
		{is: launching(reexec.StepExec, unix.ETXTBSY), check: noCheck, hints: always("a process has the file open for writing, also 100 ms later: a copy or a compiler that is not done, or one that has inherited the descriptor; fuser -v FILE tells which")},
		{is: launching(reexec.StepExec, unix.ENOENT), check: noCheck, detail: ofProgram(interpreterHint), hints: always("the file is there, but its interpreter (#! line) or dynamic loader is not")},
		{is: launching(reexec.StepExec, unix.ENOEXEC), check: noCheck, detail: ofProgram(formatHint), hints: always("the file is no program for this machine: a script needs a #! line, a binary the right architecture")},
		{is: either(launching(reexec.StepExec, unix.EACCES), launching(reexec.StepLookup, unix.EACCES)), check: noCheck, detail: ofProgram(accessHint), hints: always("it is a directory, or not executable (chmod +x), or on a file system mounted noexec")},
		{is: launching(reexec.StepExec, unix.EAGAIN), check: noCheck, hints: always("the user has more processes than the nproc limit allows")},
		{is: launching(reexec.StepExec, unix.E2BIG), check: noCheck, hints: always("arguments and environment are longer than the kernel allows, see execve(2)")},
		{is: launching(reexec.StepChdir, unix.EACCES), check: noCheck, detail: ofProgram(chdirHint)},
		{is: launching(reexec.StepRlimit, unix.EPERM), check: noCheck, detail: nofileHint, hints: always("raising a hard limit takes CAP_SYS_RESOURCE: run as root, or stay below the one that ulimit -H -a shows")},
		{is: launching(reexec.StepFD, unix.EMFILE), check: noCheck, hints: always("the limit of open files is too low for the descriptors to keep: see ulimit -n")},
		{is: launching(reexec.StepStage, unix.EFBIG), check: "permission", hints: always("cgshim writes down what to clean up after its death, for which the caller's limit of file sizes (ulimit -f) has to leave some KiB; the program's can be lower: --ulimit fsize=0")},
		{is: launching(reexec.StepStage, unix.ENOENT), check: "permission", hints: always("cgshim starts itself again through /proc/self/exe: is /proc mounted?")},
		{is: launching(reexec.StepStage, unix.EAGAIN), check: "permission", hints: always(tasks)},
		{is: launching(reexec.StepClone, unix.EAGAIN), check: "clone-into-cgroup", hints: always(tasks)},
		{
			is: launching(reexec.StepUser, unix.EPERM), check: "change-user",
			hints: []choice{
				{(*Situation).asRoot, "changing the user takes CAP_SETUID and CAP_SETGID, which this root has not got (in a container: --cap-add SETUID --cap-add SETGID); or a user namespace forbids setgroups (/proc/self/setgroups)"},
				{nil, "changing the user takes CAP_SETUID and CAP_SETGID: run as root, or without --user"},
			},
		},
		{is: launching(reexec.StepUser, unix.EINVAL), check: "change-user", hints: always("there is no such user or group in this user namespace: see /proc/self/uid_map and gid_map")},
		{is: all(launching(reexec.StepNet), because(fault.ErrConfig)), check: noCheck, hints: always("without that capability --net none is by a user namespace, in which set-user-ID programs gain nothing: leave out one of the two, or run as root")},
		{is: launching(reexec.StepNet, unix.EPERM, unix.EACCES), check: "net-namespace", hints: noNamespace},
		{is: launching(reexec.StepNet, unix.EINVAL), check: "net-namespace", hints: always("the kernel has no network namespaces, or no user namespaces, which --net none takes without CAP_SYS_ADMIN (CONFIG_NET_NS, CONFIG_USER_NS)")},
		{is: launching(reexec.StepNet, unix.ENOENT, unix.EROFS), check: "net-namespace", hints: always("the kernel has no network namespaces (CONFIG_NET_NS); or /proc is not mounted, or read-only: without CAP_SYS_ADMIN, --net none takes /proc/self/uid_map")},
		{is: launching(reexec.StepNet, unix.ENOSPC, unix.EUSERS), check: "net-namespace", hints: noMoreNamespaces},
		{is: launching(reexec.StepLandlock, unix.E2BIG), check: noCheck, hints: always("Landlock takes 16 layers, and each cgshim, and others that confine themselves by it, is one: --shield off, or --best-effort, does without this one")},
		{is: launching(reexec.StepLandlock), check: "landlock", hints: refused},
		{is: launching(reexec.StepStage), check: "permission"},
		{is: launching(reexec.StepJoin), check: "permission"},
		{is: launching(reexec.StepClone), check: "clone-into-cgroup"},
		{is: launching(reexec.StepUser), check: "change-user"},
		{is: launching(reexec.StepNet), check: "net-namespace"},
		{is: launching(reexec.StepAffinity), check: "controller-cpuset"},
		{is: (*Situation).launched, check: noCheck},

		// Preparations.
		{is: all(at("landlock"), because(confine.ErrNone)), check: "landlock", hints: always("run without --shield on and --fs-*, or with --best-effort; --user nobody keeps the program from signalling cgshim, too")},
		{is: all(at("landlock"), because(confine.ErrNoTruncate)), check: "landlock", hints: always("--best-effort goes on, and says what is open")},
		{is: all(at("landlock"), because(confine.ErrNoScope)), check: "shield", hints: always("--shield auto goes on without; --user nobody keeps the program from signalling cgshim, too")},
		{is: all(because(fault.ErrUnanswered), because(fault.ErrToldToStop, fault.ErrNotStarted)), check: noCheck, hints: always(unanswered)},
		{
			is: because(fault.ErrUnanswered), check: "placement",
			hints: always(unanswered),
			remedies: []choice{
				{(*Situation).user, `systemctl --user status  # is it stopped, or very busy?
cgshim --best-effort -- PROG  # goes on without`},
				{nil, `systemctl status  # is it stopped, or very busy?
cgshim doctor --manager cgroupfs  # does without it`},
			},
		},
		{is: all(at("oom-score-adj"), because(fs.ErrPermission)), check: byError, hints: always("lowering it below what root has set takes CAP_SYS_RESOURCE: run as root, or give one that is not below cgshim's own (cat /proc/self/oom_score_adj)")},
		{is: at("privileges"), check: byError, hints: always("chmod u-s,g-s and setcap -r take them from the file; who may have programs run as somebody else gets cgshim by sudo, or by a service that makes the command line")},
		{is: all(at("descriptors"), because(unix.EMFILE)), check: byError, hints: always("raise the soft limit for cgshim (ulimit -n), and lower it for the program: --ulimit nofile")},
		{is: either(at("threads"), because(fault.ErrThreads)), check: byError, hints: always("raise the limit of tasks for cgshim (ulimit -u, a container's --pids-limit, a unit's TasksMax=), and lower it for the program: --ulimit nproc, or --pids")},
		{is: at("memory"), check: byError, hints: always("raise the soft limit for cgshim (ulimit -v, ulimit -d), and lower it for the program: --ulimit as, --ulimit data, or --mem")},
		{is: at("open"), check: byError, hints: always("a FIFO waits for its other end; else the file system does not answer")},
		{is: because(fault.ErrToldToStop, fault.ErrNotStarted), check: noCheck, hints: always("if that took long: the file system of the program, its interpreter or --chdir does not answer")},
		{is: all(at("signals"), because(unix.EPERM, unix.ENOSYS)), check: byError, hints: refused},

		// The place for the cgroup.
		{is: because(cgroup.ErrNotMounted), check: "cgroup-mount", hints: always("mount one: mount -t cgroup2 none /sys/fs/cgroup; in a container, start it with a writable /sys/fs/cgroup")},
		{is: (*Situation).lacksProc, check: byError, hints: always("cgshim needs /proc: mount -t proc proc /proc")},
		{
			is: because(fault.ErrOthers), check: "placement",
			hints: always("--nest moves them into a group of their own below it, where they stay; or choose another place: --parent, or --manager systemd"),
			remedies: []choice{
				{nil, `cgshim doctor --nest  # moves the others into a group of their own, where they stay; so does cgshim --nest -- PROG`},
			},
		},
		{
			is: because(fault.ErrForeign), check: "placement",
			hints: always("run cgshim there as the user whose it is; or leave it, and its limits, with --manager systemd or --parent; or go on without a cgroup: --best-effort"),
			remedies: []choice{
				{nil, `cgshim --best-effort -- PROG  # in there, without a cgroup; or out of its limits:
cgshim doctor --manager systemd`},
			},
		},
		{
			is: because(fault.ErrNoSystemd), check: "placement",
			hints: []choice{
				{(*Situation).asRoot, "systemd runs this host, and is asked for a scope: is /run/systemd/private there? --manager cgroupfs does without it"},
				{nil, "there is no service manager for this user: log in (ssh, a terminal), or loginctl enable-linger USER; or run as root (sudo), or go on without a cgroup: --best-effort"},
			},
			remedies: []choice{
				{(*Situation).user, `sudo loginctl enable-linger "$(id -un)"  # a service manager of one's own, also without a login
sudo systemctl start "user@$(id -u).service"
cgshim doctor
sudo cgshim doctor  # or as root`},
				{nil, `ls -l /run/systemd/private  # by which systemd is asked for a scope
cgshim doctor --manager cgroupfs  # does without it`},
			},
		},
		{is: because(fault.ErrNotDelegated), check: byError, hints: always(delegation + "; or go on without the limit: --best-effort")},
		{is: because(cgroup.ErrFrozen), check: noCheck, hints: always("thaw it (echo 0 into its cgroup.freeze, v1: echo THAWED into its freezer.state), or choose another --parent")},
		{is: because(cgroup.ErrNotEmpty), check: byError, hints: always("a process is in an uninterruptible sleep (state D in ps): its device or network file system does not answer; or it is in a frozen cgroup. Its group stays until cgshim gc")},

		// What the kernel says of a cgroup.
		{
			is: because(cgroup.ErrPopulated), check: "placement",
			hints: []choice{
				{(*Situation).atGroup, "cgroup v2 does not limit children of a group that has processes itself: move those into a child of it (in a container, also those of its root group), or choose another --parent"},
			},
		},
		{is: all(at("cgroup", "join"), because(cgroup.ErrThreaded, unix.EOPNOTSUPP)), check: "placement", hints: always(threaded)},
		{is: all(at("cgroup", "join"), because(errors.ErrUnsupported)), check: "placement"},
		{
			is: because(cgroup.ErrNoController), check: byError,
			hints: []choice{
				{(*Situation).atGroup, "the kernel, the boot parameters or the parent cgroup leave this controller out: see cgroup.controllers (v2) or /proc/cgroups (v1), or run without the limit, or with --best-effort"},
			},
		},
		{is: all((*Situation).atGroup, (*Situation).aboveQuota), check: noCheck, detail: quotaHint},
		{is: all(at("limit"), because(unix.EINVAL), (*Situation).aboutCPUSet), check: noCheck, hints: always("a cgroup beside it has some of these CPUs or memory nodes for itself (cpuset.cpu_exclusive, cpuset.mem_exclusive)")},
		{
			is: either(because(cgroup.ErrNotEnforced), all(at("limit"), because(fs.ErrPermission), (*Situation).aboutCPUSet)), check: "controller-cpuset",
			hints: []choice{
				{(*Situation).atGroup, "the parent cgroup does not have all of these CPUs or memory nodes: see its cpuset.cpus.effective and cpuset.mems.effective"},
			},
		},
		{
			is: because(cgroup.ErrSwapAccounting), check: "swap-accounting",
			hints: []choice{
				{(*Situation).atGroup, "boot with swapaccount=1, or turn swap off, or go on without this limit: --best-effort"},
			},
		},
		{
			is: because(cgroup.ErrV2Only), check: noCheck,
			hints: []choice{
				{(*Situation).atGroup, "boot with cgroup v2 alone (systemd.unified_cgroup_hierarchy=1), or leave this limit out (--mem is a limit that v1 has), or go on without it: --best-effort"},
			},
		},
		{is: all(at("limit"), because(cgroup.ErrThreaded, unix.EOPNOTSUPP)), check: byError, hints: always(threaded)},
		{is: all((*Situation).atGroup, because(unix.EINVAL), (*Situation).realTime), check: noCheck, hints: always("a process with a real-time policy (SCHED_FIFO, SCHED_RR: chrt) can't be in a cgroup of the cpu controller, in a kernel with CONFIG_RT_GROUP_SCHED: start cgshim without it (chrt --other 0 cgshim …), or leave out --cpus, --cpu-weight and --cpu-shares")},
		{is: because(unix.EINVAL), check: noCheck}, // a value that the kernel does not take here: the controller works
		{is: all(at("limit"), because(unix.ENODEV), (*Situation).aboutIO), check: byError, hints: always("the kernel can't throttle this device: it has no request queue, or is no whole disk")},
		{is: all(at("cgroup"), because(fs.ErrExist)), check: byError, hints: always("a cgroup of this name exists: another run uses it, or something was left behind; choose another --name")},
		{is: all(at("cgroup"), (*Situation).noRoom), check: byError, hints: always("there are too many cgroups: the kernel takes 65535 with memory, and cgroup.max.descendants and cgroup.max.depth of those above can be less; cgshim gc removes what dead runs have left")},
		{is: all((*Situation).atGroup, because(unix.EROFS)), check: byError, hints: always("the cgroup file system is mounted read-only, as in most containers: start the container with a writable one (podman run --security-opt unmask=/sys/fs/cgroup, docker run --privileged --cgroupns=private), or go on without one: --best-effort")},
		{
			is: all((*Situation).atGroup, because(fs.ErrPermission)), check: byError,
			hints: []choice{
				{(*Situation).asRoot, "root is refused: in a user namespace it is none for this (cat /proc/self/uid_map); else a security module says so (dmesg); give --parent a cgroup that is yours, or go on without one: --best-effort"},
				{nil, "creating cgroups takes write permission in the hierarchy: run as root (sudo), or give --parent a cgroup that is delegated to you, or go on without one: --best-effort"},
			},
		},
		{is: all(), check: byError}, // any other

		// What the checks recommend otherwise.
		{check: "cgroup-mount", remedies: []choice{
			{(*Situation).noProc, `sudo mount -t proc proc /proc`},
			{(*Situation).boxed, containerWithCgroups},
			{nil, `sudo mkdir -p /sys/fs/cgroup
sudo mount -t cgroup2 cgroup2 /sys/fs/cgroup`},
		}},
		{check: "placement", remedies: always(`cgshim doctor  # without --parent and --manager: where there is a place that is ours`)},
		{check: "permission", remedies: []choice{
			{(*Situation).noProc, `sudo mount -t proc proc /proc`},
			{(*Situation).noRoom, `cgshim gc
find /sys/fs/cgroup -type d | wc -l  # the kernel takes 65535 with memory, and cgroup.max.descendants can be less
ulimit -u  # processes of one user`},
			{because(unix.EROFS), containerWithCgroups},
			{(*Situation).managed, `cgshim doctor  # without --parent and --manager: a scope of this user's own service manager
systemd-run --user --scope -p Delegate=yes cgshim doctor`},
			{all((*Situation).user, (*Situation).v1), `sudo cgshim doctor  # as root; or in a group of one's own:
for dir in /sys/fs/cgroup/*/; do sudo mkdir -p "$dir/cgshim-$(id -un)/shell" && sudo chown -R "$(id -u)" "$dir/cgshim-$(id -un)"; done
echo $$ | sudo tee "/sys/fs/cgroup/unified/cgshim-$(id -un)/shell/cgroup.procs" >/dev/null  # cgroup2, if that is there, too, wants this shell below
cgshim doctor --parent "/cgshim-$(id -un)"
cgshim --best-effort -- PROG  # or without`},
			{(*Situation).user, `sudo cgshim doctor  # as root; or in a group of one's own, to which this moves the shell:
sudo sh -c 'cd /sys/fs/cgroup && mkdir -p "$1/shell" && for c in memory pids cpu cpuset io; do echo "+$c" >cgroup.subtree_control; done; chown -R "$2" "$1" && echo "$3" >"$1/shell/cgroup.procs"' sh "cgshim-$(id -un)" "$(id -u)" $$
cgshim doctor
cgshim --best-effort -- PROG  # or without`},
			{(*Situation).boxed, containerWithCgroups},
			{nil, `cat /proc/self/uid_map  # root is refused: in a user namespace, it is none for this; else a security module says so in
dmesg | tail -n 20
cgshim --best-effort -- PROG  # goes on without`},
		}},
		{check: "change-user", remedies: []choice{
			{all((*Situation).boxed, (*Situation).asRoot), `docker run --cap-add SETUID --cap-add SETGID IMAGE
podman run --cap-add SETUID --cap-add SETGID IMAGE`},
			{nil, `sudo cgshim --user nobody -- PROG`},
		}},
		{check: "controller-", remedies: []choice{
			{(*Situation).managed, delegateControllers},
			{(*Situation).boxed, "# on the container's host, if it is a user's container:\n" + delegateControllers},
			{(*Situation).v1, `grep CONTROLLER /proc/cgroups  # enabled: it only needs a mount
sudo mkdir -p /sys/fs/cgroup/CONTROLLER && sudo mount -t cgroup -o CONTROLLER CONTROLLER /sys/fs/cgroup/CONTROLLER
# not listed, or no mount: newer kernels may have it on cgroup v2 only; boot with systemd.unified_cgroup_hierarchy=1, or mount cgroup2 alone`},
		}},
		{check: "controller-memory", remedies: always("# Raspberry Pi and others turn it off (there: /boot/firmware/cmdline.txt):\n" + boot("cgroup_enable=memory"))},
		{check: "controller-", remedies: always("grep CONTROLLER /proc/cgroups /sys/fs/cgroup/cgroup.controllers  # in the first only: cgroup v1 has it\n" + boot("systemd.unified_cgroup_hierarchy=1"))},
		{check: "swap-accounting", remedies: always("sudo swapoff -a  # no swap needs no limit; or\n" + boot("swapaccount=1"))},
		{check: "memory-peak", remedies: always(`# Linux 5.19 or newer: until then the peak is sampled, and may be too low`)},
		{check: "pids-peak", remedies: always(`# Linux 6.1 or newer, on cgroup v1 later: until then pids_peak is null`)},
		{check: "oom-kills", remedies: always(`# Linux 5.17 or newer: until then oom_kills is null where the kernel has killed at a limit`)},
		{check: "cgroup-kill", remedies: []choice{
			{(*Situation).v1, `# Linux 5.14 or newer, and cgroup2 beside v1: until then processes are frozen and killed one by one
` + besideV1},
			{nil, `# Linux 5.14 or newer: until then processes are frozen and killed one by one`},
		}},
		{check: "clone-into-cgroup", remedies: []choice{
			{(*Situation).noRoom, `ulimit -u  # or pids.max of a cgroup above
ps -e -L -o user= | sort | uniq -c  # who has how many of them`},
			{(*Situation).boxed, containerWithClone3},
			{nil, `# Linux 5.7 or newer: until then each start takes 10 to 20 ms more`},
		}},
		{check: "pidfd", remedies: []choice{
			{(*Situation).boxed, containerWithClone3},
			{nil, `# Linux 5.3 or newer: until then processes are signalled by their pids`},
		}},
		{check: "pressure", remedies: []choice{
			{(*Situation).v1, besideV1 + "\n" + boot("psi=1")},
			{nil, boot("psi=1")},
		}},
		{check: "self-test-", remedies: always(`dmesg | tail -n 20
cgshim doctor --json  # and tell https://github.com/cgshim/cgshim/issues`)},
		{check: "net-namespace", remedies: []choice{
			{all((*Situation).boxed, (*Situation).asRoot), `docker run --cap-add SYS_ADMIN IMAGE
podman run --cap-add SYS_ADMIN IMAGE`},
			{noNetNamespaces, `sudo sysctl -w user.max_net_namespaces=10000`},
		}},
		{check: "net-namespace", remedies: userNamespaces},
		{check: "net-namespace", remedies: []choice{
			{(*Situation).user, `sudo cgshim --net none -- PROG  # as root`},
			{nil, `sudo sysctl -w user.max_net_namespaces=20000  # more than there are, see lsns -t net`},
		}},
		{check: "landlock", remedies: []choice{
			{(*Situation).boxed, containerWithClone3},
			{nil, `cat /sys/kernel/security/lsm  # Linux 6.2 or newer, built with Landlock: boot it with lsm=landlock, and this list behind it`},
		}},
		{check: "shield", remedies: []choice{
			{(*Situation).asRoot, `# Linux 6.12 or newer: until then a program that runs as root can kill everything on this machine, and forge its result; so
cgshim --user nobody -- PROG`},
			{nil, `# Linux 6.12 or newer: until then a program can kill all that this user runs, cgshim too, and forge its result; so
sudo cgshim --user nobody -- PROG`},
		}},
		{check: "user-namespaces", remedies: userNamespaces},
		{check: "user-namespaces", remedies: always(`sudo sysctl -w user.max_user_namespaces=10000  # bwrap and rootless containers need them, and users for --net none`)},
	}
}
