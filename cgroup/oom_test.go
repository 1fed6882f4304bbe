package cgroup

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestOOM(t *testing.T) {
	h := testHost(t)
	g := create(t, h, testPath(t))
	set(t, g, Limits{Memory: 16 << 20})
	events := watchOOM(t, g)
	if s, err := g.Stats(PartOOM); err != nil || !s.OOMKills.Known() || s.OOMKills.Value != 0 {
		t.Errorf("OOM kills are %+v, %v before there was one", s.OOMKills, err)
	}
	p := startIn(t, g, "eat")
	p.goOn()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := events.Wait(ctx); err != nil {
		t.Errorf("no event: %v", err)
	}
	p.mustBeKilled()
	// On v1 the event comes before the kill, and on v2 memory.events changes at the limit, too.
	eventually(t, "an OOM kill", func() bool {
		s, err := g.Stats(PartOOM)
		if err != nil {
			t.Fatal(err)
		}
		return s.OOMKills.Value == 1
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
	events, err := readFile(g.dirs[0] + "/memory.events")
	if err != nil {
		t.Fatal(err)
	}
	s, err := g.Stats(PartOOM)
	// Once the kernel (6.1) has counted four, for two processes that were killed as one group.
	if _, told := keyed(events, "oom_group_kill"); err != nil || s.OOMKills.Known() != told || told && s.OOMKills.Value < 2 {
		t.Errorf("OOM kills are %+v, %v, want 2, or unknown before Linux 5.17: %s", s.OOMKills, err, events)
	}
}

// One process that is killed is one, on either version, however often the kernel has counted it.
func TestOOMKillsOfOne(t *testing.T) {
	h := testHost(t)
	g := create(t, h, testPath(t))
	set(t, g, Limits{Memory: 16 << 20, OOMGroup: true})
	p := startIn(t, g, "eat")
	p.goOn()
	p.mustBeKilled()
	eventually(t, "an OOM kill", func() bool {
		s, err := g.Stats(PartOOM)
		if err != nil {
			t.Fatal(err)
		}
		if s.OOMKills.Known() && s.OOMKills.Value > 1 {
			t.Fatalf("%+v, of one process", s.OOMKills)
		}
		return s.OOMKills.Value == 1 || s.OwnOOMKills.Value > 1
	})
}

func TestOnceEach(t *testing.T) {
	known := func(n uint64) Figure { return Figure{n, "memory.events"} }
	for name, test := range map[string]struct{ kills, groupKills, want Figure }{
		"nobody":                           {known(0), known(0), known(0)},
		"nobody, before Linux 5.17":        {known(0), Figure{}, known(0)},
		"one":                              {known(1), known(0), known(1)},
		"one, before 5.17":                 {known(1), Figure{}, known(1)},
		"one, counted twice":               {known(2), known(1), known(1)},
		"one, gone before the second time": {known(1), known(1), known(1)},
		"three at once":                    {known(4), known(1), known(3)},
		"three, each a group of its own":   {known(6), known(3), known(3)},
		"two, and no group":                {known(2), known(0), known(2)},
		"more groups than processes":       {known(2), known(3), known(1)},
		"two, before 5.17":                 {known(2), Figure{}, Figure{}},
		"the kernel tells nothing":         {Figure{}, Figure{}, Figure{}},
	} {
		if got := onceEach(test.kills, test.groupKills); got != test.want {
			t.Errorf("%s: %+v, want %+v", name, got, test.want)
		}
	}
}

func eventsOf(w *OOMWatch) uint64 {
	n, _ := w.Events()
	return n
}

func watchOOM(t *testing.T, g *Group) *OOMWatch {
	t.Helper()
	w, err := g.WatchOOM()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// Without an event there is nothing to poll for, and who waits for one can be woken.
func TestWatchOOMWithout(t *testing.T) {
	h := testHost(t)
	w := watchOOM(t, create(t, h, testPath(t)))
	fds := []unix.PollFd{w.PollFd()}
	if n, err := unix.Poll(fds, 0); n != 0 || err != nil || eventsOf(w) != 0 {
		t.Errorf("an event without a cause: poll(2) = %d, %v, %+v", n, err, fds)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := w.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait = %v, want context.DeadlineExceeded", err)
	}
	var none *OOMWatch
	if none.PollFd().Fd >= 0 || eventsOf(none) != 0 || none.Close() != nil {
		t.Error("a nil watch is none")
	}
}

// An OOM is told of once, to poll(2) and by Events, and not for ever; and the next one is told of again.
func TestWatchOOMAgain(t *testing.T) {
	h := testHost(t)
	g := create(t, h, testPath(t))
	set(t, g, Limits{Memory: 16 << 20})
	w := watchOOM(t, g)
	for i := range 3 {
		p := startIn(t, g, "eat")
		p.goOn()
		p.mustBeKilled()
		fds := []unix.PollFd{w.PollFd()}
		if n, err := unix.Poll(fds, int(patience.Milliseconds())); n != 1 || err != nil {
			t.Fatalf("OOM %d: poll(2) = %d, %v", i, n, err)
		}
		eventually(t, "an event", func() bool { return eventsOf(w) > 0 })
		// Another thread of the victim's may have run out of memory, too, and v2 tells of a change 10 ms after the last one.
		eventually(t, "an end of it", func() bool {
			w.Events()
			n, err := unix.Poll(fds, 50)
			return n == 0 && err == nil
		})
	}
}

func TestWatchOOMErrors(t *testing.T) {
	g := &Group{h: &v1{of: map[Controller]string{PIDs: "/nowhere"}}}
	if f, err := g.WatchOOM(); f != nil || !errors.Is(err, ErrNoController) {
		t.Errorf("v1 without memory: %v, %v, want ErrNoController", f, err)
	}
	for version, h := range map[string]hierarchy{"v1": v1Dir("/nowhere"), "v2": &v2{dir: "/nowhere"}} {
		if f, err := (&Group{h: h}).WatchOOM(); f != nil || !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v, %v, want fs.ErrNotExist", version, f, err)
		}
	}
}

// What happened at limits of groups below, or above, is not this group's.
func TestOwnOOM(t *testing.T) {
	const events = "max 30\noom 20\noom_kill 10\noom_group_kill 0\n"
	for name, test := range map[string]struct {
		local string
		own   uint64
		hits  uint64
		above uint64
	}{
		"at a limit below":                         {"max 0\noom 0\noom_kill 0\noom_group_kill 0\n", 0, 0, 0},
		"here":                                     {"max 3\noom 1\noom_kill 1\noom_group_kill 1\n", 2, 3, 0},
		"the victim was below":                     {"max 3\noom 1\noom_kill 0\noom_group_kill 1\n", 1, 3, 0},
		"at a limit above":                         {"max 0\noom 0\noom_kill 1\noom_group_kill 0\n", 0, 0, 1},
		"below, before Linux 5.17":                 {"max 0\noom 0\noom_kill 0\n", 0, 0, 0},
		"the victim was below, before 5.17":        {"max 3\noom 1\noom_kill 0\n", 10, 3, 0},
		"killed by a limit above, before 5.17":     {"max 0\noom 0\noom_kill 1\n", 0, 0, 1},
		"reached, and killed nobody":               {"max 3\noom 1\noom_kill 0\noom_group_kill 0\n", 0, 3, 0},
		"before Linux 5.2, which has no such file": {"", 10, 30, 0},
	} {
		files := map[string]string{"memory.events": events}
		if test.local != "" {
			files["memory.events.local"] = test.local
		}
		g := &Group{h: &v2{dir: fakeDir(t, files)}}
		s, err := g.Stats(PartOOM)
		if err != nil || s.OOMKills.Value != 10 || !s.OwnOOMKills.Known() || s.OwnOOMKills.Value != test.own ||
			s.AboveOOMKills.Value != test.above || s.MemoryHits.Value != test.hits {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
}

// A high limit of a group below, which memory.events counts, is not this one's.
func TestHighHits(t *testing.T) {
	for name, test := range map[string]struct {
		files map[string]string
		want  Figure
	}{
		"here":                     {map[string]string{"memory.events": "high 5\nmax 0\n", "memory.events.local": "high 2\nmax 0\noom 0\n"}, Figure{2, "memory.events.local"}},
		"below":                    {map[string]string{"memory.events": "high 5\nmax 0\n", "memory.events.local": "high 0\nmax 0\noom 0\n"}, Figure{0, "memory.events.local"}},
		"before Linux 5.2":         {map[string]string{"memory.events": "high 5\nmax 0\noom 0\n"}, Figure{5, "memory.events"}},
		"no such key, and no file": {map[string]string{"memory.events": "max 0\n"}, Figure{}},
	} {
		s, err := (&Group{h: &v2{dir: fakeDir(t, test.files)}}).Stats(PartOOM)
		if err != nil || s.HighHits != test.want {
			t.Errorf("%s: %+v, %v, want %+v", name, s.HighHits, err, test.want)
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
			events := watchOOM(t, g)
			child := create(t, h, g.Path()+"/a", Memory)
			set(t, child, Limits{Memory: test.below})
			p := startIn(t, child, "eat")
			p.goOn()
			p.mustBeKilled()
			s := oomKill(t, g)
			n := eventsOf(events)
			own := s.OwnOOMKills.Value > 0
			if h.Version() == V1 {
				own = n > 0 // the event, which comes before the kill, is what tells
			}
			if want := test.above < test.below || test.below == Unlimited; own != want {
				t.Errorf("%+v, event %d: its own is %v, want %v", s, n, own, want)
			}
		})
	}
}

// Whose limit it was: that of the group above, and not the group's own.
func TestOOMAbove(t *testing.T) {
	h := testHost(t)
	parent := create(t, h, testPath(t), Memory)
	set(t, parent, Limits{Memory: 16 << 20})
	g := create(t, h, parent.Path()+"/a", Memory)
	set(t, g, Limits{Memory: 1 << 30, OOMGroup: true})
	events := watchOOM(t, g)
	p := startIn(t, g, "eat")
	p.goOn()
	p.mustBeKilled()
	s := oomKill(t, g)
	if h.Version() == V2 && (s.OwnOOMKills.Value != 0 || s.AboveOOMKills.Value == 0) {
		t.Errorf("%+v", s)
	}
	if n, m := events.Events(); h.Version() == V1 && (n == 0 || n != m) || h.Version() == V2 && m != 0 {
		t.Errorf("%d events here, %d above", n, m)
	}
}

// oomKill waits until an OOM kill is counted, and returns the counters.
func oomKill(t *testing.T, g *Group) (s Stats) {
	t.Helper()
	eventually(t, "an OOM kill", func() bool {
		var err error
		if s, err = g.Stats(PartOOM); err != nil {
			t.Fatal(err)
		}
		return s.OOMKills.Value > 0
	})
	return s
}
