package doctor

import (
	"slices"
	"testing"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/internal/schematest"
	"github.com/cgshim/cgshim/internal/testgroup"
	"github.com/cgshim/cgshim/shim"
	"github.com/cgshim/cgshim/shim/internal/advice"
	"github.com/cgshim/cgshim/shim/internal/seam"
)

// examine is Examine on a host that does without some of the kernel's files.
func examine(t *testing.T, without ...string) map[string]Check {
	t.Helper()
	real := seam.Detect
	t.Cleanup(func() { seam.Detect = real })
	seam.Detect = func() (*cgroup.Host, error) {
		host, err := real()
		if err != nil {
			return nil, err
		}
		return host.Without(without...), nil
	}
	if slices.Contains(without, "cgroup.kill") {
		canKill := seam.CanKill
		t.Cleanup(func() { seam.CanKill = canKill })
		seam.CanKill = func(*cgroup.Host, string) bool { return false }
	}
	report := Examine(t.Context(), shim.Config{Parent: testgroup.NewParent(t)})
	schematest.AssertValid(t, shim.Schema, report.JSON())
	found := map[string]Check{}
	last := -1
	for _, c := range report.Checks {
		found[c.Name] = c
		at := slices.Index(advice.Checks, c.Name)
		if at <= last {
			t.Errorf("%s is not in its place", c.Name)
		}
		last = at
		if c.Found == "" || (c.Status == OK) != (c.Remedy == nil) {
			t.Errorf("%+v: want what was found, and a remedy unless it is ok", c)
		}
	}
	return found
}

func TestExamine(t *testing.T) {
	found := examine(t)
	for _, name := range advice.Checks {
		if c, ok := found[name]; !ok || c.Status == Fail {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

// What an older kernel lacks is told, with what to do about it, and fails nobody.
func TestExamineOldKernel(t *testing.T) {
	found := examine(t, "memory.peak", "memory.max_usage_in_bytes", "pids.peak", "cgroup.kill", "cpu.pressure")
	for _, name := range []string{"memory-peak", "pids-peak", "cgroup-kill", "pressure"} {
		if c := found[name]; c.Status != Warn {
			t.Errorf("%+v, want a warning", c)
		}
	}
	for name, c := range found {
		if c.Status == Fail {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

func TestExamineWithoutCgroups(t *testing.T) {
	real := seam.Detect
	defer func() { seam.Detect = real }()
	seam.Detect = func() (*cgroup.Host, error) { return nil, &cgroup.Error{Op: "detect", Err: cgroup.ErrNotMounted} }
	report := Examine(t.Context(), shim.Config{})
	schematest.AssertValid(t, shim.Schema, report.JSON())
	if c := report.Checks[0]; report.OK || c.Name != "cgroup-mount" || c.Status != Fail || c.Remedy == nil {
		t.Errorf("%s", report.JSON())
	}
}

func TestSchemaFitsTypes(t *testing.T) {
	schematest.AssertFits(t, shim.Schema, "doctor", Report{})
	schematest.AssertFits(t, shim.Schema, "check", Check{})
	schematest.AssertFits(t, shim.Schema, "place", Place{})
}
