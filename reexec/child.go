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
// Everything is therefore worked out before, by ordinary Go, as a list of system calls; what runs there
// only makes one after the other. It has to fit into the stack that nosplit leaves, also when the compiler
// does not optimise (-N -l, as debuggers build).

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
	rlimits         = 16 // RLIM_NLIMITS
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

// rlimit is what prlimit(2) needs, and which of Spec.Rlimits it is; -1 if none.
type rlimit struct {
	resource uintptr
	index    int
	limit    [2]uint64
}

// A systemCall is one of those between clone3 and execve. What the arguments point to has to be kept
// alive by the child's other fields.
type systemCall struct {
	step       Step
	index      int // of what it is about, for error reports
	trap       uintptr
	a1, a2, a3 uintptr
	a4         uintptr
	want       uintptr // for getppid, which never fails: the result that is not a failure
	optional   bool    // a failure is none
}

const maxSystemCalls = 64 // a power of two: 33 groups, 16 rlimits, and a dozen others

// child is all that the program needs between clone3 and execve.
type child struct {
	clone  cloneArgs
	clone3 bool

	socket uintptr // to the shim
	calls  [maxSystemCalls]systemCall
	count  int
	born   int // the first of them for a program that clone3 has put into its cgroup2 group

	spec       *Spec
	path       *byte
	argv, envv []*byte
	rlimits    []rlimit
	raising    int       // so many of them come before the credentials
	all        uint64    // all signals
	started    record    // its first words
	action     sigaction // scratch
	failure    record    // scratch
}

func newChild(spec *Spec, path string) *child {
	c := &child{spec: spec, all: ^uint64(0)}
	var err [3]error
	c.path, err[0] = syscall.BytePtrFromString(path)
	c.argv, err[1] = syscall.SlicePtrFromStrings(spec.Args)
	c.envv, err[2] = syscall.SlicePtrFromStrings(spec.Env)
	for _, e := range err {
		if e != nil { // a NUL inside: the encoding can't carry one
			fail(StepExec, errnoOf(e))
		}
	}
	c.rlimits, c.raising = programRlimits(spec.Rlimits)
	return c
}

// plan writes down the program's way to execve.
func (c *child) plan(socket int, order *launchOrder, fds []int) {
	c.socket = uintptr(socket)
	c.clone.flags = syscall.CLONE_PARENT | cloneClearSighand
	c.clone3 = order.mode != joinNoInto
	joins := fds[:order.joins]
	if order.mode != joinTasks {
		c.clone.flags |= cloneIntoCgroup
		c.clone.cgroup = uint64(joins[0])
		c.started.errno = bornInto
		joins = joins[1:]
		c.born = 1
	}
	for i, fd := range joins {
		// "0" is the writer itself; in a tasks file it is the one form that does not wait for an RCU grace
		// period (6 to 8 ms).
		c.add(StepJoin, i, syscall.SYS_WRITE, uintptr(fd), address(&zero), 1)
	}
	switch {
	case c.spec.NewSession:
		c.add(StepStage, 0, syscall.SYS_SETSID, 0, 0, 0)
	case c.spec.pgrp != 0:
		c.add(StepStage, 0, syscall.SYS_SETPGID, 0, uintptr(c.spec.pgrp), 0)
	}
	if mask := c.spec.Affinity; len(mask) > 0 {
		c.add(StepAffinity, 0, syscall.SYS_SCHED_SETAFFINITY, 0, uintptr(len(mask))*8, address(&mask[0])).optional = c.spec.AffinityOptional
	}
	c.addRlimits(c.rlimits[:c.raising])
	if who := c.spec.Credential; who != nil {
		uid, gid := uintptr(who.UID), uintptr(who.GID)
		c.add(StepUser, 0, syscall.SYS_SETGROUPS, uintptr(len(who.Groups)), address(unsafe.SliceData(who.Groups)), 0)
		c.add(StepUser, 0, syscall.SYS_SETRESGID, gid, gid, gid)
		c.add(StepUser, 0, syscall.SYS_SETRESUID, uid, uid, uid)
	}
	// After setresuid, which would compare a low RLIMIT_NPROC with the number of the user's processes, and
	// have execve fail.
	c.addRlimits(c.rlimits[c.raising:])
	if !c.spec.AllowNewPrivs {
		c.add(StepNoNewPrivs, 0, syscall.SYS_PRCTL, prSetNoNewPrivs, 1, 0)
	}
	// After setresuid, which clears it. If the shim has died before, its death sends no signal: look.
	c.add(StepPdeathsig, 0, syscall.SYS_PRCTL, syscall.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0)
	c.add(StepPdeathsig, 0, syscall.SYS_GETPPID, 0, 0, 0).want = uintptr(c.spec.parent)
	c.add(StepExec, 0, syscall.SYS_RT_SIGPROCMASK, sigSetmask, address(&c.spec.mask), 0).a4 = sigsetSize
	c.add(StepExec, 0, syscall.SYS_EXECVE, address(c.path), address(unsafe.SliceData(c.argv)), address(unsafe.SliceData(c.envv)))
}

