package cgroup

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// The figures are the same, and the descriptors are given back, by Unprepare or Remove; those of KeepOpen stay.
func TestPrepare(t *testing.T) {
	h := testHost(t)
	g := create(t, h, testPath(t))
	startIn(t, g, "work").finish()
	before := openFiles(t)
	want, err := g.Totals()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // and again
		g.Prepare()
		if openFiles(t) <= before+5 {
			t.Errorf("%d files are open, %d were before", openFiles(t), before)
		}
		if got, err := g.Totals(); got != want || err != nil {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
		g.Unprepare()
		if n := openFiles(t); n != before {
			t.Errorf("after Unprepare %d files are open, %d were before", n, before)
		}
	}
	g.Prepare()
	g.KeepOpen()
	g.Unprepare()
	if got, err := g.Totals(); got != want || err != nil || openFiles(t) <= before+5 {
		t.Errorf("after KeepOpen: %+v, %v, %d files", got, err, openFiles(t))
	}
	if err := g.Remove(); err != nil || openFiles(t) != before {
		t.Errorf("after Remove: %v, %d files are open, %d were before", err, openFiles(t), before)
	}
}

func TestFarBelow(t *testing.T) {
	const mib = 1 << 20
	huge := int64(os.Getpagesize()) * int64(os.Getpagesize()) / 8
	known := func(n int64) Figure { return Figure{uint64(n), "memory.max_usage_in_bytes"} }
	for _, test := range []struct {
		peak  Figure
		limit int64
		want  bool
	}{
		{known(mib), 0, false}, // of another's limit nothing is known
		{known(mib), Unlimited, false},
		{Figure{}, 1 << 40, false},
		{known(mib), mib + 4*huge, true},
		{known(mib), mib + 4*huge - 1, false},
		{known(1 << 40), mib, false},
	} {
		if got := farBelow(test.peak, test.limit); got != test.want {
			t.Errorf("%+v of %d: %v", test.peak, test.limit, got)
		}
	}
}

// The lowest limit counts: what was reached before it was raised has been.
func TestMemoryHitsOfLowerLimit(t *testing.T) {
	h := testHost(t)
	requireVersion(t, h, V1)
	g := create(t, h, testPath(t), Memory)
	set(t, g, Limits{Memory: 8 << 20, Swap: Unlimited}) // else that of both is reached first, uncounted
	p := startIn(t, g, "eat")
	p.goOn()
	p.mustBeKilled()
	set(t, g, Limits{Memory: 4 << 30, Swap: Unlimited})
	if s, err := g.Totals(); err != nil || s.MemoryHits.Value == 0 {
		t.Errorf("%+v, %v: the limit was reached", s, err)
	}
}

// Nothing limits the root of a hierarchy.
func TestWatchOOMAboveRoot(t *testing.T) {
	h := testHost(t)
	g := create(t, h, testPath(t), Memory)
	if above, err := g.WatchOOMAbove(); !errors.Is(err, errors.ErrUnsupported) {
		if h.Version() == V2 || h.whole || err != nil {
			t.Errorf("%v", err)
		}
		_ = above.Close()
	}
}

// A name that is taken where a directory is made is refused all the same.
func TestFresh(t *testing.T) {
	h := testHost(t)
	path := testPath(t)
	create(t, h, path)
	if _, err := h.Fresh().Create(path); !errors.Is(err, unix.EEXIST) {
		t.Errorf("%v, want EEXIST", err)
	}
	fresh := create(t, h.Fresh(), path+"b", PIDs)
	if _, err := h.Create(path + "b"); !errors.Is(err, unix.EEXIST) {
		t.Errorf("%v, want EEXIST", err)
	}
	if err := fresh.Remove(); err != nil {
		t.Error(err)
	}
}
