package reexec

import (
	"syscall"
	"unsafe"
)

const (
	sysClone3               = 435 // the same number on every architecture
	sysLandlockRestrictSelf = 446 // likewise
	cloneIntoCgroup         = 0x200000000

	prGetSecurebits = 27
	prSetNoNewPrivs = 38
	// Since Linux 4.3, and so are ambient capabilities.
	prCapAmbient         = 47
	prCapAmbientIsSet    = 1
	prCapAmbientClearAll = 4
	capabilityVersion3   = 0x20080522

	rlimits    = 16 // RLIM_NLIMITS
	sigSetmask = 2
	signals    = 64
	sigsetSize = signals / 8
)

// create creates the program, a copy of the stage, and says whether this process is it.
//
// CLONE_PARENT makes the program the shim's child, with the stage's exit signal, SIGCHLD; clone3 refuses
// an exit signal of its own then. No CLONE_VM: with the stage's memory shared (vfork), execve would pass
// the stage's peak on as the program's ru_maxrss; the copy costs 0.1 ms.
//
//go:nosplit
//go:norace
func (s *stage) create() (program bool) {
	if s.failure.step != 0 {
		return false
	}
	call(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&s.now)), 0, 0)
	p := page()
	p.nanos, p.born = s.now.Sec*1e9+s.now.Nsec, int32(s.order.born)
	s.errno = syscall.ENOSYS
	if s.order.flags&orderClone3 != 0 {
		if s.order.flags&orderInto != 0 {
			s.order.clone.cgroup = uint64(s.fds[0])
		}
		s.got, s.errno = call(sysClone3, uintptr(unsafe.Pointer(&s.order.clone)), unsafe.Sizeof(s.order.clone), 0, 0)
	}
	// EAGAIN is a process limit, of the group or of the user, which the other way must not get around.
	// Else it may not be there (ENOSYS, or a seccomp filter's EPERM) or be too old for the flags (EINVAL,
	// E2BIG); and if the group is what is wrong, the write to cgroup.procs will say so.
	if s.errno != 0 && s.errno != syscall.EAGAIN && s.errno != syscall.ENOMEM {
		p.born, s.order.born = 0, 0
		const flags = syscall.CLONE_PARENT | syscall.CLONE_PARENT_SETTID
		s.got, s.errno = call(syscall.SYS_CLONE, flags, 0, uintptr(unsafe.Pointer(&p.pid)), 0)
	}
	s.check(StepClone, 0)
	return s.errno == 0 && s.got == 0
}

// locate enters the directory, and looks PROG up; but for another user the program does that itself, once it is that user's, see run.
// With the caller's rights it would find what the user may not execute, and tell of directories that are closed to that user.
//
//go:nosplit
//go:norace
func (s *stage) locate() {
	s.enter()
	if s.order.flags&orderUser == 0 {
		s.find()
	} else if s.failure.step == StepChdir && s.failure.errno == uint32(syscall.EACCES) {
		s.denied, s.failure = true, record{}
	}
}

// enter goes to the program's directory.
//
//go:nosplit
//go:norace
func (s *stage) enter() {
	if s.failure.step == 0 && s.order.dir != 0 {
		_, s.errno = call(syscall.SYS_CHDIR, s.order.dir, 0, 0, 0)
		s.check(StepChdir, 0)
	}
}

// A lookup is the search for the file to execute, in the places where it may be.
type lookup struct {
	next   uintptr       // of the places
	path   uintptr       // that of the file
	there  bool          // there is a file
	reason syscall.Errno // why it is at none of the places before
	about  uintptr       // the place of which reason tells
	known  bool          // a file is there
	goesOn bool          // it is not the beginning
}

// find finds the file to execute, as execvp(3) does; or the next one, if that has been refused.
//
//go:nosplit
//go:norace
func (s *stage) find() {
	if s.failure.step != 0 {
		return
	}
	if !s.goesOn {
		s.lookup = lookup{next: s.order.paths, reason: syscall.ENOENT, about: s.order.paths}
	}
	for ; ; s.next += 8 {
		if s.path = **(**uintptr)(unsafe.Pointer(&s.next)); s.path == 0 {
			break
		}
		_, s.errno = call(sysFstatat, atFdcwd, s.path, uintptr(unsafe.Pointer(&s.status)), 0)
		if s.there = s.errno == 0; s.there && s.order.flags&orderSearch != 0 {
			s.tryToExecute()
		}
		if s.errno == 0 {
			return
		}
		s.goPast()
	}
	s.errno = s.reason
	s.check(StepLookup, s.index(s.about))
}

// goPast notes why PROG is not taken from the next place. In a PATH only EACCES counts, because a directory that can't be searched may
// have it; and a file that is there counts more than such a directory.
//
//go:nosplit
//go:norace
func (s *stage) goPast() {
	if s.order.flags&orderSearch != 0 {
		first := s.reason != syscall.EACCES
		if s.errno != syscall.EACCES || !first && (s.known || !s.there) {
			return
		}
	}
	s.reason, s.about, s.known = s.errno, s.next, s.there
}

// index is that of a place in the order's list.
//
//go:nosplit
//go:norace
func (s *stage) index(at uintptr) int { return int((at - s.order.paths) / 8) }

