package shim

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/reexec"
	"github.com/cgshim/cgshim/shim/internal/place"
)

// A situation is what a remedy depends on.
type situation struct {
	cause     error          // what a run failed with; nil if it did not
	version   cgroup.Version // 0 without a hierarchy
	root      bool
	systemd   bool // it manages the host
	container bool
	sysctl    func(name string) string // "" for one that there is not
}

// thisSituation looks at the system. A nil host is none.
func thisSituation(host *cgroup.Host) situation {
	s := situation{root: os.Geteuid() == 0, systemd: booted(), container: os.Getenv("container") != "", sysctl: readSysctl}
	if host != nil {
		s.version = host.Version()
		s.container = s.container || !place.IsRoot(host)
	}
	// What docker, podman, and systemd's container interface leave there.
	for _, file := range []string{"/.dockerenv", "/run/.containerenv", "/run/systemd/container"} {
		s.container = s.container || unix.Access(file, unix.F_OK) == nil
	}
	return s
}

func readSysctl(name string) string {
	content, _ := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
	return strings.TrimSpace(string(content))
}

func (s *situation) v1() bool       { return s.version == cgroup.V1 }
func (s *situation) rootUser() bool { return s.root }
func (s *situation) user() bool     { return !s.root }
func (s *situation) boxed() bool    { return s.container || errors.Is(s.cause, unix.EROFS) }
func (s *situation) managed() bool  { return s.user() && s.systemd && s.version == cgroup.V2 }

// noProc says that a file of /proc is missing, /proc/self/exe for example, which a stage is made of.
func (s *situation) noProc() bool {
	var e *reexec.Error
	if errors.As(s.cause, &e) && e.Step == reexec.StepStage && e.Errno == unix.ENOENT {
		return true
	}
	return errors.Is(s.cause, fs.ErrNotExist) && strings.Contains(s.cause.Error(), `"/proc/`)
}

func (s *situation) noRoom() bool {
	return errors.Is(s.cause, unix.ENOSPC) || errors.Is(s.cause, unix.EAGAIN)
}

// refused says that a system call which needs no privilege was refused: by a seccomp filter.
func (s *situation) refused() bool {
	var e *reexec.Error
	return errors.As(s.cause, &e) && e.Step == reexec.StepStage && refusal(e)
}

func because(cause error) func(*situation) bool {
	return func(s *situation) bool { return errors.Is(s.cause, cause) }
}

func both(one, two func(*situation) bool) func(*situation) bool {
	return func(s *situation) bool { return one(s) && two(s) }
}

func sysctlIs(name, value string) func(*situation) bool {
	return func(s *situation) bool { return s.sysctl(name) == value }
}

// remedy is what to do about a check that is not ok: lines for a shell. IMAGE and PROG are the caller's to fill in.
func remedy(check string, s *situation) string {
	for _, r := range remedies {
		if strings.HasPrefix(check, r.check) && (r.when == nil || r.when(s)) {
			name := strings.TrimPrefix(check, "controller-")
			if s.v1() && name == "io" {
				name = "blkio"
			}
			return strings.ReplaceAll(r.lines, "CONTROLLER", name)
		}
	}
	return ""
}

