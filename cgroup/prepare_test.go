package cgroup

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// openFiles is how many files of a group are open.
func openFiles(t *testing.T, group string) (n int) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range list {
		if file, _ := os.Readlink("/proc/self/fd/" + fd.Name()); strings.Contains(file, group+"/") {
			n++
		}
	}
	return n
}

// The figures are those of the end, though the files were opened before the beginning; and the descriptors are given back, by
// the zero Tuning or Remove; those of KeepOpen stay.
func TestPrepare(t *testing.T) {
	h := testHost(t)
	path := testPath(t)
	g := create(t, h, path)
	open := func(when string, want bool) {
		t.Helper()
		if n := openFiles(t, path); n > 5 != want || n > 0 != want {
			t.Errorf("%s: %d files are open", when, n)
		}
	}
	g.Tune(Tuning{Prepare: 1 << 20})
	open("prepared", true)
	p := startIn(t, g, "work")
	p.goOn()
	p.read()
	p.finish()
	same := func(when string) {
		t.Helper()
		fresh, err := h.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		want, err := fresh.Stats(Totals)
		got, gotErr := g.Stats(Totals)
		for _, s := range []*Stats{&want, &got} { // which may fall after the end
			s.MemoryKernel, s.MemoryAnon, s.MemoryFile = Figure{}, Figure{}, Figure{}
		}
		if got != want || errors.Join(err, gotErr) != nil || want.CPUUsage.Value == 0 {
			t.Errorf("%s: got %+v, %v, want %+v, %v", when, got, gotErr, want, err)
		}
	}
	same("prepared")
	g.Tune(Tuning{})
	same("unprepared")
	open("unprepared", false)
	g.Tune(Tuning{Prepare: 3}) // no number below that is free
	open("of numbers that are taken", false)
	g.Tune(Tuning{Prepare: 1 << 20})
	g.Tune(Tuning{KeepOpen: true})
	same("kept open")
	open("kept open", true)
	if err := g.Remove(); err != nil {
		t.Error(err)
	}
	open("removed", false)
}

// What was read of one group is open of one like it, and read as it is then; and what was said to be needed still is not removed.
func TestLike(t *testing.T) {
	h := testHost(t)
	path := testPath(t)
	first := create(t, h, path+"/first")
	if _, err := first.Stats(Totals); err != nil {
		t.Fatal(err)
	}
	second := createWith(t, h, path+"/second", Options{Like: first})
	if n := openFiles(t, path+"/second"); n <= 5 {
		t.Errorf("%d files are open", n)
	}
	p := startIn(t, second, "work")
	p.goOn()
	p.read()
	if s, err := second.Stats(Totals); err != nil || s.CPUUsage.Value == 0 {
		t.Errorf("%+v, %v", s, err)
	}
	p.finish()
	if err := first.Remove(); err != nil {
		t.Error(err)
	}
	second.Tune(Tuning{KeepParents: true})
	if err := second.Remove(); err != nil || openFiles(t, path) > 0 || !h.Exists(path) || h.Exists(second.Path()) {
		t.Errorf("removed: %v, and the parent exists: %v", err, h.Exists(path))
	}
	second.Tune(Tuning{})
	if err := second.Remove(); err != nil || h.Exists(path) {
		t.Errorf("removed: %v, and the parent exists: %v", err, h.Exists(path))
	}
}

// Regression: what is read of a group that was kept open, and could not be removed, was put into a map that was gone.
func TestKeepOpenAfterFailedRemove(t *testing.T) {
	g := create(t, testHost(t), testPath(t))
	p := startIn(t, g, "work")
	g.Tune(Tuning{KeepOpen: true})
	if err := g.Remove(); !errors.Is(err, unix.EBUSY) {
		t.Errorf("%v, want EBUSY", err)
	}
	if alive, err := g.Populated(); !alive || err != nil {
		t.Errorf("Populated() = %v, %v", alive, err)
	}
	if _, err := g.Stats(Sample); err != nil {
		t.Error(err)
	}
	p.finish()
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

// The lowest limit counts, also that of somebody else, and what was reached before it was raised has been.
func TestMemoryHitsOfLowerLimit(t *testing.T) {
	h := testHost(t)
	requireVersion(t, h, V1)
	g := create(t, h, testPath(t), Memory)
	set(t, g, Limits{Memory: 8 << 20, Swap: Unlimited}) // else that of both is reached first, uncounted
	p := startIn(t, g, "eat")
	p.goOn()
	p.mustBeKilled()
	set(t, g, Limits{Memory: 4 << 30, Swap: Unlimited})
	g.Tune(Tuning{Prepare: 1 << 20})
	if s, err := g.Stats(Totals); err != nil || s.MemoryHits.Value == 0 {
		t.Errorf("%+v, %v: the limit was reached", s, err)
	}
}

// Nothing limits the root of a hierarchy.
func TestWatchOOMAboveRoot(t *testing.T) {
	h := testHost(t)
	g := create(t, h, testPath(t), Memory)
	if w := watchOOM(t, g); (w.above < 0) != (h.Version() == V2 || h.whole) {
		t.Errorf("above is %d", w.above)
	}
}

// A name is taken wherever a directory of it would be made; of other hierarchies only the names of others are.
func TestFresh(t *testing.T) {
	h := testHost(t)
	path := testPath(t)
	create(t, h, path)
	if _, err := h.Create(path, Options{Fresh: true}); !errors.Is(err, unix.EEXIST) {
		t.Errorf("%v, want EEXIST", err)
	}
	requireVersion(t, h, V1)
	outsider := h.MountPoint(CPU) + path + "b"
	if err := unix.Mkdir(outsider, 0o755); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Rmdir(outsider) }()
	if _, err := h.Create(path+"b", Options{Controllers: []Controller{PIDs}}); !errors.Is(err, unix.EEXIST) {
		t.Errorf("%v, want EEXIST", err)
	}
	createWith(t, h, path+"b", Options{Controllers: []Controller{PIDs}, Fresh: true})
}
