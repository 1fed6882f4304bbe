package cgroup

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestJoin(t *testing.T) {
	h := testHost(t)
	g := create(t, h, testPath(t))
	j, err := g.Join()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(j.Close)
	if h.Version() == V1 && len(j.Tasks) == 0 {
		t.Error("no v1 hierarchy to join")
	}
	all := j.Tasks
	if j.Procs != 0 {
		all = append([]int{j.Procs}, j.Tasks...)
	}
	if len(j.Paths) != len(all) {
		t.Fatalf("%d descriptors have the names %q", len(all), j.Paths)
	}
	for i, fd := range all {
		if got, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd)); err != nil || got != j.Paths[i] {
			t.Errorf("descriptor of %q is %q, %v", j.Paths[i], got, err)
		}
	}
	// As where clone3 is missing or filtered, and as where it is not.
	t.Run("cgroup.procs", func(t *testing.T) { checkJoin(t, h, g, all, nil) })
	t.Run("CLONE_INTO_CGROUP", func(t *testing.T) {
		if j.Dir == 0 {
			t.Skip("requires cgroup2")
		}
		checkJoin(t, h, g, j.Tasks, &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: j.Dir})
	})
}

// checkJoin starts a program that enters the group by itself, and lets it tell where it is.
func checkJoin(t *testing.T, h *Host, g *Group, fds []int, attr *syscall.SysProcAttr) {
	cmd := exec.Command("/proc/self/exe", strconv.Itoa(len(fds)))
	cmd.SysProcAttr = attr
	for _, fd := range fds {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(dup), "tasks")
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	p := startCmd(t, "join", cmd)
	p.goOn()
	line := p.read()
	report, err := strconv.Unquote(line)
	if err != nil {
		t.Fatal(line)
	}
	// A line "ID:CONTROLLERS:PATH" for each hierarchy.
	if got := strings.Count(report, ":"+g.Path()+"\n"); got != len(mountPoints(h)) {
		t.Errorf("the program is in %d of the group's %d hierarchies:\n%s", got, len(mountPoints(h)), report)
	}
	p.finish()
}

func TestJoinClose(t *testing.T) {
	h := testHost(t)
	g := create(t, h, testPath(t))
	j, err := g.Join()
	if err != nil {
		t.Fatal(err)
	}
	fds := append([]int{j.Dir, j.Procs}, j.Tasks...)
	j.Close()
	for _, fd := range fds {
		if target, _ := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd)); fd != 0 && strings.Contains(target, g.Path()) {
			t.Errorf("descriptor %d is still %q", fd, target)
		}
	}
	j.Close() // again: nothing left to close, not even descriptor 0
	if _, err := unix.FcntlInt(0, unix.F_GETFD, 0); err != nil {
		t.Errorf("standard input: %v", err)
	}
	// A group that is gone can't be joined, and holds no descriptor.
	if err := g.Remove(); err != nil {
		t.Fatal(err)
	}
	if j, err := g.Join(); !errors.Is(err, unix.ENOENT) {
		t.Errorf("Join of a removed group = %v, %v, want ENOENT", j, err)
	}
}
