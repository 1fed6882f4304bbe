// Package reexec starts a program that is inside its cgroups before its first instruction.
//
// A program can't be moved there from outside: between fork and the move it runs unlimited. It has to be born there, or to
// join by itself before execve. And whatever process does that must not be a Go runtime, whose threads and heap would
// be charged to the group (it could not even start inside pids.max=1). So this binary executes itself once more, as the
// stage, which makes the program, and stays behind as the guardian:
//
//	shim                          stage                               program
//	────                          ─────                               ───────
//	Start: fork+exec self ──────▶ leaves in the binary's entry,
//	                              before there is a Go runtime;
//	                              closes all but a socket and a file
//	(make groups meanwhile)
//	Launch: work out an order
//	order, fds (SCM_RIGHTS) ────▶ chdir, look PROG up, unshare the
//	                              network
//	                              clone3(CLONE_PARENT) ─────────────▶ born in the v2 group
//	           its pid, in the file ◀┤ ─────────────────────────────── │
//	                                 │                                descriptors in their places,
//	                                 │                                write 0 to each tasks file,
//	                                 │                                affinity, rlimits, user,
//	                                 │                                the network, if the stage
//	                                 │                                may not, in a user namespace;
//	                                 │                                no_new_privs, Landlock (before
//	                                 │                                the user, where there is no
//	                                 │                                no_new_privs), parent-death
//	                                 │                                signal, signals; as another
//	                                 │                                user: look PROG up
//	               {step, errno} ◀───│──── only if one of them failed │
//	                         EOF ◀───│─────────────────────────────── execve closes the pipe
//	                              guardian: waits for the end of
//	                              the socket. Or, without one:
//	                              exit. Or, with Stay: waits for
//	                              the next order
//	… Close: end the guardian
//
// The stage has neither a scheduler nor a heap: it makes raw system calls only. All that takes more than that is done
// before, by ordinary Go in the shim, and goes to the stage's memory as an order, with the strings and arrays that the
// kernel will want, at the addresses that they will have there: see type order. The name of each file tells which rules hold
// in it:
//
//	handle.go, launch.go, file.go,
//	order.go, userns.go                       the shim's: ordinary Go
//	boot.go                                   what every process of the binary begins with: ordinary Go
//	entry.go, stage.go, program.go,
//	guardian.go, raised.go                    system calls only: see stage.go
//	protocol.go                               what both sides know
//
// # How a stage starts
//
// A binary that was linked with
//
//	go build -ldflags '-E github.com/cgshim/cgshim/reexec.entry'
//
// starts in assembly (entry_*.s), which looks at its environment and either becomes the stage, on the stack that the kernel has
// made, or goes on to the Go runtime: a re-execution costs less than a static C program. So is cgshim built,
// by way of an entry of its own that goes on to this one. Any other binary that imports this package, and
// one with the race detector, which does not work with -E, starts a Go runtime for the stage; then the package's init clones
// the stage from that process, with CLONE_PARENT, so that it is the shim's child as well, and that process exits. It is the same code and the same
// protocol from there on, a millisecond later, and the program begins with a larger ru_maxrss.
//
// What a program does not get told in its Spec it has from the stage: the working directory, the umask, nice, namespaces and limits are those
// at the time of Start.
//
// # What a program begins with
//
// The program is the shim's own child (CLONE_PARENT again), single-threaded from its first moment, with a
// fresh CPU clock and rusage (a new process, not an exec'd stage), and copies the stage's address space
// instead of sharing it, so that nothing it does can hurt the stage. Between clone3 and execve it makes
// the system calls of the order's list, one after the other.
//
// With Stay, a stage executes one order after the other, for who starts many programs; what was for one of them only, the
// network, descriptors, memory, is undone after it. The directory is entered, and PROG looked up, by the program itself then: a
// file system that does not answer does not keep the stage. So a launch that fails costs nothing but itself.
//
// The guardian, if one is wanted, is there for the shim's death: see type guardian. It is what the stage
// becomes when there are no orders any more; or at once, should the shim die before. What it has to do is in the file that
// it shares with the shim, see Bequeath and Will: of any length, and written before what it is about is made.
//
// Each launch has a pipe for its reports, close-on-exec on both sides, so that its end says that execve
// happened; records on it say which step failed with which errno before that.
//
// Privileges: the stage has the caller's, and enters the directory with them. The program drops what Spec.Credential says, and
// looks for its file after that: what its user may not execute is not found for him. Inherited descriptors from 3 up are
// closed in the stage, so that the program gets 0, 1 and 2, and those that the caller names. A stage, and a guardian's
// successor, of a binary that has privileges of its own refuses orders, because anybody could have executed it: see Raised.
//
// The package imports only syscall (and packages that syscall itself imports), so that a stage that is cloned in init pays
// for nothing else.
//
// Linux only, from 4.17. Kernel calls and what is done without them:
//
//	clone3            since Linux 5.3; also filtered by old container seccomp profiles: clone
//	CLONE_INTO_CGROUP since Linux 5.7: clone, then write 0 to cgroup.procs
//	faccessat2        since Linux 5.8: faccessat, which goes by the real user
//	close_range       since Linux 5.9: close each number up to the last one in /proc/self/fd
//	landlock_restrict_self  since Linux 5.13: an error, or the program is not restricted, as the Spec says
//	memfd_create      filtered by seccomp, or by vm.memfd_noexec: a file without a name in /dev/shm or /tmp
package reexec
