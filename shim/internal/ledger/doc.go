// Package ledger writes down who answers for a cgroup, and settles the account when that process is dead.
//
// Each group of a run is marked with its owner (owner.go): the process that made it, so that anybody can tell whether it
// is still alive. The owner also leaves a will with its guardian (will.go), a process that outlives it: if the owner is
// killed, the guardian executes the will, which names the groups to kill and remove. If the guardian is killed as well,
// the groups are stale (stale.go): a later run, or Sweep, removes them.
package ledger
