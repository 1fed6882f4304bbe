package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/cgshim/cgshim/cmd/cgshim/internal/flags"
	"github.com/cgshim/cgshim/shim/runs"
)

const gcHelp = "Removes the cgroups that killed runs have left, and prints the path of each."

func gcFlags() []cli.Flag {
	return []cli.Flag{flags.NewList("", "parent", "CGROUP", "look below VALUE only")}
}

// collectGarbage is "cgshim gc".
func collectGarbage(ctx *cli.Context) int {
	c, err := parseControl(ctx)
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
