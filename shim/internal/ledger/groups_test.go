package ledger

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/internal/testgroup"
)

func TestGroups(t *testing.T) {
	h := testgroup.Host(t)
	top := testgroup.Path(t, h)
	if list, err := Groups(h, top, ""); err != nil || len(list) != 0 {
		t.Errorf("Groups of nothing = %v, %v", list, err)
	}
	marked, plain := testgroup.Create(t, h, top+"/marked", cgroup.Options{Owner: "somebody"}), testgroup.Create(t, h, top+"/plain", cgroup.Options{Controllers: []cgroup.Controller{cgroup.Memory}})
	uid := os.Geteuid()
	if uid == 0 {
		uid = 65534
		for _, dir := range marked.Dirs() {
			if err := os.Chown(dir, uid, -1); err != nil {
				t.Fatal(err)
			}
		}
	}
	list, err := Groups(h, top, "")
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(list, func(a, b Entry) int { return strings.Compare(a.Path, b.Path) })
	if want := []Entry{{marked.Path(), "somebody", uid}, {plain.Path(), "", os.Geteuid()}}; !slices.Equal(list, want) {
		t.Errorf("Groups = %v, want %v", list, want)
	}
	if some, err := Some(h, top, "mark", 5); err != nil || !slices.Equal(some, []Entry{{marked.Path(), "somebody", uid}}) {
		t.Errorf("Some = %v, %v", some, err)
	}
	if got, want := Match(h, top+"/mark*"), []string{marked.Path()}; !slices.Equal(got, want) {
		t.Errorf("Match = %q, want %q", got, want)
	}
	if got := Match(h, top+"/x*"); len(got) > 0 {
		t.Errorf("Match = %q", got)
	}
	if n := Others(plain); n != 1 {
		t.Errorf("Others = %d", n)
	}
	if !h.Exists(plain.Path()) || h.Exists(top+"/neither") {
		t.Error("Exists")
	}
	if missing := MissingParents(h, top+"/other"); slices.ContainsFunc(missing, func(dir string) bool { return strings.Contains(dir, "memory"+top) }) {
		t.Errorf("MissingParents = %q, though they are there", missing)
	}
}

func TestClean(t *testing.T) {
	h := testgroup.Host(t)
	for name, owner := range map[string]string{"of the owner": "somebody", "without an owner": ""} {
		t.Run(name, func(t *testing.T) {
			path := testgroup.Path(t, h) + "/run"
			missing := MissingParents(h, path)
			g := testgroup.Create(t, h, path, cgroup.Options{Owner: owner})
			p := testgroup.Start(t, g, "trap '' TERM; "+testgroup.Wait)
			if err := Clean(testgroup.Context(t), h, path, "somebody", missing); err != nil {
				t.Error(err)
			}
			p.MustBeKilled()
			if h.Exists(path) {
				t.Error("it is still there")
			}
			if err := Clean(testgroup.Context(t), h, path, "somebody", nil); err != nil {
				t.Errorf("nothing to clean: %v", err)
			}
		})
	}
	t.Run("of another owner", func(t *testing.T) {
		path := testgroup.Path(t, h) + "/run"
		g := testgroup.Create(t, h, path, cgroup.Options{Owner: "somebody else"})
		p := testgroup.Start(t, g, testgroup.Wait)
		if err := Clean(testgroup.Context(t), h, path, "somebody", nil); err != nil {
			t.Error(err)
		}
		if !h.Exists(path) {
			t.Error("it is gone")
		}
		p.Finish()
	})
	if err := Clean(testgroup.Context(t), h, "/a/../b", "", nil); !errors.Is(err, cgroup.ErrInvalid) {
		t.Errorf("a path that is none: %v", err)
	}
}

// Create and Remove can be interrupted after any of their steps.
func TestCleanHalf(t *testing.T) {
	h := testgroup.Host(t)
	for keep := range len(testgroup.Create(t, h, testgroup.Path(t, h)+"/count", cgroup.Options{}).Dirs()) + 1 {
		path := testgroup.Path(t, h) + "/run"
		missing := MissingParents(h, path)
		g, err := h.Create(path, cgroup.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, dir := range g.Dirs()[keep:] {
			if err := unix.Rmdir(dir); err != nil {
				t.Fatal(err)
			}
		}
		for _, dir := range missing { // the mark comes after mkdir
			for _, name := range []string{"user.cgshim", "trusted.cgshim"} {
				_ = unix.Removexattr(dir, name)
			}
		}
		if err := Clean(testgroup.Context(t), h, path, "", missing); err != nil {
			t.Errorf("with %d directories: %v", keep, err)
		}
		for _, dir := range append(g.Dirs(), missing...) {
			if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("with %d directories: %s: %v", keep, dir, err)
			}
		}
	}
}