func (c *child) addRlimits(limits []rlimit) {
	for i := range limits {
		l := &limits[i]
		c.add(StepRlimit, l.index, syscall.SYS_PRLIMIT64, 0, l.resource, address(&l.limit))
	}
}

func (c *child) add(step Step, index int, trap, a1, a2, a3 uintptr) *systemCall {
	if c.count == maxSystemCalls {
		fail(step, syscall.E2BIG)
	}
	s := &c.calls[c.count]
	*s = systemCall{step: step, index: index, trap: trap, a1: a1, a2: a2, a3: a3}
	c.count++
	return s
}

// address is for the kernel. What it points to is on the heap, where it stays.
func address[T any](p *T) uintptr { return uintptr(unsafe.Pointer(p)) }

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
	if _, errno = call(syscall.SYS_RT_SIGPROCMASK, sigSetmask, uintptr(unsafe.Pointer(&c.all)), 0, sigsetSize); errno != 0 {
		return 0, errno
	}
	if c.clone3 {
		pid, errno = call(sysClone3, uintptr(unsafe.Pointer(&c.clone)), unsafe.Sizeof(c.clone), 0, 0)
		if errno == 0 && pid == 0 {
			c.run(c.born)
		}
		// EAGAIN is a process limit, of the group or of the user, which the other way must not get around.
		// Else it may not be there (ENOSYS, or a seccomp filter's EPERM) or be too old for the flags (EINVAL,
		// E2BIG); and if the group is what is wrong, the write to cgroup.procs will say so.
		if errno == 0 || errno == syscall.EAGAIN || errno == syscall.ENOMEM {
			return pid, errno
		}
	}
	c.started.errno = 0
	pid, errno = call(syscall.SYS_CLONE, syscall.CLONE_PARENT, 0, 0, 0)
	if errno == 0 && pid == 0 {
		c.clearHandlers()
		c.run(0)
	}
	return pid, errno
}

// run is the program's way to execve, from one of its system calls on. First of all it tells the shim its
// pid. The stage does so, too: it may die first, and so may the program, of a memory limit that leaves no
// room for the page that it writes to here.
//
//go:nosplit
//go:norace
//go:noinline
func (c *child) run(from int) {
	pid, _ := call(syscall.SYS_GETPID, 0, 0, 0, 0)
	c.started.pid = int64(pid)
	call(syscall.SYS_WRITE, c.socket, uintptr(unsafe.Pointer(&c.started)), recordSize, 0)
	for i := from; i < c.count; i++ {
		s := &c.calls[i&(maxSystemCalls-1)]
		result, errno := call(s.trap, s.a1, s.a2, s.a3, s.a4)
		if s.want != 0 && result != s.want {
			errno = syscall.ESRCH
		}
		if errno == syscall.EINTR { // no signal gets here, but a tracer's
			i--
			continue
		}
		if errno != 0 && !s.optional {
			c.failure.step, c.failure.errno, c.failure.pid = s.step, uint32(errno), int64(s.index)
			break
		}
	}
	call(syscall.SYS_WRITE, c.socket, uintptr(unsafe.Pointer(&c.failure)), recordSize, 0)
	for {
		call(syscall.SYS_EXIT_GROUP, 127, 0, 0, 0)
	}
}

// call makes a system call. What the arguments point to is part of the child, which runStage keeps alive.
//
//go:nosplit
//go:norace
//go:noinline
func call(trap, a1, a2, a3, a4 uintptr) (uintptr, syscall.Errno) {
	result, _, errno := syscall.RawSyscall6(trap, a1, a2, a3, a4, 0, 0)
	return result, errno
}

var zero = [1]byte{'0'}

// clearHandlers does what CLONE_CLEAR_SIGHAND does: handlers become SIG_DFL, SIG_IGN stays.
//
//go:nosplit
//go:norace
//go:noinline
func (c *child) clearHandlers() {
	action := uintptr(unsafe.Pointer(&c.action))
	for sig := uintptr(1); sig <= signals; sig++ {
		_, errno := call(syscall.SYS_RT_SIGACTION, sig, 0, action, sigsetSize)
		if errno != 0 || c.action.handler <= sigIgn {
			continue
		}
		c.action = sigaction{}
		call(syscall.SYS_RT_SIGACTION, sig, action, 0, sigsetSize)
	}
}
