package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOpen(t *testing.T) {
	h := testHost(t)
	top := testPath(t)
	if g, err := h.Open(top); g != nil || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open = %v, %v, want fs.ErrNotExist", g, err)
	}
	made := create(t, h, top+"/run")
	p := startIn(t, made, "wait")
	g, err := h.Open(top + "/run")
	if err != nil {
		t.Fatal(err)
	}
	if g.Path() != top+"/run" {
		t.Errorf("Path() = %q", g.Path())
	}
	set(t, g, Limits{PIDs: 9})
	if got := kernelFile(t, h, made, "pids.max"); got != "9" {
		t.Errorf("pids.max = %q after Set on the opened group", got)
	}
	if s, err := g.Stats(); err != nil || s.PIDsCurrent.Value == 0 {
		t.Errorf("Stats() = %+v, %v: want a process", s, err)
	}
	if pids, err := g.Procs(); err != nil || !slices.Equal(pids, []int{p.pid()}) {
		t.Errorf("Procs() = %v, %v, want %d", pids, err, p.pid())
	}
	if err := g.Kill(timeLimit(t)); err != nil {
		t.Error(err)
	}
	p.mustBeKilled()
	if err := g.Remove(); err != nil {
		t.Error(err)
	}
	if left := where(h, g.Path()); len(left) > 0 {
		t.Errorf("Remove left it in %q", left)
	}
	// The parent was made by Create, and this was the last to use it.
	if left := where(h, top); len(left) > 0 {
		t.Errorf("the parent is still in %q", left)
	}
	// The maker does not mind.
	if err := made.Remove(); err != nil {
		t.Error(err)
	}
}

// A group of which one hierarchy is missing still opens: it has what it has.
func TestOpenHalf(t *testing.T) {
	h := testHost(t)
	requireVersion(t, h, V1)
	path := testPath(t)
	create(t, h, path, PIDs)
	g, err := h.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	set(t, g, Limits{PIDs: 5})
	if err := g.Set(Limits{Memory: 1 << 20}); !errors.Is(err, ErrNoController) {
		t.Errorf("Set = %v, want ErrNoController", err)
	}
}

// A kernel file is no group, though it has a path.
func TestOpenFile(t *testing.T) {
	h := testHost(t)
	g := create(t, h, testPath(t))
	if file, err := h.Open(g.Path() + "/cgroup.procs"); err == nil {
		t.Errorf("Open of a file = %v", file)
	}
}

func TestRemoveIsIdempotent(t *testing.T) {
	h := testHost(t)
	g := create(t, h, testPath(t)+"/run")
	for _, remove := range []func() error{g.Remove, g.Remove, g.Remove} {
		if err := remove(); err != nil {
			t.Error(err)
		}
	}
	// What is gone has no processes and no figures, and that is no error.
	if alive, err := g.Populated(); alive || err != nil {
		t.Errorf("Populated() = %v, %v", alive, err)
	}
	if pids, err := g.Procs(); len(pids) > 0 || err != nil {
		t.Errorf("Procs() = %v, %v", pids, err)
	}
	if s, err := g.Stats(); s != (Stats{}) || err != nil {
		t.Errorf("Stats() = %+v, %v", s, err)
	}
	// Set must not succeed on nothing.
	if err := g.Set(Limits{PIDs: 1}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Set = %v, want fs.ErrNotExist", err)
	}
	if err := g.Add(os.Getpid()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Add = %v, want fs.ErrNotExist", err)
	}
}

// The parents of a group that is gone may be somebody else's by now.
func TestRemoveTwiceSparesOthers(t *testing.T) {
	h := testHost(t)
	top := testPath(t)
	old := create(t, h, top+"/old")
	if err := old.Remove(); err != nil {
		t.Fatal(err)
	}
	create(t, h, top)
	if err := old.Remove(); err != nil {
		t.Error(err)
	}
	if got, want := where(h, top), mountPoints(h); !slices.Equal(got, want) {
		t.Errorf("somebody else's group is in %q, want %q", got, want)
	}
}

func TestRemovePopulated(t *testing.T) {
	h := testHost(t)
	g := create(t, h, testPath(t))
	p := startIn(t, g, "wait")
	err := g.Remove()
	var typed *Error
	if !errors.Is(err, unix.EBUSY) || !errors.As(err, &typed) || typed.Op != "remove" {
		t.Errorf("Remove = %v, want EBUSY", err)
	}
	if alive, err := g.Populated(); !alive || err != nil {
		t.Fatalf("Populated() = %v, %v after Remove failed", alive, err)
	}
	if err := g.Kill(timeLimit(t)); err != nil {
		t.Error(err)
	}
	if err := g.Remove(); err != nil {
		t.Error(err)
	}
	p.mustBeKilled()
}

// A program with the rights to do so makes groups in its own, and can't get away that way.
func TestSubGroups(t *testing.T) {
	h := testHost(t)
	g := create(t, h, testPath(t))
	sub := create(t, h, g.Path()+"/sub/sub")
	p := startIn(t, sub, "wait")
	if pids, err := g.Procs(); err != nil || !slices.Equal(pids, []int{p.pid()}) {
		t.Errorf("Procs() = %v, %v, want %d", pids, err, p.pid())
	}
	if alive, err := g.Populated(); !alive || err != nil {
		t.Errorf("Populated() = %v, %v", alive, err)
	}
	if err := g.Kill(timeLimit(t)); err != nil {
		t.Error(err)
	}
	p.mustBeKilled()
	if err := g.Remove(); err != nil {
		t.Error(err)
	}
	if left := where(h, g.Path()); len(left) > 0 {
		t.Errorf("Remove left it in %q", left)
	}
}
