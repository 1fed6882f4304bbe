package cgroup

import (
	"errors"
	"strings"
	"testing"
)

// What is above is not touched: it may be systemd's.
func TestWithin(t *testing.T) {
	h := testHost(t)
	requireVersion(t, h, V2)
	base := create(t, h, testPath(t)+"/base", PIDs) // not memory
	if got, err := h.Create(base.Path()+"/a/run", Options{Controllers: []Controller{PIDs, Memory}, Within: base.Path()}); !errors.Is(err, ErrNoController) {
		t.Errorf("Create with what base does not have: %v, %v", got, err)
	}
	above, err := readFile(dirOf(h, base, Freezer) + "/../cgroup.subtree_control")
	if err != nil || strings.Contains(above, "memory") {
		t.Errorf("above is %q, %v", above, err)
	}
	g, err := h.Create(base.Path()+"/a/run", Options{Controllers: []Controller{PIDs}, Within: base.Path()})
	if err != nil {
		t.Fatal(err)
	}
	set(t, g, Limits{PIDs: 5})
	if err := g.Remove(); err != nil {
		t.Error(err)
	}
}

// A run inside of a run may use hierarchies that the outer one has no directory in.
func TestRemoveElsewhere(t *testing.T) {
	h := testHost(t)
	requireVersion(t, h, V1)
	outer := create(t, h, testPath(t)+"/outer", Memory)
	if _, err := h.Create(outer.Path()+"/x/inner", Options{Controllers: []Controller{Memory, CPU}}); err != nil {
		t.Fatal(err)
	}
	if err := outer.Remove(); err != nil {
		t.Error(err)
	}
	if h.Exists(testPath(t)) || h.Exists(outer.Path()) {
		t.Error("something is left")
	}
}

func TestOwner(t *testing.T) {
	h := testHost(t)
	path := testPath(t)
	owned, nobodys := createWith(t, h, path+"/a", Options{Owner: "somebody"}), create(t, h, path+"/b")
	for _, dir := range owned.Dirs() {
		if owner := Owner(dir); owner != "somebody" {
			t.Errorf("the owner of %s is %q", dir, owner)
		}
	}
	for _, dir := range append(nobodys.Dirs(), path+"/none") {
		if owner := Owner(dir); owner != "" {
			t.Errorf("the owner of %s is %q", dir, owner)
		}
	}
}
