// Package stack makes the main goroutine's stack as large as a run needs it, at once and before other packages are initialised:
// else it is copied again and again while it grows, and for each size in between the runtime sets up a pool of such stacks.
//
// Package initialisation picks, of the packages whose imports are done, the one that sorts first; this one has none.
package stack

func init() { grow() }

// grow needs that much, and uses nothing of it.
func grow()
