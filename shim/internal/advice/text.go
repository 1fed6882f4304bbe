package advice

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/cgshim/cgshim/cgroup"
)

// Texts that the table has more than once, or that are made of parts.

func always(text string) []choice { return []choice{{nil, text}} }

// refused is for a system call that needs no privilege, and is refused all the same.
var refused = []choice{
	{(*Situation).filtered, "a seccomp filter refuses a system call that cgshim needs: in a container, docker or podman run --security-opt seccomp=unconfined; in a service, SystemCallFilter= of its unit"},
	{nil, "a security module or an old kernel refuses a system call that cgshim needs: dmesg may say which"},
}

// noNamespace is for --net none where neither a network namespace is permitted nor a user namespace with one in it. Some systems
// let an ordinary user make a user namespace without capabilities in it (AppArmor), and others let this user make none at all.
var noNamespace = []choice{
	{(*Situation).asRoot, "a network namespace takes CAP_SYS_ADMIN, which this root has not got (in a container: --cap-add SYS_ADMIN), or a user namespace, which is refused, too: run without --net none"},
	{unprivilegedForbidden, "kernel.unprivileged_userns_clone is 0, so that nobody without CAP_SYS_ADMIN may make the user namespace that --net none takes: sysctl -w kernel.unprivileged_userns_clone=1, or run as root, or without --net none"},
	{appArmorRestricts, "AppArmor keeps ordinary users from having capabilities in the user namespace that --net none takes (kernel.apparmor_restrict_unprivileged_userns is 1): set that to 0, or give cgshim a profile with the rule userns, or run as root, or without --net none"},
	{(*Situation).filtered, "an ordinary user's --net none takes a user namespace, and a seccomp filter may refuse that: in a container, docker or podman run --security-opt seccomp=unconfined; in a service, RestrictNamespaces= and SystemCallFilter= of its unit; or run as root, or without --net none"},
	{nil, "an ordinary user's --net none takes a user namespace, which a security module (dmesg may say which) or a chroot forbids: run as root, or without --net none"},
}

// noMoreNamespaces is for limits, see namespaces(7): each user namespace has its own, and those of all above hold, too.
var noMoreNamespaces = []choice{
	{noUserNamespaces, "user.max_user_namespaces is 0, and without CAP_SYS_ADMIN --net none takes a user namespace: sysctl -w user.max_user_namespaces=10000, or run as root, or without --net none"},
	{nil, "a limit allows no further network namespace, or no user namespace, which --net none takes without CAP_SYS_ADMIN: /proc/sys/user/max_net_namespaces and max_user_namespaces, here and in the user namespaces above; or they are 32 levels deep"},
}

// userNamespaces is what lets ordinary users make them.
var userNamespaces = []choice{
	{unprivilegedForbidden, `sudo sysctl -w kernel.unprivileged_userns_clone=1`},
	{appArmorRestricts, `sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`},
	{noUserNamespaces, `sudo sysctl -w user.max_user_namespaces=10000`},
	{(*Situation).boxed, `docker run --security-opt seccomp=unconfined IMAGE
podman run --security-opt seccomp=unconfined IMAGE`},
}

// Sysctls that forbid namespaces: Debian's kernels have the first, Ubuntu's the second.

func unprivilegedForbidden(s *Situation) bool {
	return s.sysctl("kernel.unprivileged_userns_clone") == "0"
}

func appArmorRestricts(s *Situation) bool {
	return s.sysctl("kernel.apparmor_restrict_unprivileged_userns") == "1"
}

func noUserNamespaces(s *Situation) bool { return s.sysctl("user.max_user_namespaces") == "0" }
func noNetNamespaces(s *Situation) bool  { return s.sysctl("user.max_net_namespaces") == "0" }

// aboveQuota says that a group above has a CPU quota which is lower than the one asked for.
func (s *Situation) aboveQuota() bool { return errors.As(s.err, new(*cgroup.QuotaError)) }

func quotaHint(s *Situation) string {
	var above *cgroup.QuotaError
	errors.As(s.err, &above)
	return fmt.Sprintf("ask for at most --cpus %s, the quota of %q, or raise that one (cpu.cfs_quota_us)", strconv.FormatFloat(above.CPUs, 'g', -1, 64), above.Group)
}

const (
	tasks      = "there are as many processes as a limit allows: ulimit -u of this user, or pids.max of a cgroup above"
	unanswered = "is it stopped, or very busy? systemctl status (a user's: systemctl --user status); or go on without it: --best-effort"
	threaded   = "the parent cgroup is threaded (cgroup.type), for threads of a program that is there already: choose a --parent of type domain, with none above it that is threaded"
)

// delegation is what a user on a systemd host needs for every controller, see systemd.resource-control(5).
const delegation = "as root: mkdir -p /etc/systemd/system/user@.service.d && " +
	`printf '[Service]\nDelegate=cpu cpuset io memory pids\n' >/etc/systemd/system/user@.service.d/delegate.conf && ` +
	"systemctl daemon-reload; and log in again"

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
