package reexec

import (
	"syscall"
	"unsafe"
)

// From clone3 to execve the program is a copy of a Go process with one thread: the runtime's other
// threads, and every lock that one of them held, are frozen in time. Hence the rules for everything
// that runs there:
//
//   - raw system calls only, no entersyscall: there is no scheduler to come back to;
//   - no allocation, no interface, no closure, no pointer stored to the heap (write barriers);
//   - go:nosplit throughout: a function that may grow its stack has a prologue that the scheduler uses
//     to preempt, and preemption would never return. The linker checks that it all fits;
//   - go:norace: the race detector keeps state in other threads.
//
// Everything is therefore worked out before, in newChild and join, by ordinary Go.

// cloneArgs is struct clone_args, see clone(2).
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

const (
	sysClone3 = 435 // the same number on every architecture

	cloneIntoCgroup   = 0x200000000
	cloneClearSighand = 0x100000000

	prSetNoNewPrivs = 38
	rlimitNofile    = 7
	sigSetmask      = 2
	sigIgn          = 1 // SIG_DFL is 0
	signals         = 64
	sigsetSize      = signals / 8
)

// sigaction is struct kernel_sigaction: handler, flags, restorer (unused on arm64), mask.
type sigaction struct {
	handler uintptr
	_       [3]uint64
}

// child is all that the program needs between clone3 and execve.
type child struct {
	clone  cloneArgs
	clone3 bool

	procs     int // cgroup.procs of a cgroup2 group, for when it could not be born there; -1 if none
	tasks     [32]int
	taskCount int
	firstTask int // the index of the first of them in error reports

	path       *byte
	argv, envv []*byte
	nofile     *[2]uint64 // nil leaves RLIMIT_NOFILE alone
	newPrivs   bool
	parent     uintptr
	all, mask  uint64    // all signals, and the program's own mask
	started    record    // its first words
	action     sigaction // scratch
	failure    record    // scratch
}

func newChild(spec *Spec, path string) *child {
	c := &child{
		procs:    -1,
		nofile:   originalNofile(),
		newPrivs: spec.AllowNewPrivs,
		parent:   uintptr(spec.parent),
		all:      ^uint64(0),
		mask:     spec.mask,
	}
	var err [3]error
	c.path, err[0] = syscall.BytePtrFromString(path)
	c.argv, err[1] = syscall.SlicePtrFromStrings(spec.Args)
	c.envv, err[2] = syscall.SlicePtrFromStrings(spec.Env)
	for _, e := range err {
		if e != nil { // a NUL inside: the encoding can't carry one
			fail(StepExec, errnoOf(e))
		}
	}
	return c
}

// join tells the child how to enter its cgroups.
func (c *child) join(mode uint64, fds []int) {
	c.clone.flags = syscall.CLONE_PARENT | cloneClearSighand
	c.clone3 = mode != joinNoInto
	if mode != joinTasks {
		c.clone.flags |= cloneIntoCgroup
		c.clone.cgroup = uint64(fds[0])
		c.procs, c.firstTask, fds = fds[1], 1, fds[2:]
	}
	if len(fds) > len(c.tasks) {
		fail(StepJoin, syscall.E2BIG)
	}
	c.taskCount = copy(c.tasks[:], fds)
}

// launch creates the program. In the stage it returns its pid, or the errno if that failed; in the program
// it does not return.
//
// CLONE_PARENT makes the program the shim's child, with the stage's exit signal, SIGCHLD; clone3 refuses
// an exit signal of its own then. No CLONE_VM: with the stage's memory shared (vfork), execve would pass
// the stage's peak on as the program's ru_maxrss; the copy costs 0.1 ms. Signals are blocked around it:
// one that came in the program before execve would run the Go handler.
//
//go:nosplit
//go:norace
//go:noinline
func (c *child) launch() (pid uintptr, errno syscall.Errno) {
	if errno = call(syscall.SYS_RT_SIGPROCMASK, sigSetmask, uintptr(unsafe.Pointer(&c.all)), 0, sigsetSize); errno != 0 {
		return 0, errno
	}
	if c.clone3 {
		pid, _, errno = syscall.RawSyscall(sysClone3, uintptr(unsafe.Pointer(&c.clone)), unsafe.Sizeof(c.clone), 0)
		if errno == 0 && pid == 0 {
			c.run(true)
		}
		// EAGAIN is a process limit, of the group or of the user, which the other way must not get around.
		// Else it may not be there (ENOSYS, or a seccomp filter's EPERM) or be too old for the flags (EINVAL,
		// E2BIG); and if the group is what is wrong, the write to cgroup.procs will say so.
		if errno == 0 || errno == syscall.EAGAIN || errno == syscall.ENOMEM {
			return pid, errno
		}
	}
	pid, _, errno = syscall.RawSyscall(syscall.SYS_CLONE, syscall.CLONE_PARENT, 0, 0)
	if errno == 0 && pid == 0 {
		c.run(false)
	}
	return pid, errno
}

