package cgroup

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// killers are groups on which Kill works by each mechanism: cgroup.kill, and what there is without it.
func killers(t *testing.T) map[string]func(*testing.T) *Group {
	t.Helper()
	all := map[string]func(*testing.T) *Group{}
	for name, h := range hosts(t) {
		all[name] = func(t *testing.T) *Group { return create(t, h, testPath(t)) }
	}
	if h := testHost(t); h.Version() == V2 {
		all["before Linux 5.14"] = func(t *testing.T) *Group {
			g := create(t, h, testPath(t))
			g.h = withoutKill{g.h.(*v2)}
			return g
		}
	}
	return all
}

// withoutKill is a v2 group on a kernel without cgroup.kill. The file can't be hidden, so that this
// repeats what v2.signalAll does when it is missing.
type withoutKill struct{ *v2 }

func (g withoutKill) signalAll(ctx context.Context) error {
	if err := writeFile(g.dir+"/pids.max", "0"); err != nil {
		return err
	}
	return killFrozen(ctx, g.dir, g.freeze)
}

func TestKill(t *testing.T) {
	for _, test := range []struct {
		name    string
		prepare func(*testing.T, *Group) *program
	}{
		{"waiting", func(t *testing.T, g *Group) *program { return startIn(t, g, "wait") }},
		{"ignores SIGTERM", deaf},
		{"stopped", stopped},
		{"frozen", frozen},
		{"forks", func(t *testing.T, g *Group) *program { return forking(t, g, "1") }},
		// A process in the midst of a fork freezes when that is over; forty large ones take their time, and
		// the freezer of package cgroups gave up before: "unable to freeze", and Kill did not wait.
		{"forks and is large", func(t *testing.T, g *Group) *program { return forking(t, g, "128") }},
	} {
		t.Run(test.name, func(t *testing.T) {
			for name, newGroup := range killers(t) {
				t.Run(name, func(t *testing.T) {
					g := newGroup(t)
					p := test.prepare(t, g)
					if err := g.Kill(timeLimit(t)); err != nil {
						t.Fatal(err)
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
					p.mustBeKilled()
				})
			}
		})
	}
}

func deaf(t *testing.T, g *Group) *program {
	p := startIn(t, g, "ignore-term")
	p.goOn()
	if line := p.read(); line != "deaf" {
		t.Fatal(line)
	}
	if err := unix.Kill(p.pid(), unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	return p
}

func stopped(t *testing.T, g *Group) *program {
	p := startIn(t, g, "wait")
	if err := unix.Kill(p.pid(), unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a stopped program", func() bool { return processState(p.pid()) == "T" })
	return p
}

func frozen(t *testing.T, g *Group) *program {
	p := startIn(t, g, "wait")
	// Should Kill fail, the cleanup must not wait for a frozen process.
	t.Cleanup(func() {
		if alive, _ := g.Populated(); alive {
			_ = g.Thaw(timeLimit(t))
		}
	})
	if err := g.Freeze(timeLimit(t)); err != nil {
		t.Fatal(err)
	}
	return p
}

// forking is a fork bomb at its limit: for each process that dies another is born, if there is time.
func forking(t *testing.T, g *Group, size string) *program {
	set(t, g, Limits{PIDs: 40})
	p := startIn(t, g, "fork-bomb", size)
	p.goOn()
	if line := p.read(); line != "forking" {
		t.Fatal(line)
	}
	eventually(t, "forks at the limit", func() bool {
		s, err := g.Stats()
		if err != nil {
			t.Fatal(err)
		}
		return s.PIDsDenied.Value > 0 && s.PIDsCurrent.Value >= 40
	})
	return p
}

func TestKillNobody(t *testing.T) {
	for name, newGroup := range killers(t) {
		t.Run(name, func(t *testing.T) {
			g := newGroup(t)
			for range 2 {
				if err := g.Kill(timeLimit(t)); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// A context that is over bounds the waiting, not the killing: what Kill returns depends on how fast the
// process dies, but it returns, and the process dies.
func TestKillWithExpiredContext(t *testing.T) {
	for name, newGroup := range killers(t) {
		t.Run(name, func(t *testing.T) {
			g := newGroup(t)
			p := startIn(t, g, "wait")
			over, cancel := context.WithCancel(context.Background())
			cancel()
			if err := g.Kill(over); err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("Kill = %v, want success or context.Canceled", err)
			}
			p.mustBeKilled()
		})
	}
}

// A process that does not die is ErrNotEmpty. No process here is of that kind, so a directory plays it.
func TestKillNotEmpty(t *testing.T) {
	dir := fakeDir(t, map[string]string{"cgroup.kill": "", "cgroup.events": "populated 1\nfrozen 0\n"})
	g := &Group{h: &v2{dir: dir}, dirs: []string{dir}}
	over, cancel := context.WithCancel(context.Background())
	cancel()
	err := g.Kill(over)
	if !errors.Is(err, ErrNotEmpty) || !errors.Is(err, context.Canceled) {
		t.Errorf("Kill = %v, want ErrNotEmpty and the context's error", err)
	}
	if got := written(t, dir)["cgroup.kill"]; got != "1" {
		t.Errorf("cgroup.kill = %q", got)
	}
}

func TestWriteKill(t *testing.T) {
	if done, err := writeKill(t.TempDir()); done || err != nil {
		t.Errorf("without cgroup.kill: %v, %v", done, err)
	}
	// Any other failure is one, and no reason to try the slow way.
	if done, err := writeKill(fakeDir(t, map[string]string{"cgroup.kill/": ""})); !done || !errors.Is(err, unix.EISDIR) {
		t.Errorf("cgroup.kill can't be written: %v, %v", done, err)
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
