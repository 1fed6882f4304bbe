package cgroup

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// The controllers of the group, and those of its parents, are enabled on the way down.
func TestEnableOnTheWay(t *testing.T) {
	h := testHost(t)
	requireVersion(t, h, V2)
	g := create(t, h, testPath(t)+"/a/run", Memory, PIDs)
	got := strings.Fields(kernelFile(t, h, g, "cgroup.controllers"))
	for _, c := range []string{"memory", "pids"} {
		if !slices.Contains(got, c) {
			t.Errorf("cgroup.controllers = %q, want %s", got, c)
		}
	}
	if kind := kernelFile(t, h, g, "cgroup.type"); kind != "domain" {
		t.Errorf("cgroup.type = %q: processes can't join", kind)
	}
}

// A group of the user's own, with a process in it, can't get limited children: the kernel refuses some
// controllers, and with the others makes groups that nothing can join.
func TestPopulatedParent(t *testing.T) {
	h := testHost(t)
	requireVersion(t, h, V2)
	for _, controllers := range [][]Controller{nil, {PIDs}, {Memory}} {
		parent := create(t, h, testPath(t))
		p := startIn(t, parent, "wait")
		before := kernelFile(t, h, parent, "cgroup.subtree_control")
		g, err := h.Create(parent.Path()+"/a/run", Options{Controllers: controllers})
		var typed *Error
		if g != nil || !errors.Is(err, ErrPopulated) || !errors.As(err, &typed) {
			t.Errorf("Create with %v = %v, %v, want ErrPopulated", controllers, g, err)
		}
		if exists(dirOf(h, parent, Freezer) + "/a") {
			t.Errorf("Create with %v left a group behind", controllers)
		}
		if after := kernelFile(t, h, parent, "cgroup.subtree_control"); after != before {
			t.Errorf("cgroup.subtree_control was %q, and is %q", before, after)
		}
		if kind := kernelFile(t, h, parent, "cgroup.type"); kind != "domain" {
			t.Errorf("cgroup.type of the parent is %q", kind)
		}
		// When the process is gone it works.
		p.finish()
		create(t, h, parent.Path()+"/a/run", controllers...)
	}
}

// What v2 always has needs no enabling, and so no empty parent.
func TestPopulatedParentWithoutControllers(t *testing.T) {
	h := testHost(t)
	requireVersion(t, h, V2)
	parent := create(t, h, testPath(t))
	startIn(t, parent, "wait")
	child := create(t, h, parent.Path()+"/run", CPUAcct, Freezer)
	p := startIn(t, child, "wait")
	if err := child.Kill(timeLimit(t)); err != nil {
		t.Error(err)
	}
	p.mustBeKilled()
	if s, err := child.Stats(PartCPUUsage); err != nil || s.CPUUsage.Value == 0 {
		t.Errorf("CPU usage is %+v, %v", s.CPUUsage, err)
	}
}

// A parent for threads can have no children that take processes, and the kernel says no more than EOPNOTSUPP.
func TestThreadedParent(t *testing.T) {
	h := testHost(t)
	requireVersion(t, h, V2)
	top := create(t, h, testPath(t))
	threads := create(t, h, top.Path()+"/threads", CPUAcct)
	if err := writeFile(dirOf(h, threads, Freezer)+"/cgroup.type", "threaded"); err != nil {
		t.Fatal(err)
	}
	for _, parent := range []*Group{top, threads} {
		if g, err := h.Create(parent.Path()+"/run", Options{Controllers: []Controller{Memory}}); g != nil || !errors.Is(err, ErrThreaded) || !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("Create below %q = %v, %v, want ErrThreaded", parent.Path(), g, err)
		}
	}
}
