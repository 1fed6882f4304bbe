// Package seam is where the tests of shim and its packages put something else in the place of the system.
package seam

import (
	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/shim/internal/place"
	"github.com/cgshim/cgshim/shim/internal/sys"
)

// Detect finds the cgroup hierarchies. Tests replace it, with kernels that have less.
var Detect = cgroup.Detect

// CanKill reports whether a group has a cgroup.kill. Tests replace it, likewise.
var CanKill = place.CanKill

// UnifiedPath is where a process is, or was, in cgroup2's hierarchy. Tests replace it, likewise.
var UnifiedPath = sys.UnifiedPath
