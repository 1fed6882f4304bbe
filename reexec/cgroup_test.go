package reexec

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// makeGroup makes a cgroup below a hierarchy's mount point and removes it when the test ends.
func makeGroup(t *testing.T, mount string) string {
	t.Helper()
	dir := filepath.Join(mount, "cgshim-test-rx-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EROFS) || errors.Is(err, unix.EPERM) {
			t.Skip("requires cgroups_writable")
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { removeGroup(t, dir) })
	return dir
}

// removeGroup waits out the moment in which a group is still busy after its last process was reaped.
func removeGroup(t *testing.T, dir string) {
	var err error
	for end := time.Now().Add(generous); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if err = unix.Rmdir(dir); !errors.Is(err, unix.EBUSY) {
			break
		}
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		t.Errorf("rmdir %q: %v", dir, err)
	}
}

// v1Group makes a group in a v1 hierarchy and opens its tasks file.
func v1Group(t *testing.T, controller string) (dir string, tasks int) {
	t.Helper()
	mount := "/sys/fs/cgroup/" + controller
	if _, err := os.Stat(mount + "/tasks"); err != nil {
		t.Skip("requires cgroups_v1")
	}
	dir = makeGroup(t, mount)
	return dir, openFile(t, dir+"/tasks", os.O_WRONLY)
}

// v2Group makes a group in the cgroup2 hierarchy, with or without controllers.
func v2Group(t *testing.T) (dir string, join Join) {
	t.Helper()
	for _, mount := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		var st unix.Statfs_t
		if unix.Statfs(mount, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
			dir = makeGroup(t, mount)
			return dir, Join{
				Into:  openFile(t, dir, os.O_RDONLY|unix.O_DIRECTORY),
				Procs: openFile(t, dir+"/cgroup.procs", os.O_WRONLY),
			}
		}
	}
	t.Skip("requires cgroups_v2")
	return "", Join{}
}

// inGroup checks a line of the program's own /proc/self/cgroup, "id:controllers:path"; of v2 controllers
// is empty.
func inGroup(t *testing.T, text, controller, dir string) {
	t.Helper()
	for line := range strings.Lines(text) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		for name := range strings.SplitSeq(fields[1], ",") {
			if name == controller {
				if filepath.Base(fields[2]) != filepath.Base(dir) {
					t.Errorf("the program is in %q, want %q", line, dir)
				}
				return
			}
		}
	}
	t.Errorf("no hierarchy %q in %q", controller, text)
}

var catCgroup = &Spec{Args: []string{"/bin/cat", "/proc/self/cgroup"}}

func TestJoinV1(t *testing.T) {
	lock(t)
	pids, pidsFD := v1Group(t, "pids")
	memory, memoryFD := v1Group(t, "memory")
	got := output(t, catCgroup, Join{Tasks: []int{pidsFD, memoryFD}})
	inGroup(t, got, "pids", pids)
	inGroup(t, got, "memory", memory)
}

// Only a program that enters alone, with one thread, works here: it is why there is a stage.
func TestJoinV1PidsMax1(t *testing.T) {
	lock(t)
	dir, tasks := v1Group(t, "pids")
	pidsMax1(t, dir, Join{Tasks: []int{tasks}})
}

func TestJoinV2PidsMax1(t *testing.T) {
	lock(t)
	dir, join := v2Group(t)
	if _, err := os.Stat(dir + "/pids.max"); err != nil {
		t.Skip("requires cgroups_v2_pids")
	}
	pidsMax1(t, dir, join)
	join.noInto = true
	pidsMax1(t, dir, join)
}

func pidsMax1(t *testing.T, dir string, join Join) {
	t.Helper()
	if err := os.WriteFile(dir+"/pids.max", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		output(t, &Spec{Args: []string{"/bin/true"}}, join)
	}
	// The limit is in force: a second process can't be. A shell may need none for the last command that it is given.
	if o := run(t, &Spec{Args: []string{"/bin/sh", "-c", "exec 2>/dev/null; (:); exit $?"}}, join); o.status.ExitStatus() == 0 {
		t.Error("a program with pids.max=1 could fork")
	}
	if peak, err := os.ReadFile(dir + "/pids.peak"); err == nil && string(peak) != "1\n" {
		t.Errorf("pids.peak is %q, want 1: something else than the program was in the group", peak)
	}
}

func TestJoinV2(t *testing.T) {
	lock(t)
	dir, join := v2Group(t)
	inGroup(t, output(t, catCgroup, join), "", dir)

	// Born in the group: it never writes to cgroup.procs, where any write would fail now.
	born := join
	born.Procs = openFile(t, "/dev/full", os.O_WRONLY)
	inGroup(t, output(t, catCgroup, born), "", dir)
}

func TestJoinV2WithoutInto(t *testing.T) {
	lock(t)
	dir, join := v2Group(t)
	join.noInto = true
	inGroup(t, output(t, catCgroup, join), "", dir)
	if got := status(t, join, false)["SigCgt"]; got != "0000000000000000" {
		t.Errorf("SigCgt: %s, want none", got)
	}

	// The same by itself, where there is no clone3, or no CLONE_INTO_CGROUP (here: no cgroup directory).
	join.noInto = false
	t.Run("old kernel", func(t *testing.T) {
		oldKernel(t)
		inGroup(t, output(t, catCgroup, join), "", dir)
	})
	join.Into = openFile(t, "/", os.O_RDONLY)
	inGroup(t, output(t, catCgroup, join), "", dir)
}

// The v2 group is gone: not born there, and not moved there either.
func TestJoinV2RemovedGroup(t *testing.T) {
	lock(t)
	dir, join := v2Group(t)
	removeGroup(t, dir)
	for _, join.noInto = range []bool{false, true} {
		if got := launchError(t, catCgroup, join); *got != (Error{Step: StepJoin, Errno: unix.ENODEV}) {
			t.Errorf("got %+v, want StepJoin, ENODEV", *got)
		}
	}
}

func TestJoinBothVersions(t *testing.T) {
	lock(t)
	v1, tasks := v1Group(t, "pids")
	v2, join := v2Group(t)
	join.Tasks = []int{tasks}
	for _, join.noInto = range []bool{false, true} {
		got := output(t, catCgroup, join)
		inGroup(t, got, "pids", v1)
		inGroup(t, got, "", v2)
	}
}

// A group that is gone by the time of the join is an error, not a run outside of it.
func TestJoinRemovedGroup(t *testing.T) {
	lock(t)
	dir, tasks := v1Group(t, "pids")
	removeGroup(t, dir)
	if got := launchError(t, catCgroup, Join{Tasks: []int{tasks}}); *got != (Error{Step: StepJoin, Errno: unix.ENODEV}) {
		t.Errorf("got %+v, want StepJoin, ENODEV", *got)
	}
}
