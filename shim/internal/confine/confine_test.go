package confine

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// What a version is asked to handle is exactly what it knows: the kernel refuses more, and less would be a hole.
func TestHandled(t *testing.T) {
	for abi, want := range map[int]uint64{1: 1<<13 - 1, 2: 1<<14 - 1, 3: 1<<15 - 1, 4: 1<<15 - 1, 5: 1<<16 - 1, 8: 1<<16 - 1, 9: 1<<17 - 1, 100: 1<<17 - 1} {
		if got := handled(abi); got != want {
			t.Errorf("ABI %d: %#x, want %#x", abi, got, want)
		}
	}
}

func TestLacks(t *testing.T) {
	for abi, want := range map[int]int{1: 4, 2: 3, 3: 2, 4: 2, 5: 1, 6: 0, 9: 0} {
		if got := lacks(abi); len(got) != want {
			t.Errorf("ABI %d lacks %q, want %d", abi, got, want)
		}
	}
}

func ruleset(t *testing.T, p *Policy) (Ruleset, error) {
	t.Helper()
	r, err := p.Ruleset()
	if err == nil {
		t.Cleanup(func() { _ = unix.Close(r.FD) })
	}
	return r, err
}

func TestRuleset(t *testing.T) {
	abi := ABI()
	if abi < abiScope {
		_, err := ruleset(t, &Policy{Shield: true})
		if !Unsupported(err) {
			t.Errorf("ABI %d: %v, want that it is not supported", abi, err)
		}
		t.Skip("requires landlock: its signal scope")
	}
	for name, p := range map[string]*Policy{
		"shield": {Shield: true}, "files": {ReadOnly: []string{"/usr"}}, "both": {Shield: true, ReadWrite: []string{t.TempDir()}, System: true},
		"a file": {ReadWrite: []string{os.DevNull}}, "a symbolic link": {ReadOnly: []string{"/proc/self/exe"}},
	} {
		r, err := ruleset(t, p)
		if err != nil || r.Shield != p.Shield || len(r.Lacking) != 0 {
			t.Errorf("%s: %+v, %v", name, r, err)
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(r.FD), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("%s: the descriptor's flags are %#x, %v", name, flags, err)
		}
	}
}

// The error names the path, and what was wanted there. No descriptor is left.
func TestRulesetErrors(t *testing.T) {
	if ABI() < ABITruncate {
		t.Skip("requires landlock")
	}
	missing := filepath.Join(t.TempDir(), "missing")
	before := descriptors(t)
	for _, p := range []*Policy{{ReadOnly: []string{"/usr", missing}}, {ReadOnly: []string{"/usr"}, ReadWrite: []string{missing}}} {
		_, err := p.Ruleset()
		var e *PathError
		if !errors.As(err, &e) || e.Path != missing || e.ReadWrite != (len(p.ReadWrite) > 0) || !errors.Is(err, unix.ENOENT) {
			t.Errorf("%+v: %v", p, err)
		}
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