// remedies are tried in this order. A check is a whole name, or the beginning of several.
var remedies = []struct {
	check string
	when  func(*situation) bool // nil is always
	lines string
}{
	{"cgroup-mount", (*situation).noProc, `sudo mount -t proc proc /proc`},
	{"cgroup-mount", (*situation).boxed, containerWithCgroups},
	{"cgroup-mount", nil, `sudo mkdir -p /sys/fs/cgroup
sudo mount -t cgroup2 cgroup2 /sys/fs/cgroup`},

	{"placement", because(ErrForeign), `cgshim --best-effort -- PROG  # in there, without a cgroup; or out of its limits:
cgshim doctor --manager systemd`},
	{"placement", because(ErrOthers), `cgshim doctor --nest  # moves the others into a group of their own, where they stay; so does cgshim --nest -- PROG`},
	{"placement", both(because(ErrNoSystemd), (*situation).user), `sudo loginctl enable-linger "$(id -un)"  # a service manager of one's own, also without a login
sudo systemctl start "user@$(id -u).service"
cgshim doctor
sudo cgshim doctor  # or as root`},
	{"placement", both(because(errUnanswered), (*situation).user), `systemctl --user status  # is it stopped, or very busy?
cgshim --best-effort -- PROG  # goes on without`},
	{"placement", because(errUnanswered), `systemctl status  # is it stopped, or very busy?
cgshim doctor --manager cgroupfs  # does without it`},
	{"placement", because(ErrNoSystemd), `ls -l /run/systemd/private  # by which systemd is asked for a scope
cgshim doctor --manager cgroupfs  # does without it`},
	{"placement", nil, `cgshim doctor  # without --parent and --manager: where there is a place that is ours`},

	{"permission", (*situation).noProc, `sudo mount -t proc proc /proc`},
	{"permission", (*situation).refused, `grep Seccomp: /proc/self/status  # 2: a filter refuses a system call that cgshim needs
docker run --security-opt seccomp=unconfined IMAGE  # in a service it is SystemCallFilter= of its unit
podman run --security-opt seccomp=unconfined IMAGE`},
	{"permission", (*situation).noRoom, `cgshim gc
find /sys/fs/cgroup -type d | wc -l  # the kernel takes 65535 with memory, and cgroup.max.descendants can be less
ulimit -u  # processes of one user`},
	{"permission", because(unix.EROFS), containerWithCgroups},
	{"permission", (*situation).managed, `cgshim doctor  # without --parent and --manager: a scope of this user's own service manager
systemd-run --user --scope -p Delegate=yes cgshim doctor`},
	{"permission", both((*situation).user, (*situation).v1), `sudo cgshim doctor  # as root; or in a group of one's own:
for dir in /sys/fs/cgroup/*/; do sudo mkdir -p "$dir/cgshim-$(id -un)/shell" && sudo chown -R "$(id -u)" "$dir/cgshim-$(id -un)"; done
echo $$ | sudo tee "/sys/fs/cgroup/unified/cgshim-$(id -un)/shell/cgroup.procs" >/dev/null  # cgroup2, if that is there, too, wants this shell below
cgshim doctor --parent "/cgshim-$(id -un)"
cgshim --best-effort -- PROG  # or without`},
	{"permission", (*situation).user, `sudo cgshim doctor  # as root; or in a group of one's own, to which this moves the shell:
sudo sh -c 'cd /sys/fs/cgroup && mkdir -p "$1/shell" && for c in memory pids cpu cpuset io; do echo "+$c" >cgroup.subtree_control; done; chown -R "$2" "$1" && echo "$3" >"$1/shell/cgroup.procs"' sh "cgshim-$(id -un)" "$(id -u)" $$
cgshim doctor
cgshim --best-effort -- PROG  # or without`},
	{"permission", (*situation).boxed, containerWithCgroups},
	{"permission", nil, `cat /proc/self/uid_map  # root is refused: in a user namespace, it is none for this; else a security module says so in
dmesg | tail -n 20
cgshim --best-effort -- PROG  # goes on without`},

	{"change-user", both((*situation).boxed, (*situation).rootUser), `docker run --cap-add SETUID --cap-add SETGID IMAGE
podman run --cap-add SETUID --cap-add SETGID IMAGE`},
	{"change-user", nil, `sudo cgshim --user nobody -- PROG`},

	{"controller-", (*situation).managed, delegateControllers},
	{"controller-", (*situation).boxed, "# on the container's host, if it is a user's container:\n" + delegateControllers},
	{"controller-", (*situation).v1, `grep CONTROLLER /proc/cgroups  # enabled: it only needs a mount
sudo mkdir -p /sys/fs/cgroup/CONTROLLER && sudo mount -t cgroup -o CONTROLLER CONTROLLER /sys/fs/cgroup/CONTROLLER
# not listed, or no mount: newer kernels may have it on cgroup v2 only; boot with systemd.unified_cgroup_hierarchy=1, or mount cgroup2 alone`},
	{"controller-memory", nil, "# Raspberry Pi and others turn it off (there: /boot/firmware/cmdline.txt):\n" + boot("cgroup_enable=memory")},
	{"controller-", nil, "grep CONTROLLER /proc/cgroups /sys/fs/cgroup/cgroup.controllers  # in the first only: cgroup v1 has it\n" + boot("systemd.unified_cgroup_hierarchy=1")},
	{"swap-accounting", nil, "sudo swapoff -a  # no swap needs no limit; or\n" + boot("swapaccount=1")},

	{"memory-peak", nil, `# Linux 5.19 or newer: until then the peak is sampled, and may be too low`},
	{"pids-peak", nil, `# Linux 6.1 or newer, on cgroup v1 later: until then pids_peak is null`},
	{"oom-kills", nil, `# Linux 5.17 or newer: until then oom_kills is null where the kernel has killed at a limit`},
	{"cgroup-kill", (*situation).v1, `# Linux 5.14 or newer, and cgroup2 beside v1: until then processes are frozen and killed one by one
` + besideV1},
	{"cgroup-kill", nil, `# Linux 5.14 or newer: until then processes are frozen and killed one by one`},
	{"clone-into-cgroup", (*situation).noRoom, `ulimit -u  # or pids.max of a cgroup above
ps -e -L -o user= | sort | uniq -c  # who has how many of them`},
	{"clone-into-cgroup", (*situation).boxed, containerWithClone3},
	{"clone-into-cgroup", nil, `# Linux 5.7 or newer: until then each start takes 10 to 20 ms more`},
	{"pidfd", (*situation).boxed, containerWithClone3},
	{"pidfd", nil, `# Linux 5.3 or newer: until then processes are signalled by their pids`},
	{"pressure", (*situation).v1, besideV1 + "\n" + boot("psi=1")},
	{"pressure", nil, boot("psi=1")},

	{"self-test-", nil, `dmesg | tail -n 20
cgshim doctor --json  # and tell https://github.com/cgshim/cgshim/issues`},

	{"net-namespace", both((*situation).boxed, (*situation).rootUser), `docker run --cap-add SYS_ADMIN IMAGE
podman run --cap-add SYS_ADMIN IMAGE`},
	{"net-namespace", (*situation).user, `sudo cgshim --net none -- PROG  # as root; or
cgshim -- bwrap --dev-bind / / --unshare-net PROG`},
	{"net-namespace", nil, `sudo sysctl -w user.max_net_namespaces=10000`},
	{"user-namespaces", sysctlIs("kernel.unprivileged_userns_clone", "0"), `sudo sysctl -w kernel.unprivileged_userns_clone=1`},
	{"user-namespaces", sysctlIs("kernel.apparmor_restrict_unprivileged_userns", "1"), `sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`},
	{"user-namespaces", sysctlIs("user.max_user_namespaces", "0"), `sudo sysctl -w user.max_user_namespaces=10000`},
	{"user-namespaces", (*situation).boxed, `docker run --security-opt seccomp=unconfined IMAGE
podman run --security-opt seccomp=unconfined IMAGE`},
	{"user-namespaces", nil, `sudo sysctl -w user.max_user_namespaces=10000  # bwrap and rootless containers need them, cgshim does not`},
}

