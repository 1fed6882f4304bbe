package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/cgshim/cgshim/shim"
)

// collectGarbage is "cgshim gc [--parent CGROUP]…": it removes what killed runs have left, and prints the
// path of each group.
func collectGarbage(args []string) int {
	parents, err := parentsOf(args)
	if err != nil {
		complain(&shim.ErrorInfo{Message: err.Error()})
		return shim.ExitFailed
	}
	status := 0
	swept, err := shim.Sweep(context.Background(), parents...)
	if err != nil {
		complain(&shim.ErrorInfo{Message: err.Error()})
		status = shim.ExitFailed
	}
	for _, group := range swept {
		if group.Err != nil {
			complain(&shim.ErrorInfo{Message: fmt.Sprintf("%s: %v", group.Cgroup, group.Err)})
			status = shim.ExitFailed
			continue
		}
		if printed := printOut(group.Cgroup + "\n"); printed != 0 {
			status = printed
		}
	}
	return status
}

func parentsOf(args []string) ([]string, error) {
	var parents []string
	for i := 0; i < len(args); i++ {
		name, parent, hasValue := strings.Cut(args[i], "=")
		if name != "--parent" {
			return nil, fmt.Errorf("gc %q: want --parent CGROUP, or nothing", args[i])
		}
		if !hasValue {
			if i++; i == len(args) {
				return nil, fmt.Errorf("gc --parent: no value")
			}
			parent = args[i]
		}
		if err := shim.CheckParent(parent); err != nil {
			return nil, fmt.Errorf("gc --parent %q: %w", parent, err)
		}
		parents = append(parents, parent)
	}
	return parents, nil
}
