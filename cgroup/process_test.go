package cgroup

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAdd(t *testing.T) {
	h := testHost(t)
	g := create(t, h, testPath(t))
	p := startIn(t, g, "wait")
	for _, mount := range mountPoints(h) {
		if pids, err := procs(mount + g.Path()); err != nil || !slices.Equal(pids, []int{p.pid()}) {
			t.Errorf("%s: processes %v, %v, want %d", mount, pids, err, p.pid())
		}
	}
	if pids, err := g.Procs(); err != nil || !slices.Equal(pids, []int{p.pid()}) {
		t.Errorf("Procs() = %v, %v, want %d", pids, err, p.pid())
	}
	if alive, err := g.Populated(); !alive || err != nil {
		t.Errorf("Populated() = %v, %v", alive, err)
	}
	p.finish()
	if alive, err := g.Populated(); alive || err != nil {
		t.Errorf("Populated() = %v, %v after the last process", alive, err)
	}
}

func TestAddNobody(t *testing.T) {
	h := testHost(t)
	g := create(t, h, testPath(t))
	err := g.Add(MaxPIDs + 1) // above every pid that there can be
	var typed *Error
	if !errors.Is(err, unix.ESRCH) || !errors.As(err, &typed) || typed.Op != "add" {
		t.Errorf("Add = %v, want ESRCH", err)
	}
}

// os.Process.Pid is -1 after Release: to add "it" did nothing, and said that all was well, so that a
// program ran without its limits.
func TestAddReleased(t *testing.T) {
	h := testHost(t)
	g := create(t, h, testPath(t))
	if err := g.Add(-1); err == nil {
		t.Error("Add(-1) did nothing, and is no error")
	}
}

// A zombie counts as gone: who started it may wait for it after the group is removed.
func TestZombie(t *testing.T) {
	h := testHost(t)
	g := create(t, h, testPath(t))
	p := startIn(t, g, "wait")
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a zombie", func() bool { return processState(p.pid()) == "Z" })
	// The kernel makes it a zombie a moment before it leaves its groups.
	eventually(t, "an empty group", func() bool {
		alive, err := g.Populated()
		if err != nil {
			t.Fatal(err)
		}
		return !alive
	})
	if err := g.Kill(timeLimit(t)); err != nil {
		t.Error(err)
	}
	if err := g.Remove(); err != nil {
		t.Error(err)
	}
	p.mustBeKilled()
}

// processState is the letter in /proc/PID/stat: R, S, T, Z, …; "" if there is no such process.
func processState(pid int) string {
	content, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	_, after, _ := strings.Cut(string(content), ") ")
	state, _, _ := strings.Cut(after, " ")
	return state
}
