package cgroup

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"
)

// hosts are the host as it is, and without what newer kernels have: without a cgroup2 mount a v1 group
// freezes and kills through the freezer.
func hosts(t *testing.T) map[string]*Host {
	t.Helper()
	h := testHost(t)
	all := map[string]*Host{"default": h}
	if h.Version() == V1 && h.unified != "" && h.Has(Freezer) {
		old := *h
		old.unified = ""
		all["freezer"] = &old
	}
	return all
}

func TestFreeze(t *testing.T) {
	for name, h := range hosts(t) {
		t.Run(name, func(t *testing.T) {
			g := create(t, h, testPath(t))
			file := t.TempDir() + "/count"
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			p := startIn(t, g, "count", file)
			// A frozen process does not die: without this, a failure below would hang the cleanup.
			t.Cleanup(func() { _ = g.Thaw(timeLimit(t)) })
			p.goOn()
			grows(t, file)
			for range 3 {
				if err := g.Freeze(timeLimit(t)); err != nil {
					t.Fatal(err)
				}
				before := size(t, file)
				time.Sleep(20 * time.Millisecond) // in which it would write some hundred bytes
				if after := size(t, file); after != before {
					t.Fatalf("a frozen program wrote %d bytes", after-before)
				}
				if alive, err := g.Populated(); !alive || err != nil {
					t.Errorf("Populated() = %v, %v of a frozen group", alive, err)
				}
				if err := g.Thaw(timeLimit(t)); err != nil {
					t.Fatal(err)
				}
				grows(t, file)
			}
		})
	}
}

// grows waits until the program that writes the file has run.
func grows(t *testing.T, file string) {
	t.Helper()
	before := size(t, file)
	eventually(t, "progress of the program", func() bool { return size(t, file) > before })
}

func size(t *testing.T, file string) int64 {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// To freeze what is frozen, to thaw what is not, and to do either to a group of nobody, is no error.
func TestFreezeIsIdempotent(t *testing.T) {
	for name, h := range hosts(t) {
		t.Run(name, func(t *testing.T) {
			g := create(t, h, testPath(t))
			for _, change := range []func(context.Context) error{g.Thaw, g.Freeze, g.Freeze, g.Thaw, g.Thaw} {
				if err := change(timeLimit(t)); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestFreezeWithoutFreezer(t *testing.T) {
	g := &Group{h: &v1{of: map[Controller]string{PIDs: "/nowhere"}}}
	if err := g.Freeze(timeLimit(t)); !errors.Is(err, ErrNoController) {
		t.Errorf("Freeze = %v, want ErrNoController", err)
	}
}

func TestFreezeV2Files(t *testing.T) {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	for _, test := range []struct {
		name   string
		events string
		frozen bool
		want   error
	}{
		{"frozen", "populated 1\nfrozen 1\n", true, nil},
		{"thawed", "populated 1\nfrozen 0\n", false, nil},
		{"before Linux 5.2", "populated 1\n", true, nil}, // nothing that tells: don't wait for ever
		{"does not freeze", "populated 1\nfrozen 0\n", true, context.Canceled},
		{"does not thaw", "populated 1\nfrozen 1\n", false, context.Canceled},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := fakeDir(t, map[string]string{"cgroup.freeze": "", "cgroup.events": test.events})
			if err := freezeV2(over, dir, test.frozen); !errors.Is(err, test.want) {
				t.Errorf("freezeV2 = %v, want %v", err, test.want)
			}
			want := map[bool]string{false: "0", true: "1"}[test.frozen]
			if got := written(t, dir)["cgroup.freeze"]; got != want {
				t.Errorf("cgroup.freeze = %q, want %q", got, want)
			}
		})
	}
	if err := freezeV2(over, t.TempDir(), true); !missing(err) {
		t.Errorf("freezeV2 without cgroup.freeze = %v", err)
	}
}
