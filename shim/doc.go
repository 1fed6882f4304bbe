// Package shim runs one program under limits and reports on it: the straight line from Config to Result.
//
// # Theory of operation
//
//	caller's thread (locked)                       kernel, other processes
//	────────────────────────                       ───────────────────────
//	check the Config                               nothing exists yet
//	confine (confine.go)                           a Landlock ruleset
//	acquire (source.go):
//	  reexec.Start                 ─────────────▶  stage: this binary again, waits for an order
//	  cgroup: detect, create, limit                (in parallel)
//	launch (launch.go)             ─────────────▶  stage chdirs, looks the program up, clones it:
//	  given up if it hangs                         born in its cgroups, execve. From here on
//	                                               the stage is the guardian
//	watch (internal/monitor): one
//	  ppoll over exit, OOM events,
//	  and an eventfd for all else;
//	  its timeout is the next timer ─ first limit ▶ everything in the group is killed
//	finish (finish.go):
//	  kill what outlived the program
//	  reap, read the statistics    ◀─────────────  final: nobody is left to change them
//	release: in reverse, what was acquired
//	  remove the cgroups
//	  end the guardian
//	deliver the rest of the output                 bounded: nobody need read it
//	report (report.go)                             facts → verdict (verdict.go)
//
// Each step hands on a value: resources, a program, an Outcome, an ending, a Result. Every arrow may fail; then what has been acquired
// is released, so that a run that fails leaves as little behind as one that works, and a Result comes out of both.
//
// Nothing of the shim or the stage is in the run's cgroups, so nothing of them is in its figures, and its
// limits do not limit them.
//
// To wait for a program of less than 20 ms takes no goroutine. Those that hear of signals, of the end of the context, and of stops of
// the program, which no descriptor tells, are started after that. Only paths (Config.FSReadOnly) are looked up in one before.
//
// A Pool (pool.go) has the same line for each of its runs, from another source (slot.go): on threads that stay, one for each job, with
// a stage that stays as well, and is the guardian of all its runs; the group of the next run is made while the
// program of this one runs, if it is one like it.
//
// Config.OutputLimit puts a relay between the program and the caller's descriptors (internal/relay), a goroutine
// per pipe. Config.BestEffort makes the group first, and goes on without what can't be had
// (besteffort.go); a run without a group has the program's process tree instead, and no guardian. Events are
// told from the goroutine that watches.
//
// The program dies with the thread that started it (parent-death signal), and so with the process. What else
// is in the groups then, and the groups, are the guardian's to remove; and if that was killed, too, a later run's, or
// that of package runs: see shim/internal/ledger.
//
// The package re-executes the binary that it is linked into, see package reexec: for its stages, and for what a guardian does
// in the end. That is quicker if the binary is linked with the entry of package reexec. It
// does not print, exit, or install signal handlers, but for SIGCHLD if it is to reap orphans; the caller passes signals in Config.Signals.
package shim