const containerWithCgroups = `docker run --security-opt writable-cgroups=true IMAGE  # Docker 28 or newer, on a host with cgroup v2; else
docker run --privileged --cgroupns=private IMAGE
podman run --security-opt unmask=/sys/fs/cgroup IMAGE
cgshim --best-effort -- PROG  # or in here, without a cgroup`

const containerWithClone3 = `docker run --security-opt seccomp=unconfined IMAGE  # or a newer Docker or Podman, whose profile allows it
podman run --security-opt seccomp=unconfined IMAGE`

// delegateControllers is delegation, which is for a hint, as lines to paste.
const delegateControllers = `sudo mkdir -p /etc/systemd/system/user@.service.d
printf '[Service]\nDelegate=cpu cpuset io memory pids\n' | sudo tee /etc/systemd/system/user@.service.d/delegate.conf
sudo systemctl daemon-reload  # and log in again`

const besideV1 = `sudo mkdir -p /sys/fs/cgroup/unified && sudo mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified`

// boot adds a parameter to the kernel's command line.
func boot(parameter string) string {
	return `if command -v grubby >/dev/null; then sudo grubby --update-kernel=ALL --args=` + parameter +
		`; else sudo sed -i 's/^GRUB_CMDLINE_LINUX="/&` + parameter + ` /' /etc/default/grub && sudo update-grub; fi  # and reboot`
}
