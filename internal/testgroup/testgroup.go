// Package testgroup has the cgroups of tests, and programs in them: it finds a place for them, and sees that nothing is left there.
package testgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
)

var parents atomic.Int64

// NewParent is a parent cgroup for the runs of one test. The test fails if anything is left of it in any
// hierarchy, and is skipped where no cgroup can be made.
func NewParent(t *testing.T) string {
	t.Helper()
	path := fmt.Sprintf("/cgshim-test-%d-%d", os.Getpid(), parents.Add(1))
	host, err := cgroup.Detect()
	if err == nil {
		var probe *cgroup.Group
		if probe, err = host.Create(path, cgroup.Options{Controllers: []cgroup.Controller{cgroup.Memory, cgroup.PIDs, cgroup.CPU, cgroup.CPUAcct}}); err == nil {
			err = probe.Remove()
		}
	}
	if err != nil {
		t.Skip("requires writable cgroups: ", err)
	}
	t.Cleanup(func() {
		for _, mount := range Mounts(t) {
			AssertGone(t, mount+path)
		}
	})
	return path
}

// AssertGone fails the test if the directory exists, and cleans up for the tests that follow.
func AssertGone(t *testing.T, dir string) {
	t.Helper()
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return
	}
	var left []string
	_ = filepath.WalkDir(dir, func(path string, entry os.DirEntry, _ error) error {
		if entry != nil && entry.IsDir() {
			left = append(left, path)
		}
		return nil
	})
	t.Errorf("left behind: %q", left)
	for i := len(left) - 1; i >= 0; i-- {
		_ = unix.Rmdir(left[i])
	}
}

// Mounts lists every cgroup mount, also those that package cgroup does not use.
func Mounts(t *testing.T) []string {
	t.Helper()
	content, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var mounts []string
	for line := range strings.Lines(string(content)) {
		if _, rest, ok := strings.Cut(line, " - "); ok && strings.HasPrefix(rest, "cgroup") {
			mounts = append(mounts, strings.Fields(line)[4])
		}
	}
	if len(mounts) == 0 {
		t.Fatal("no cgroup mount found: the check for leftovers would check nothing")
	}
	return mounts
}

// New makes a group that says it is somebody's.
func New(t *testing.T, path, owner string) *cgroup.Group {
	t.Helper()
	host, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	g, err := host.Create(path, cgroup.Options{Controllers: []cgroup.Controller{cgroup.Memory, cgroup.PIDs}, Owner: owner})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Remove() })
	return g
}
