package cgroup

import (
	"errors"
	"os"
	"testing"
	"time"
)

func TestOOM(t *testing.T) {
	h := testHost(t)
	g := create(t, h, testPath(t))
	set(t, g, Limits{Memory: 16 << 20})
	events, err := g.OOMEvents()
	if err != nil {
		t.Fatal(err)
	}
	defer events.Close()
	if kills, err := g.OOMKills(); err != nil || !kills.Known() || kills.Value != 0 {
		t.Errorf("OOMKills() = %+v, %v before there was one", kills, err)
	}
	p := startIn(t, g, "eat")
	p.goOn()
	if err := events.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if n, err := events.Read(make([]byte, 4096)); n == 0 || err != nil {
		t.Errorf("no event: Read = %d, %v", n, err)
	}
	p.mustBeKilled()
	// On v1 the event comes before the kill, and on v2 memory.events changes at the limit, too.
	eventually(t, "an OOM kill", func() bool {
		kills, err := g.OOMKills()
		if err != nil {
			t.Fatal(err)
		}
		return kills.Value == 1
	})
	s, err := g.Stats()
	if err != nil {
		t.Fatal(err)
	}
	// The kernel charges a page or two above the limit where it may not fail (16781312 was seen on Linux 6.1).
	if s.MemoryPeak.Known() && (s.MemoryPeak.Value < 8<<20 || s.MemoryPeak.Value > 17<<20) {
		t.Errorf("MemoryPeak = %+v at a limit of 16 MiB", s.MemoryPeak)
	}
}

// On v1 a group without swap has the same limit twice, for RAM and for RAM+swap. The kernel charges RAM+swap
// first, and fails there: memory.failcnt stays 0, and on Linux 6.18 memory.memsw.failcnt does, too.
func TestMemoryHits(t *testing.T) {
	h := testHost(t)
	for name, limits := range map[string]Limits{"without swap": {Memory: 16 << 20}, "with swap": {Memory: 16 << 20, Swap: 1 << 20}} {
		t.Run(name, func(t *testing.T) {
			g := create(t, h, testPath(t))
			set(t, g, limits)
			p := startIn(t, g, "eat")
			p.goOn()
			p.mustBeKilled()
			if s, err := g.Stats(); err != nil || s.MemoryHits.Known() && s.MemoryHits.Value == 0 {
				t.Errorf("MemoryHits = %+v, %v: the limit was reached, so that it is more or unknown", s.MemoryHits, err)
			}
		})
	}
}

// With OOMGroup all processes die, not only the one that is too large.
func TestOOMGroup(t *testing.T) {
	h := testHost(t)
	requireVersion(t, h, V2)
	g := create(t, h, testPath(t))
	set(t, g, Limits{Memory: 16 << 20, OOMGroup: true})
	innocent := startIn(t, g, "wait")
	p := startIn(t, g, "eat")
	p.goOn()
	p.mustBeKilled()
	innocent.mustBeKilled()
	if kills, err := g.OOMKills(); err != nil || kills.Value < 2 {
		t.Errorf("OOMKills() = %+v, %v, want 2", kills, err)
	}
}

// Without an event the file has nothing to read, and who waits for one can be woken.
func TestOOMEventsClose(t *testing.T) {
	h := testHost(t)
	g := create(t, h, testPath(t))
	events, err := g.OOMEvents()
	if err != nil {
		t.Fatal(err)
	}
	if err := events.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if n, err := events.Read(make([]byte, 4096)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("an event without a cause: Read = %d, %v", n, err)
	}
	if err := events.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	read := make(chan error)
	go func() {
		_, err := events.Read(make([]byte, 4096))
		read <- err
	}()
	if err := events.Close(); err != nil {
		t.Error(err)
	}
	select {
	case err := <-read:
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("Read = %v, want os.ErrClosed", err)
		}
	case <-time.After(patience):
		t.Error("Close did not end Read")
	}
}

func TestOOMEventsErrors(t *testing.T) {
	g := &Group{h: &v1{of: map[Controller]string{PIDs: "/nowhere"}}}
	if f, err := g.OOMEvents(); f != nil || !errors.Is(err, ErrNoController) {
		t.Errorf("v1 without memory: %v, %v, want ErrNoController", f, err)
	}
	for version, h := range map[string]hierarchy{"v1": v1Dir("/nowhere"), "v2": &v2{dir: "/nowhere"}} {
		if f, err := (&Group{h: h}).OOMEvents(); f != nil || !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v, %v, want fs.ErrNotExist", version, f, err)
		}
	}
}

// What happened at limits of groups below is not this group's.
func TestOwnOOM(t *testing.T) {
	const events = "max 30\noom 20\noom_kill 10\n"
	for name, test := range map[string]struct {
		local string
		own   uint64
		hits  uint64
	}{
		"at a limit below":                         {"max 0\noom 0\noom_kill 0\noom_group_kill 0\n", 0, 0},
		"here":                                     {"max 3\noom 1\noom_kill 1\noom_group_kill 1\n", 2, 3},
		"the victim was below":                     {"max 3\noom 1\noom_kill 0\noom_group_kill 1\n", 1, 3},
		"at a limit above":                         {"max 0\noom 0\noom_kill 1\noom_group_kill 0\n", 1, 0},
		"below, before Linux 5.17":                 {"max 0\noom 0\noom_kill 0\n", 0, 0},
		"the victim was below, before 5.17":        {"max 3\noom 1\noom_kill 0\n", 10, 3},
		"killed by a limit above, before 5.17":     {"max 0\noom 0\noom_kill 1\n", 1, 0},
		"reached, and killed nobody":               {"max 3\noom 1\noom_kill 0\noom_group_kill 0\n", 0, 3},
		"before Linux 5.2, which has no such file": {"", 10, 30},
	} {
		files := map[string]string{"memory.events": events}
		if test.local != "" {
			files["memory.events.local"] = test.local
		}
		g := &Group{h: &v2{dir: fakeDir(t, files)}}
		s, err := g.OOM()
		if err != nil || s.OOMKills.Value != 10 || !s.OwnOOMKills.Known() || s.OwnOOMKills.Value != test.own || s.MemoryHits.Value != test.hits {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
}

// The limit of a group holds for the groups below it, and a limit of theirs is not its own.
func TestOOMBelow(t *testing.T) {
	h := testHost(t)
	for name, test := range map[string]struct{ above, below int64 }{"of the group": {16 << 20, Unlimited}, "below it": {1 << 30, 16 << 20}} {
		t.Run(name, func(t *testing.T) {
			g := create(t, h, testPath(t), Memory)
			set(t, g, Limits{Memory: test.above, OOMGroup: true})
			events, err := g.OOMEvents()
			if err != nil {
				t.Fatal(err)
			}
			defer events.Close()
			child := create(t, h, g.Path()+"/a", Memory)
			set(t, child, Limits{Memory: test.below})
			p := startIn(t, child, "eat")
			p.goOn()
			p.mustBeKilled()
			var s Stats
			eventually(t, "an OOM kill", func() bool {
				if s, err = g.OOM(); err != nil {
					t.Fatal(err)
				}
				return s.OOMKills.Value > 0
			})
			if err := events.SetReadDeadline(time.Now().Add(patience / 100)); err != nil {
				t.Fatal(err)
			}
			n, _ := events.Read(make([]byte, 4096))
			own := s.OwnOOMKills.Value > 0
			if h.Version() == V1 {
				own = n > 0 // the event is what tells
			}
			if want := test.above < test.below || test.below == Unlimited; own != want {
				t.Errorf("%+v, event %d: its own is %v, want %v", s, n, own, want)
			}
		})
	}
}
