// Package reexec starts a program through a re-execution of the calling binary.
//
// A program that must be inside a cgroup before its first instruction can't be moved there from
// outside: between fork and the move it runs unlimited. It has to be born there, or to join by itself
// before execve. And whatever process does that must not be a Go runtime, whose threads and heap would
// be charged to the group (it could not even start inside pids.max=1). Hence three processes, and one
// for the shim's sudden death:
//
//	shim                         stage (this binary again)            program
//	────                         ─────────────────────────            ───────
//	Start: fork+exec self ─────▶ runtime starts; init takes over
//	Prepare: spec ─────────────▶ read spec, chdir, look PROG up
//	(make groups meanwhile)
//	Launch: fds (SCM_RIGHTS) ──▶ put descriptors in their places,
//	                             unshare the network, write down
//	                             the system calls that are left
//	                             clone3(CLONE_PARENT) ──────────────▶ born in the v2 group, or
//	                               │                                  write 0 to each tasks file
//	                 {pid, time} ◀──── │ ───────────────────────────── │
//	                                                                  affinity, rlimits, user,
//	                                                                  no_new_privs, parent-death
//	                                                                  signal, signal mask
//	                 {step, errno} ◀── only if one of them failed ─── │
//	                             clone ─▶ guardian: close all but a pipe,
//	                               │      wait for its end
//	                 {pid} ◀────── exit
//	                 EOF ◀─────────────────────────────────────────── execve closes the socket
//	reap the stage
//	… Dismiss: end the guardian
//
// The program is the shim's own child (CLONE_PARENT), single-threaded from its first moment, with a
// fresh CPU clock and rusage (a new process, not an exec'd stage), and copies the stage's address space
// instead of sharing it, so that nothing it does can hurt the stage's runtime. Between clone3 and execve
// it makes raw system calls only, one after the other from a list: see child.go for the rules.
//
// The guardian is there for the shim's death: see type guardian.
//
// One socket pair carries everything. It is close-on-exec on both sides, so that its end of file says
// that execve happened; 24-byte records on it say which step failed with which errno before that.
//
// Start returns at once; the stage's start-up (about a millisecond) and the reading of the spec run in
// parallel with whatever the caller does until Launch.
//
// Privileges: the stage has the caller's, and does with them whatever looks at the file system; the program
// drops what Spec.Credential says last of all. Inherited descriptors from 3 up are marked close-on-exec in
// the stage, so that the program gets 0, 1 and 2, and those that the caller names.
//
// Any binary that imports this package can be a stage: its init checks one environment variable. The
// package imports only syscall (and packages that syscall itself imports), so that the stage runs before
// the rest of the binary is initialised and pays for none of it.
//
// Linux only. Kernel calls and what is done without them:
//
//	clone3            since Linux 5.3; also filtered by old container seccomp profiles: clone
//	CLONE_INTO_CGROUP since Linux 5.7: clone, then write 0 to cgroup.procs
//	CLONE_CLEAR_SIGHAND since Linux 5.5: rt_sigaction for each handler
//	close_range       since Linux 5.9 (CLOSE_RANGE_CLOEXEC 5.11): walk /proc/self/fd
package reexec
