// Package reexec starts a program from a copy of a Go process that is none any more.
//
// A program that must be inside a cgroup before its first instruction can't be moved there from
// outside: between fork and the move it runs unlimited. It has to be born there, or to join by itself
// before execve. And whatever process does that must not be a Go runtime, whose threads and heap would
// be charged to the group (it could not even start inside pids.max=1). Hence three processes, of which
// the second is also there for the shim's sudden death:
//
//	shim                          stage                               program
//	────                          ─────                               ───────
//	Start: fork+exec self ──────▶ runtime starts; init clones it
//	                              and exits. Or, without that:
//	Fork: clone ────────────────▶ close all but a socket and a pipe,
//	                              give the heap back
//	              {pid, address} ◀── only if it was re-executed
//	Prepare: keep the spec
//	(make groups meanwhile)
//	Launch: work out an order
//	order, fds (SCM_RIGHTS) ────▶ chdir, look PROG up, unshare the
//	                              network
//	                              clone3(CLONE_PARENT) ─────────────▶ born in the v2 group
//	    {pid, time}, a shared page ◀┼──────────────────────────────── │
//	                                │                                 descriptors in their places,
//	                                │                                 write 0 to each tasks file,
//	                                │                                 affinity, rlimits, user,
//	                                │                                 no_new_privs, parent-death
//	                                │                                 signal, signal mask
//	               {step, errno} ◀──│───── only if one of them failed │
//	                         EOF ◀──│──────────────────────────────── execve closes the socket
//	                              guardian: close all but the pipe,
//	                              wait for its end. Or, without
//	                              one: exit. Or, with Stay: wait for
//	                              the next order
//	… Dismiss: end the guardian
//
// The stage is a copy of a process with one thread, and has neither a scheduler nor a heap: it makes raw
// system calls only. All that takes more than that is done before, by ordinary Go in the shim, and goes to
// the stage's memory as an order, with the strings and arrays that the kernel will want, at the addresses
// that they will have there: see types order and stage, and stage.go for the rules.
//
// There are two ways to a stage. Start executes this binary again, whose init clones the stage, as the
// shim's own child (CLONE_PARENT), and exits: that is what every user of this package gets, pays one
// re-execution for (about a millisecond, while the caller does something else until Launch), and can do at
// any time. Fork clones the calling process itself, which takes a fifth of that, but has to be young: it is
// for a command that calls it before the rest of it is initialised, as cgshim does. The next Start with a
// guardian takes that stage. What a program does not get told in its Spec it has from the stage: the
// working directory, the umask, namespaces and limits are those at the time of Start or Fork.
//
// The program is the shim's own child (CLONE_PARENT again), single-threaded from its first moment, with a
// fresh CPU clock and rusage (a new process, not an exec'd stage), and copies the stage's address space
// instead of sharing it, so that nothing it does can hurt the stage. Between clone3 and execve it makes
// the system calls of the order's list, one after the other.
//
// With Stay, a stage executes one order after the other, for who starts many programs; each launch has its
// own socket pair for reports, and what was for one of them only, the network, descriptors, memory, is undone
// after it. The directory is entered, and PROG looked up, by the program itself then: a file system that does not
// answer does not keep the stage. So a launch that fails costs nothing but itself.
//
// The guardian, if one is wanted, is there for the shim's death: see type guardian. It is what the stage
// becomes when there are no orders any more; or at once, should the shim die before.
//
// The sockets are close-on-exec on both sides, so that the end of file of a launch's says that execve
// happened; 24-byte records on it say which step failed with which errno before that.
//
// Privileges: the stage has the caller's, and does with them whatever looks at the file system; the program
// drops what Spec.Credential says last of all. A binary that is set-user-ID or set-group-ID, or has file capabilities,
// can be no stage: its caller would give the orders (see Raised). Inherited descriptors from 3 up are closed in the stage, so
// that the program gets 0, 1 and 2, and those that the caller names.
//
// Any binary that imports this package can be a stage: its init checks one environment variable. The
// package imports only syscall (and packages that syscall itself imports), so that a stage is cloned before
// the rest of the binary is initialised, and pays for none of it.
//
// Linux only. Kernel calls and what is done without them:
//
//	clone3            since Linux 5.3; also filtered by old container seccomp profiles: clone
//	CLONE_INTO_CGROUP since Linux 5.7: clone, then write 0 to cgroup.procs
//	CLONE_CLEAR_SIGHAND since Linux 5.5: rt_sigaction for each handler
//	pidfd_open        since Linux 5.3: wait4 again and again, for a child that is about to end
//	faccessat2        since Linux 5.8: faccessat, which goes by the real user
//	close_range       since Linux 5.9: close each number up to the last one in /proc/self/fd
package reexec
