package advice

import (
	"fmt"
	"io/fs"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/reexec"
	"github.com/cgshim/cgshim/shim/internal/fault"
)

// situations are all that there can be, as far as a remedy depends on them.
func situations() (list []Situation) {
	causes := []error{
		nil, unix.EACCES, unix.EROFS, unix.ENOSPC, unix.EAGAIN, fault.ErrOthers, fault.ErrForeign, fault.ErrNoSystemd, fault.ErrUnanswered, cgroup.ErrPopulated,
		&cgroup.Error{Op: "read", Path: "/proc/self/mountinfo", Err: fs.ErrNotExist},
		&reexec.Error{Step: reexec.StepStage, Errno: unix.EPERM}, &reexec.Error{Step: reexec.StepStage, Errno: unix.ENOENT},
	}
	sysctls := []map[string]string{
		nil,
		{"kernel.unprivileged_userns_clone": "0"},
		{"kernel.apparmor_restrict_unprivileged_userns": "1"},
		{"user.max_user_namespaces": "0"},
		{"user.max_net_namespaces": "0"},
	}
	for _, cause := range causes {
		for _, sysctl := range sysctls {
			for bits := range 8 {
				for _, version := range []cgroup.Version{0, cgroup.V1, cgroup.V2} {
					list = append(list, Situation{
						err: cause, version: version, root: bits&1 != 0, systemd: bits&2 != 0, container: bits&4 != 0,
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
	for _, check := range Checks {
		for _, s := range situations() {
			lines := s.Remedy(check)
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
		if !Optional(check) && commands == 0 {
			t.Errorf("%s: nothing to do: %s", check, lines)
		}
	}
	// No row that is never reached, as one behind a nil of its check would be.
	for _, r := range table() {
		for _, remedy := range r.remedies {
			used := false
			for lines := range seen {
				for _, name := range []string{"CONTROLLER", "memory", "pids", "cpu", "cpuset", "io", "blkio"} {
					used = used || lines == strings.ReplaceAll(remedy.text, "CONTROLLER", name)
				}
			}
			if !used {
				t.Errorf("%s: never: %s", r.check, remedy.text)
			}
		}
	}
}

// Of several that would do, the one that fits.
func TestRemedyFits(t *testing.T) {
	sysctl := func(name string) string { return map[string]string{"kernel.unprivileged_userns_clone": "0"}[name] }
	for _, test := range []struct {
		check string
		s     Situation
		want  string
	}{
		{"permission", Situation{version: cgroup.V1, err: unix.EACCES}, "chown"},
		{"permission", Situation{version: cgroup.V1, err: unix.EACCES, container: true}, "sudo"},
		{"permission", Situation{version: cgroup.V2, err: unix.EACCES}, "cgroup.subtree_control"},
		{"permission", Situation{version: cgroup.V2, err: unix.EACCES, systemd: true}, "systemd-run --user --scope -p Delegate=yes"},
		{"permission", Situation{version: cgroup.V2, err: unix.EROFS, root: true}, "podman run"},
		{"permission", Situation{version: cgroup.V2, err: unix.EACCES, root: true}, "uid_map"},
		{"permission", Situation{version: cgroup.V2, err: &reexec.Error{Step: reexec.StepStage, Errno: unix.EPERM}, root: true}, "seccomp=unconfined"},
		{"permission", Situation{version: cgroup.V1, err: &reexec.Error{Step: reexec.StepStage, Errno: unix.ENOENT}, root: true}, "mount -t proc"},
		{"placement", Situation{version: cgroup.V2, err: fault.ErrNoSystemd, systemd: true}, "enable-linger"},
		{"placement", Situation{version: cgroup.V2, err: fault.ErrNoSystemd, systemd: true, root: true}, "--manager cgroupfs"},
		{"placement", Situation{version: cgroup.V2, err: fmt.Errorf("%w: %w", fault.ErrOthers, cgroup.ErrPopulated)}, "--nest"},
		{"placement", Situation{version: cgroup.V2, err: fmt.Errorf("%w: %w", fault.ErrForeign, unix.EACCES), systemd: true}, "--manager systemd"},
		{"controller-io", Situation{version: cgroup.V2, systemd: true}, "user@.service.d/delegate.conf"},
		{"controller-io", Situation{version: cgroup.V1, root: true}, "mount -t cgroup -o blkio"},
		{"controller-memory", Situation{version: cgroup.V2, root: true}, "cgroup_enable=memory"},
		{"controller-cpu", Situation{version: cgroup.V2, root: true}, "systemd.unified_cgroup_hierarchy=1"},
		{"swap-accounting", Situation{version: cgroup.V2, root: true}, "swapaccount=1"},
		{"pressure", Situation{version: cgroup.V2, root: true}, "psi=1"},
		{"cgroup-mount", Situation{}, "mount -t cgroup2"},
		{"cgroup-mount", Situation{container: true}, "docker run"},
		{"user-namespaces", Situation{sysctl: sysctl}, "sysctl -w kernel.unprivileged_userns_clone=1"},
		{"net-namespace", Situation{sysctl: sysctl}, "sysctl -w kernel.unprivileged_userns_clone=1"},
		{"net-namespace", Situation{root: true, container: true, sysctl: sysctl}, "--cap-add SYS_ADMIN"},
	} {
		if got := test.s.Remedy(test.check); !strings.Contains(got, test.want) {
			t.Errorf("%s in %+v: %q, want %q in it", test.check, test.s, got, test.want)
		}
	}
}
