package cgroup

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// patience bounds what must happen sooner or later. It is generous because the tests also run in an
// emulated machine, and no test passes because it is over.
const patience = 60 * time.Second

// writableHost is the host, if this process may create groups with every controller there.
var writableHost = sync.OnceValues(func() (*Host, error) {
	h, err := Detect()
	if err != nil {
		return nil, err
	}
	g, err := h.Create(fmt.Sprintf("/cgshim-test-%d-trial", os.Getpid()), Options{})
	if err != nil {
		return nil, err
	}
	return h, g.Remove()
})

func testHost(t *testing.T) *Host {
	t.Helper()
	h, err := writableHost()
	if err != nil {
		t.Skip("requires writable cgroups: ", err)
	}
	return h
}

func requireVersion(t *testing.T, h *Host, v Version) {
	t.Helper()
	if h.Version() != v {
		t.Skipf("requires cgroups_v%d", v)
	}
}

var pathCount atomic.Int64

// testPath is a path of the test's own at the top of the hierarchies. What the test leaves there fails
// it, and is removed so that it fails no other.
func testPath(t *testing.T) string {
	t.Helper()
	// The dash at the end keeps test 1 from finding the groups of test 10.
	name := fmt.Sprintf("cgshim-test-%d-%d-", os.Getpid(), pathCount.Add(1))
	t.Cleanup(func() {
		for _, dir := range leftovers(name) {
			t.Errorf("left behind: %s", dir)
			removeTree(dir)
		}
	})
	return "/" + name
}

func removeTree(dir string) {
	below, _ := filepath.Glob(dir + "/*/")
	for _, d := range below {
		removeTree(d)
	}
	_ = os.Remove(dir)
}

// create makes a group that is killed and removed when the test ends, also if it fails half-way.
func create(t *testing.T, h *Host, path string, controllers ...Controller) *Group {
	t.Helper()
	return createWith(t, h, path, Options{Controllers: controllers})
}

func createWith(t *testing.T, h *Host, path string, o Options) *Group {
	t.Helper()
	g, err := h.Create(path, o)
	if err != nil {
		t.Fatal(err)
	}
	cleanUp(t, g)
	return g
}

func cleanUp(t *testing.T, g *Group) {
	t.Cleanup(func() {
		if alive, _ := g.Populated(); alive {
			if err := g.Kill(timeLimit(t)); err != nil {
				t.Error(err)
			}
		}
		if err := g.Remove(); err != nil {
			t.Error(err)
		}
	})
}

func set(t *testing.T, g *Group, l Limits) {
	t.Helper()
	if err := g.Set(l); err != nil {
		t.Fatal(err)
	}
}

// timeLimit is a context that is over when nobody believes in success any more. It is not t.Context(),
// which ends before the cleanups run.
func timeLimit(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually polls until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
		time.Sleep(time.Millisecond)
	}
}

// dirOf is the group's directory in the hierarchy of a controller.
func dirOf(h *Host, g *Group, c Controller) string { return h.MountPoint(c) + g.Path() }

// kernelFile reads one of the group's files, without the line end; its name tells in which hierarchy it is.
func kernelFile(t *testing.T, h *Host, g *Group, name string) string {
	t.Helper()
	prefix, _, _ := strings.Cut(name, ".")
	dir := dirOf(h, g, Controller(prefix))
	switch prefix {
	case "blkio":
		dir = dirOf(h, g, IO)
	case "cgroup":
		dir = h.unified + g.Path()
	}
	content, err := os.ReadFile(dir + "/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(content))
}

// fakeDir is a directory with files that hold kernel text. A "/" at the end of a name makes a directory
// there, which no read(2) can read.
func fakeDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		var err error
		if strings.HasSuffix(name, "/") {
			err = os.Mkdir(filepath.Join(dir, name), 0o755)
		} else {
			err = os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func sorted[E ~string](list []E) []E { slices.Sort(list); return list }
