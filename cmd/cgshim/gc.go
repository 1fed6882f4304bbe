package main

import (
	"context"
	"fmt"

	"github.com/cgshim/cgshim/shim/runs"
)

// collectGarbage is "cgshim gc [--parent CGROUP]…": it removes what killed runs have left, and prints the
// path of each group.
func collectGarbage(args []string) int {
	c, err := parseControl("gc", args, "parent")
	if err != nil {
		return complainOf(err)
	}
	if len(c.names) > 0 {
		return complainOf(fmt.Errorf("gc %q: want --parent CGROUP, or nothing", c.names[0]))
	}
	swept, err := runs.Sweep(context.Background(), c.parents...)
	if err != nil {
		return complainOf(err)
	}
	status := 0
	for _, group := range swept {
		if group.Err != nil {
			status = complainOfRun(fmt.Errorf("%s: %w", printable(group.Cgroup), group.Err))
			continue
		}
		if printed := printOut(printable(group.Cgroup) + "\n"); printed != 0 {
			status = printed
		}
	}
	return status
}