// tryToExecute has EACCES for what can't be executed.
//
//go:nosplit
//go:norace
func (s *stage) tryToExecute() {
	s.errno = syscall.EACCES
	if s.status.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return
	}
	_, s.errno = call(sysFaccessat2, atFdcwd, s.path, accessExecute, atEaccess)
	if s.errno == syscall.ENOSYS || s.errno == syscall.EPERM { // before Linux 5.8, and old seccomp filters: with the real ids
		_, s.errno = call(syscall.SYS_FACCESSAT, atFdcwd, s.path, accessExecute, 0)
	}
	if s.errno != 0 {
		s.errno = syscall.EACCES
	}
}

// run is the program's way to execve.
//
//go:nosplit
//go:norace
func (s *stage) run() {
	if s.failure.step == 0 {
		s.place()
	}
	for i := s.order.born; i < s.order.count && s.failure.step == 0; i++ {
		s.step(&s.order.calls[i&(maxSystemCalls-1)])
	}
	if s.denied { // to the caller
		s.enter()
	}
	if s.order.flags&orderUser != 0 {
		s.find()
	}
	for s.failure.step == 0 {
		s.execute()
		s.find()
	}
	s.tell()
	leave(unexecuted)
}

// execute is execve, which comes back only if it fails. What it refuses, such as a script whose interpreter this user may not execute,
// is gone past, as execvp(3) does.
//
//go:nosplit
//go:norace
func (s *stage) execute() {
	for s.goesOn = false; s.failure.step == 0 && !s.goesOn; {
		_, s.errno = call(syscall.SYS_EXECVE, s.path, s.order.argv, s.order.envv, 0)
		switch {
		case s.errno == syscall.EINTR:
		case s.errno == syscall.ETXTBSY && s.awaitWriter():
		case s.errno == syscall.EACCES && s.order.flags&orderSearch != 0:
			s.goPast()
			s.next, s.goesOn = s.next+8, true
		default:
			s.check(StepExec, s.index(s.next))
		}
	}
}

// awaitWriter waits a moment for a process that has the program's file open for writing, and says whether execve is to be
// tried again. Mostly that is a copy of the process that has just written the file: in a caller with several threads, each
// process that another thread starts has all its descriptors until it executes something. The program's time starts anew,
// because it has done nothing yet.
//
//go:nosplit
//go:norace
func (s *stage) awaitWriter() bool {
	const pauseNanos, pauses = 2_000_000, 50
	if s.pauses == pauses {
		return false
	}
	s.pauses++
	s.now = syscall.Timespec{Nsec: pauseNanos}
	call(syscall.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&s.now)), 0, 0, 0)
	call(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&s.now)), 0, 0)
	page().nanos = s.now.Sec*1e9 + s.now.Nsec
	return true
}

// step makes one of the calls, unless it is for a program of other privileges.
//
//go:nosplit
//go:norace
func (s *stage) step(c *systemCall) {
	if c.flags&s.skipped != 0 {
		return
	}
	if c.flags&callDescriptor != 0 {
		c.a1 = uintptr(s.fds[c.a1&(maxDescriptors-1)])
	}
	if c.flags&callOnResult != 0 {
		c.a1 = s.got
	}
	for s.errno = syscall.EINTR; s.errno == syscall.EINTR; { // no signal gets here, but a tracer's
		s.got, s.errno = call(c.trap, c.a1, c.a2, c.a3, c.a4)
	}
	if c.want != 0 && s.got != c.want {
		s.errno = syscall.ESRCH
	}
	if c.flags&callOptional == 0 {
		s.check(c.step, c.index)
	}
	if c.flags&callTold != 0 {
		s.tell()
		s.failure = record{}
	}
}

// place gives the program's descriptors their numbers. What is there already, and is needed still, gives way: where
// to report to, and descriptors that have arrived under a number that is another's.
//
//go:nosplit
//go:norace
func (s *stage) place() {
	s.report = s.outOfTheWay(s.report)
	for i := uint64(0); i < s.count && s.failure.step == 0; i++ {
		s.fds[i&(maxDescriptors-1)] = s.outOfTheWay(s.fds[i&(maxDescriptors-1)])
	}
	for i := uint64(0); i < s.order.stdio && s.failure.step == 0; i++ {
		s.duplicate(s.order.joins+i, int64(i), -1)
	}
	for i := uint64(0); i < s.order.keeps && s.failure.step == 0; i++ {
		s.duplicate(s.order.joins+s.order.stdio+i, s.order.keep[i&(maxKeep-1)], int(i))
	}
}

// duplicate makes a descriptor that the program inherits, of that with an index in the order.
//
//go:nosplit
//go:norace
func (s *stage) duplicate(from uint64, to int64, index int) {
	_, s.errno = call(syscall.SYS_DUP3, uintptr(s.fds[from&(maxDescriptors-1)]), uintptr(to), 0, 0)
	s.check(StepFD, index)
}

// outOfTheWay is a descriptor's duplicate with a number that is in nobody's way. Those between stay open,
// close-on-exec, so that each next one is another.
//
//go:nosplit
//go:norace
func (s *stage) outOfTheWay(fd int32) int32 {
	for i := uint64(0); i < s.order.keeps; i++ {
		if int64(fd) != s.order.keep[i&(maxKeep-1)] {
			continue
		}
		s.got, s.errno = call(syscall.SYS_FCNTL, uintptr(fd), syscall.F_DUPFD_CLOEXEC, firstFD, 0)
		if s.check(StepFD, -1); s.errno != 0 {
			return fd
		}
		fd, i = int32(s.got), ^uint64(0) // from the first again
	}
	return fd
}
