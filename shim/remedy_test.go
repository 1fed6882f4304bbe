package shim

import (
	"fmt"
	"io/fs"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/reexec"
)

// situations are all that there can be, as far as a remedy depends on them.
func situations() (list []situation) {
	causes := []error{
		nil, unix.EACCES, unix.EROFS, unix.ENOSPC, unix.EAGAIN, ErrOthers, ErrForeign, ErrNoSystemd, errUnanswered, cgroup.ErrPopulated,
		&cgroup.Error{Op: "read", Path: "/proc/self/mountinfo", Err: fs.ErrNotExist},
		&reexec.Error{Step: reexec.StepStage, Errno: unix.EPERM}, &reexec.Error{Step: reexec.StepStage, Errno: unix.ENOENT},
	}
	sysctls := []map[string]string{
		nil, {"kernel.unprivileged_userns_clone": "0"}, {"kernel.apparmor_restrict_unprivileged_userns": "1"}, {"user.max_user_namespaces": "0"},
	}
	for _, cause := range causes {
		for _, sysctl := range sysctls {
			for bits := range 8 {
				for _, version := range []cgroup.Version{0, cgroup.V1, cgroup.V2} {
					list = append(list, situation{
						cause: cause, version: version, root: bits&1 != 0, systemd: bits&2 != 0, container: bits&4 != 0,
						sysctl: func(name string) string { return sysctl[name] },
					})
				}
			}
		}
	}
	return list
}

// Whatever the check and the situation, there is something to paste.
func TestRemedies(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("requires sh")
	}
	seen := map[string]string{}
	for _, check := range checks {
		for _, s := range situations() {
			lines := remedy(check, &s)
			if lines == "" || strings.Contains(lines, "CONTROLLER") {
				t.Fatalf("%s in %+v: %q", check, s, lines)
			}
			seen[lines] = check
		}
	}
	for lines, check := range seen {
		if out, err := exec.Command("sh", "-n", "-c", lines).CombinedOutput(); err != nil {
			t.Errorf("%s: a shell does not take it: %s: %s", check, out, lines)
		}
		commands := strings.Count("\n"+lines, "\n") - strings.Count("\n"+lines, "\n#")
		if !optionalCheck(check) && commands == 0 {
			t.Errorf("%s: nothing to do: %s", check, lines)
		}
	}
	// No row that is never reached, as one behind a nil of its check would be.
	for _, r := range remedies {
		used := false
		for lines := range seen {
			for _, name := range []string{"CONTROLLER", "memory", "pids", "cpu", "cpuset", "io", "blkio"} {
				used = used || lines == strings.ReplaceAll(r.lines, "CONTROLLER", name)
			}
		}
		if !used {
			t.Errorf("%s: never: %s", r.check, r.lines)
		}
	}
}

// Of several that would do, the one that fits.
func TestRemedyFits(t *testing.T) {
	sysctl := func(name string) string { return map[string]string{"kernel.unprivileged_userns_clone": "0"}[name] }
	for _, test := range []struct {
		check string
		s     situation
		want  string
	}{
		{"permission", situation{version: cgroup.V1, cause: unix.EACCES}, "chown"},
		{"permission", situation{version: cgroup.V1, cause: unix.EACCES, container: true}, "sudo"},
		{"permission", situation{version: cgroup.V2, cause: unix.EACCES}, "cgroup.subtree_control"},
		{"permission", situation{version: cgroup.V2, cause: unix.EACCES, systemd: true}, "systemd-run --user --scope -p Delegate=yes"},
		{"permission", situation{version: cgroup.V2, cause: unix.EROFS, root: true}, "podman run"},
		{"permission", situation{version: cgroup.V2, cause: unix.EACCES, root: true}, "uid_map"},
		{"permission", situation{version: cgroup.V2, cause: &reexec.Error{Step: reexec.StepStage, Errno: unix.EPERM}, root: true}, "seccomp=unconfined"},
		{"permission", situation{version: cgroup.V1, cause: &reexec.Error{Step: reexec.StepStage, Errno: unix.ENOENT}, root: true}, "mount -t proc"},
		{"placement", situation{version: cgroup.V2, cause: ErrNoSystemd, systemd: true}, "enable-linger"},
		{"placement", situation{version: cgroup.V2, cause: ErrNoSystemd, systemd: true, root: true}, "--manager cgroupfs"},
		{"placement", situation{version: cgroup.V2, cause: fmt.Errorf("%w: %w", ErrOthers, cgroup.ErrPopulated)}, "--nest"},
		{"placement", situation{version: cgroup.V2, cause: fmt.Errorf("%w: %w", ErrForeign, unix.EACCES), systemd: true}, "--manager systemd"},
		{"controller-io", situation{version: cgroup.V2, systemd: true}, "user@.service.d/delegate.conf"},
		{"controller-io", situation{version: cgroup.V1, root: true}, "mount -t cgroup -o blkio"},
		{"controller-memory", situation{version: cgroup.V2, root: true}, "cgroup_enable=memory"},
		{"controller-cpu", situation{version: cgroup.V2, root: true}, "systemd.unified_cgroup_hierarchy=1"},
		{"swap-accounting", situation{version: cgroup.V2, root: true}, "swapaccount=1"},
		{"pressure", situation{version: cgroup.V2, root: true}, "psi=1"},
		{"cgroup-mount", situation{}, "mount -t cgroup2"},
		{"cgroup-mount", situation{container: true}, "docker run"},
		{"user-namespaces", situation{sysctl: sysctl}, "sysctl -w kernel.unprivileged_userns_clone=1"},
		{"net-namespace", situation{root: true, container: true}, "--cap-add SYS_ADMIN"},
	} {
		if got := remedy(test.check, &test.s); !strings.Contains(got, test.want) {
			t.Errorf("%s in %+v: %q, want %q in it", test.check, test.s, got, test.want)
		}
	}
}
