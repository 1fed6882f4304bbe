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
