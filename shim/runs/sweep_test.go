package runs

import (
	"context"
	"slices"
	"testing"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/internal/testgroup"
	"github.com/cgshim/cgshim/shim"
	"github.com/cgshim/cgshim/shim/internal/ledger"
)

func TestSweep(t *testing.T) {
	parent := testgroup.NewParent(t)
	host, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	self, _ := ledger.ParseOwner(ledger.ThisOwner())
	dead := ledger.Owner{PID: self.PID, Started: self.Started - 1, PIDNS: self.PIDNS, TimeNS: self.TimeNS}.String()
	stays := map[string]bool{}
	for _, g := range []struct {
		name, owner string
		stays       bool
	}{
		{"1-00000001", dead, false},
		{"named", dead, false},
		{"1-00000002", "", false}, // killed between mkdir and mark
		{"1-00000003", ledger.ThisOwner(), true},
		{"1-00000004", ledger.Owner{PID: self.PID, Started: self.Started - 1, PIDNS: self.PIDNS + 1, TimeNS: self.TimeNS}.String(), true},
		{"somebody's", "", true},
	} {
		group, err := host.Create(parent+"/"+g.name, cgroup.Options{Controllers: []cgroup.Controller{cgroup.Memory, cgroup.PIDs}, Owner: g.owner})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = group.Remove() }()
		stays[group.Path()] = g.stays
	}
	// A later run does so, too, for those that it can be sure of.
	if res := shim.Run(context.Background(), shim.Config{Args: []string{"/bin/sh", "-c", "sleep 0.2"}, Parent: parent}); res.Verdict != shim.OK {
		t.Fatalf("%s", res.JSON(false))
	}
	if host.Exists(parent+"/1-00000001") || host.Exists(parent+"/named") || !host.Exists(parent+"/1-00000002") {
		t.Error("a run has not swept what is certainly dead, or something else")
	}
	swept, err := Sweep(context.Background(), parent)
	if err != nil || !slices.Equal(swept, []Swept{{parent + "/1-00000002", nil}}) {
		t.Errorf("Sweep = %v, %v", swept, err)
	}
	for path, want := range stays {
		if host.Exists(path) != want {
			t.Errorf("%s: there: %v, want %v", path, !want, want)
		}
	}
	if swept, err := Sweep(context.Background(), "/cgshim-test-none"); err != nil || swept != nil {
		t.Errorf("Sweep of nothing = %v, %v", swept, err)
	}
}
