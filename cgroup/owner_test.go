package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestGroups(t *testing.T) {
	h := testHost(t)
	top := testPath(t)
	if list, err := h.Groups(top, ""); err != nil || len(list) != 0 {
		t.Errorf("Groups of nothing = %v, %v", list, err)
	}
	marked, plain := createWith(t, h, top+"/marked", Options{Owner: "somebody"}), create(t, h, top+"/plain", Memory)
	uid := os.Geteuid()
	if uid == 0 {
		uid = 65534
		for _, dir := range marked.dirs {
			if err := os.Chown(dir, uid, -1); err != nil {
				t.Fatal(err)
			}
		}
	}
	list, err := h.Groups(top, "")
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(list, func(a, b Entry) int { return strings.Compare(a.Path, b.Path) })
	if want := []Entry{{marked.Path(), "somebody", uid}, {plain.Path(), "", os.Geteuid()}}; !slices.Equal(list, want) {
		t.Errorf("Groups = %v, want %v", list, want)
	}
	if !h.Exists(plain.Path()) || h.Exists(top+"/neither") {
		t.Error("Exists")
	}
	if missing := h.MissingParents(top + "/other"); slices.ContainsFunc(missing, func(dir string) bool { return strings.Contains(dir, "memory"+top) }) {
		t.Errorf("MissingParents = %q, though they are there", missing)
	}
}

func TestClean(t *testing.T) {
	h := testHost(t)
	for name, owner := range map[string]string{"of the owner": "somebody", "without an owner": ""} {
		t.Run(name, func(t *testing.T) {
			path := testPath(t) + "/run"
			missing := h.MissingParents(path)
			g := createWith(t, h, path, Options{Owner: owner})
			p := startIn(t, g, "ignore-term")
			if err := h.Clean(timeLimit(t), path, "somebody", missing); err != nil {
				t.Error(err)
			}
			p.mustBeKilled()
			if h.Exists(path) {
				t.Error("it is still there")
			}
			if err := h.Clean(timeLimit(t), path, "somebody", nil); err != nil {
				t.Errorf("nothing to clean: %v", err)
			}
		})
	}
	t.Run("of another owner", func(t *testing.T) {
		path := testPath(t) + "/run"
		g := createWith(t, h, path, Options{Owner: "somebody else"})
		p := startIn(t, g, "wait")
		if err := h.Clean(timeLimit(t), path, "somebody", nil); err != nil {
			t.Error(err)
		}
		if !h.Exists(path) {
			t.Error("it is gone")
		}
		p.finish()
	})
	if err := h.Clean(timeLimit(t), "/a/../b", "", nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("a path that is none: %v", err)
	}
}

// Create and Remove can be interrupted after any of their steps.
func TestCleanHalf(t *testing.T) {
	h := testHost(t)
	for keep := range len(create(t, h, testPath(t)+"/count").dirs) + 1 {
		path := testPath(t) + "/run"
		missing := h.MissingParents(path)
		g, err := h.Create(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, dir := range g.dirs[keep:] {
			if err := unix.Rmdir(dir); err != nil {
				t.Fatal(err)
			}
		}
		for _, dir := range g.parents { // the mark comes after mkdir
			for _, name := range marks {
				_ = unix.Removexattr(dir, name)
			}
		}
		if err := h.Clean(timeLimit(t), path, "", missing); err != nil {
			t.Errorf("with %d directories: %v", keep, err)
		}
		for _, dir := range append(g.dirs, g.parents...) {
			if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("with %d directories: %s: %v", keep, dir, err)
			}
		}
	}
}

// Root can leave the directory in which processes are looked up. On v2 there is no other.
func TestKillStragglers(t *testing.T) {
	h := testHost(t)
	requireVersion(t, h, V1)
	g := create(t, h, testPath(t)+"/run")
	p := startIn(t, g, "ignore-term")
	if err := os.WriteFile(strings.TrimSuffix(g.dirs[0], g.Path())+"/cgroup.procs", []byte(strconv.Itoa(p.pid())), 0); err != nil {
		t.Fatal(err)
	}
	if populated, err := g.Populated(); populated || err != nil {
		t.Fatalf("Populated() = %v, %v: the test is wrong", populated, err)
	}
	if err := g.Kill(timeLimit(t)); err != nil {
		t.Error(err)
	}
	p.mustBeKilled()
}