// run is the program's way to execve. born is true if clone3 put it into its cgroup2 group and reset
// its signal handlers. One small function after the other: together they would not fit into the stack
// that nosplit leaves when the compiler does not optimise (-N -l, as debuggers build).
//
//go:nosplit
//go:norace
//go:noinline
func (c *child) run(born bool) {
	c.announce()
	if !born {
		c.clearHandlers()
		if c.procs >= 0 {
			c.enter(c.procs, 0)
		}
	}
	for i := 0; i < c.taskCount; i++ {
		c.enter(c.tasks[i&(len(c.tasks)-1)], c.firstTask+i)
	}
	c.must(StepRlimit, c.restoreNofile())
	if !c.newPrivs {
		c.must(StepNoNewPrivs, call(syscall.SYS_PRCTL, prSetNoNewPrivs, 1, 0, 0))
	}
	c.must(StepPdeathsig, call(syscall.SYS_PRCTL, syscall.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0, 0))
	c.must(StepPdeathsig, c.checkParent())
	call(syscall.SYS_RT_SIGPROCMASK, sigSetmask, uintptr(unsafe.Pointer(&c.mask)), 0, sigsetSize)
	c.must(StepExec, call(syscall.SYS_EXECVE, uintptr(unsafe.Pointer(c.path)),
		uintptr(unsafe.Pointer(unsafe.SliceData(c.argv))), uintptr(unsafe.Pointer(unsafe.SliceData(c.envv))), 0))
}

// call makes a system call of which only the success matters. What the arguments point to is part of the
// child, which runStage keeps alive.
//
//go:nosplit
//go:norace
//go:noinline
func call(trap, a1, a2, a3, a4 uintptr) syscall.Errno {
	_, _, errno := syscall.RawSyscall6(trap, a1, a2, a3, a4, 0, 0)
	return errno
}

// announce tells the shim the pid. The stage does so, too: it may die first, and so may the program, of
// a memory limit that leaves no room for the page that it writes to here.
//
//go:nosplit
//go:norace
//go:noinline
func (c *child) announce() {
	pid, _, _ := syscall.RawSyscall(syscall.SYS_GETPID, 0, 0, 0)
	c.started.pid = int64(pid)
	call(syscall.SYS_WRITE, stageFD, uintptr(unsafe.Pointer(&c.started)), recordSize, 0)
}

// enter joins a cgroup through an open tasks or cgroup.procs file. "0" is the writer itself; in a tasks
// file it is the one form that does not wait for an RCU grace period (6 to 8 ms).
//
//go:nosplit
//go:norace
//go:noinline
func (c *child) enter(fd, index int) {
	c.failure.pid = int64(index)
	c.must(StepJoin, call(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&zero)), 1, 0))
	c.failure.pid = 0
}

var zero = [1]byte{'0'}

//go:nosplit
//go:norace
//go:noinline
func (c *child) restoreNofile() syscall.Errno {
	if c.nofile == nil {
		return 0
	}
	return call(syscall.SYS_PRLIMIT64, 0, rlimitNofile, uintptr(unsafe.Pointer(c.nofile)), 0)
}

// checkParent fails if the shim has died: before the prctl, its death sends no signal.
//
//go:nosplit
//go:norace
//go:noinline
func (c *child) checkParent() syscall.Errno {
	if ppid, _, _ := syscall.RawSyscall(syscall.SYS_GETPPID, 0, 0, 0); ppid != c.parent {
		return syscall.ESRCH
	}
	return 0
}

// clearHandlers does what CLONE_CLEAR_SIGHAND does: handlers become SIG_DFL, SIG_IGN stays.
//
//go:nosplit
//go:norace
//go:noinline
func (c *child) clearHandlers() {
	action := uintptr(unsafe.Pointer(&c.action))
	for sig := uintptr(1); sig <= signals; sig++ {
		if call(syscall.SYS_RT_SIGACTION, sig, 0, action, sigsetSize) != 0 || c.action.handler <= sigIgn {
			continue
		}
		c.action = sigaction{}
		call(syscall.SYS_RT_SIGACTION, sig, action, 0, sigsetSize)
	}
}

// must reports a step that failed, and ends the program.
//
//go:nosplit
//go:norace
//go:noinline
func (c *child) must(step Step, errno syscall.Errno) {
	if errno == 0 {
		return
	}
	c.failure.step, c.failure.errno = step, uint32(errno)
	call(syscall.SYS_WRITE, stageFD, uintptr(unsafe.Pointer(&c.failure)), recordSize, 0)
	for {
		call(syscall.SYS_EXIT_GROUP, 127, 0, 0, 0)
	}
}
