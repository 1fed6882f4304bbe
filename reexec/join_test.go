package reexec

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Descriptors that are no cgroup files show, without any cgroup, what the program does with a Join.

func TestJoinErrors(t *testing.T) {
	lock(t)
	dir := t.TempDir()
	good := openFile(t, dir+"/good", os.O_WRONLY|os.O_CREATE)
	readOnly := openFile(t, dir+"/good", os.O_RDONLY)
	full := openFile(t, "/dev/full", os.O_WRONLY)
	into := openFile(t, dir, os.O_RDONLY) // a directory, but not of cgroup2: clone3 fails, clone is next
	for _, c := range []struct {
		name string
		join Join
		want Error
	}{
		{"read-only", Join{Tasks: []int{readOnly}}, Error{Step: StepJoin, Errno: unix.EBADF, Index: 0}},
		{"write fails", Join{Tasks: []int{full}}, Error{Step: StepJoin, Errno: unix.ENOSPC, Index: 0}},
		{"second of three", Join{Tasks: []int{good, full, readOnly}}, Error{Step: StepJoin, Errno: unix.ENOSPC, Index: 1}},
		{"procs", Join{Into: into, Procs: full}, Error{Step: StepJoin, Errno: unix.ENOSPC, Index: 0}},
		{"tasks after procs", Join{Into: into, Procs: good, Tasks: []int{good, readOnly}}, Error{Step: StepJoin, Errno: unix.EBADF, Index: 2}},
		{"the same without clone3", Join{Into: into, Procs: good, Tasks: []int{good, readOnly}, noInto: true}, Error{Step: StepJoin, Errno: unix.EBADF, Index: 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			lock(t)
			marker := t.TempDir() + "/ran"
			got := launchError(t, &Spec{Args: []string{"/bin/sh", "-c", `: > "$0"`, marker}}, c.join)
			if *got != c.want {
				t.Errorf("got %+v, want %+v", *got, c.want)
			}
			if _, err := os.Stat(marker); err == nil {
				t.Error("the program ran all the same")
			}
		})
	}
}

// A descriptor that can't even be sent is an error. The stage must not wait for it forever, nor Launch
// for the stage.
func TestJoinUnsendable(t *testing.T) {
	for _, c := range []struct {
		name  string
		tasks []int
	}{
		{"negative", []int{-1}},
		{"closed", []int{1 << 20}},     // above anything this process has open
		{"too many", make([]int, 254)}, // SCM_MAX_FD is 253
	} {
		ok := t.Run(c.name, func(t *testing.T) {
			lock(t)
			got := launchError(t, &Spec{Args: []string{"/bin/true"}}, Join{Tasks: c.tasks})
			if got.Step != StepStage && got.Step != StepJoin {
				t.Errorf("got %+v, want StepStage or StepJoin", *got)
			}
		})
		if !ok {
			return // each of them would hang until the watchdog
		}
	}
}

// There are at most 14 v1 hierarchies. 32 descriptors fit; one more is an error, not one join less.
func TestJoinCount(t *testing.T) {
	lock(t)
	path := t.TempDir() + "/tasks"
	fd := openFile(t, path, os.O_WRONLY|os.O_CREATE)
	tasks := make([]int, 33)
	for i := range tasks {
		tasks[i] = fd
	}
	if got := launchError(t, &Spec{Args: []string{"/bin/true"}}, Join{Tasks: tasks}); got.Step != StepJoin || got.Errno != unix.E2BIG {
		t.Errorf("33 descriptors: got %+v, want StepJoin, E2BIG", *got)
	}
	output(t, &Spec{Args: []string{"/bin/true"}}, Join{Tasks: tasks[:32]})
	written, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// "0", no pid, and no newline: the form that the kernel exempts from its global lock.
	if string(written) != strings.Repeat("0", 32) {
		t.Errorf("32 tasks files got %q, want a 0 each", written)
	}
}

// The caller keeps the descriptors of a Join.
func TestJoinKeepsDescriptors(t *testing.T) {
	lock(t)
	fd := openFile(t, t.TempDir()+"/tasks", os.O_WRONLY|os.O_CREATE)
	for range 2 {
		output(t, &Spec{Args: []string{"/bin/true"}}, Join{Tasks: []int{fd}})
	}
	if _, err := unix.Write(fd, []byte("x")); err != nil {
		t.Errorf("the descriptor was closed: %v", err)
	}
}
