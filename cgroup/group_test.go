package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func exists(path string) bool { return unix.Access(path, unix.F_OK) == nil }

// mountPoints lists each hierarchy once, though controllers may share one (cpu,cpuacct).
func mountPoints(h *Host) []string {
	var points []string
	for _, c := range h.controllers {
		if p := h.MountPoint(c); !slices.Contains(points, p) {
			points = append(points, p)
		}
	}
	if h.unified != "" && !slices.Contains(points, h.unified) {
		points = append(points, h.unified)
	}
	return points
}

// where lists the hierarchies that have a group at path.
func where(h *Host, path string) []string {
	return slices.DeleteFunc(mountPoints(h), func(mount string) bool { return !exists(mount + path) })
}

func TestDetect(t *testing.T) {
	h := testHost(t)
	for _, c := range h.Controllers() {
		if !exists(h.MountPoint(c) + "/cgroup.procs") {
			t.Errorf("%s: no cgroup is mounted at %q", c, h.MountPoint(c))
		}
	}
}

func TestCreate(t *testing.T) {
	h := testHost(t)
	path := testPath(t)
	g := create(t, h, path)
	if g.Path() != path {
		t.Errorf("Path() = %q, want %q", g.Path(), path)
	}
	for _, c := range h.Controllers() {
		if !exists(dirOf(h, g, c) + "/cgroup.procs") {
			t.Errorf("%s: no group at %s", c, dirOf(h, g, c))
		}
	}
	if alive, err := g.Populated(); alive || err != nil {
		t.Errorf("Populated() = %v, %v", alive, err)
	}
	if pids, err := g.Procs(); len(pids) > 0 || err != nil {
		t.Errorf("Procs() = %v, %v", pids, err)
	}
	if err := g.Remove(); err != nil {
		t.Error(err)
	}
	if left := where(h, path); len(left) > 0 {
		t.Errorf("Remove left it in %q", left)
	}
}

// Only the hierarchies of the controllers that were asked for: each costs time.
func TestCreateWithControllers(t *testing.T) {
	h := testHost(t)
	requireVersion(t, h, V1)
	// Twice the same one is one.
	g := create(t, h, testPath(t), PIDs, PIDs)
	want := []string{h.MountPoint(PIDs)}
	if h.unified != "" && exists(h.unified+g.Path()) {
		want = append(want, h.unified)
	} else {
		want = append(want, h.MountPoint(Freezer))
	}
	if got := where(h, g.Path()); !slices.Equal(sorted(got), sorted(want)) {
		t.Errorf("the group is in %q, want %q", got, want)
	}
}

func TestCreateUnknownController(t *testing.T) {
	h := testHost(t)
	path := testPath(t)
	if g, err := h.Create(path, Options{Controllers: []Controller{PIDs, "nonsense"}}); g != nil || !errors.Is(err, ErrNoController) {
		t.Errorf("Create = %v, %v, want ErrNoController", g, err)
	}
}

// testPath checks that the failures below leave nothing.
func TestCreateExisting(t *testing.T) {
	h := testHost(t)
	path := testPath(t) + "/run"
	g := create(t, h, path)
	set(t, g, Limits{PIDs: 7})
	if other, err := h.Create(path, Options{}); other != nil || !errors.Is(err, fs.ErrExist) {
		t.Errorf("Create = %v, %v, want fs.ErrExist", other, err)
	}
	if got := kernelFile(t, h, g, "pids.max"); got != "7" {
		t.Errorf("the group that was there has pids.max %q now", got)
	}
}

// A group that exists in one hierarchy only is somebody else's: it stays, and nothing comes beside it.
func TestCreateHalfExisting(t *testing.T) {
	h := testHost(t)
	requireVersion(t, h, V1)
	path := testPath(t)
	for _, mount := range mountPoints(h) {
		t.Run(mount, func(t *testing.T) {
			dir := mount + path
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			defer os.Remove(dir)
			if g, err := h.Create(path, Options{}); g != nil || !errors.Is(err, fs.ErrExist) {
				t.Errorf("Create = %v, %v, want fs.ErrExist", g, err)
			}
			if got := where(h, path); !slices.Equal(got, []string{mount}) {
				t.Errorf("the group is in %q", got)
			}
		})
	}
}

func TestParents(t *testing.T) {
	h := testHost(t)
	top := testPath(t)
	g := create(t, h, top+"/a/b/run")
	for _, c := range h.Controllers() {
		if !exists(h.MountPoint(c) + top + "/a/b/run") {
			t.Errorf("%s: the group is not there", c)
		}
	}
	if err := g.Remove(); err != nil {
		t.Error(err)
	}
	if left := where(h, top); len(left) > 0 {
		t.Errorf("the parents are still in %q", left)
	}
}

// A parent that was there before is nobody's to remove but its maker's.
func TestParentThatExisted(t *testing.T) {
	h := testHost(t)
	parent := create(t, h, testPath(t))
	child := create(t, h, parent.Path()+"/run")
	if err := child.Remove(); err != nil {
		t.Error(err)
	}
	if got, want := where(h, parent.Path()), mountPoints(h); !slices.Equal(got, want) {
		t.Errorf("the parent is in %q, want %q", got, want)
	}
}

// A parent that another group uses stays until that one is gone; whoever is the last removes it.
func TestSharedParent(t *testing.T) {
	h := testHost(t)
	for _, makerFirst := range []bool{false, true} {
		t.Run(fmt.Sprintf("maker first %v", makerFirst), func(t *testing.T) {
			top := testPath(t)
			first, last := create(t, h, top+"/maker"), create(t, h, top+"/other")
			if !makerFirst {
				first, last = last, first
			}
			if err := first.Remove(); err != nil {
				t.Error(err)
			}
			if got, want := where(h, last.Path()), mountPoints(h); !slices.Equal(got, want) {
				t.Errorf("the other group is in %q, want %q", got, want)
			}
			if err := last.Remove(); err != nil {
				t.Error(err)
			}
			if left := where(h, top); len(left) > 0 {
				t.Errorf("the parent is still in %q", left)
			}
		})
	}
}
