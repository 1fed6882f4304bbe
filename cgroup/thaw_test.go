package cgroup

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// What a program has put into a frozen freezer group of somebody else's dies all the same, and that group stays frozen.
func TestKillFrozenElsewhere(t *testing.T) {
	for name, h := range hosts(t) {
		if h.Version() != V1 || !h.Has(Freezer) {
			t.Skip("requires cgroups_v1: the freezer")
		}
		t.Run(name, func(t *testing.T) {
			g := create(t, h, testPath(t))
			p := startIn(t, g, "wait")
			other := h.mounts[Freezer] + testPath(t) + "-other"
			if err := unix.Mkdir(other, 0o755); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				_ = writeFile(other+"/freezer.state", thawed)
				if err := unix.Rmdir(other); err != nil {
					t.Error(err)
				}
			})
			if err := move(other, p.pid()); err != nil {
				t.Fatal(err)
			}
			eventually(t, "it is frozen", func() bool {
				_ = writeFile(other+"/freezer.state", "FROZEN")
				state, err := readFile(other + "/freezer.state")
				return err == nil && state == "FROZEN\n"
			})
			if err := g.Kill(timeLimit(t)); err != nil {
				t.Fatal(err)
			}
			p.mustBeKilled()
			if state, err := readFile(other + "/freezer.state"); state != "FROZEN\n" {
				t.Errorf("the other group is %q, %v", state, err)
			}
			if err := g.Remove(); err != nil {
				t.Error(err)
			}
			if h.Exists(g.Path()) {
				t.Error("something is left of the group")
			}
		})
	}
}

// Where only the freezer can kill, a group below one that is frozen is not entered.
func TestJoinBelowFrozen(t *testing.T) {
	for name, h := range hosts(t) {
		t.Run(name, func(t *testing.T) {
			parent := create(t, h, testPath(t))
			g := create(t, h, parent.Path()+"/a/b")
			t.Cleanup(func() { _ = parent.Thaw(timeLimit(t)) })
			if err := parent.Freeze(timeLimit(t)); err != nil {
				t.Fatal(err)
			}
			j, err := g.Join()
			if err == nil {
				j.Close()
			}
			if freezes := h.Version() == V1 && h.unified == ""; errors.Is(err, ErrFrozen) != freezes {
				t.Errorf("Join() = %v", err)
			}
			if err := parent.Thaw(timeLimit(t)); err != nil {
				t.Fatal(err)
			}
		})
	}
}
