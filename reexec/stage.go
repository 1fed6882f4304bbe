package reexec

import (
	"syscall"
	"unsafe"
)

// This file, entry.go, program.go and guardian.go run in the stage, and in the program between its creation and execve. Most stages
// never were a Go program: the kernel starts them in entry, on a stack of the kernel's. The others, of a binary that has another
// entry, are copies of a Go process with one thread, and every lock that another thread held is frozen in time. Hence the
// rules for everything here:
//
//   - raw system calls only, no entersyscall: there is no scheduler;
//   - no allocation, no interface, no closure, no pointer stored to the heap (write barriers);
//   - no bounds check that can fail;
//   - go:nosplit throughout: there is no stack that could grow. The linker checks that it all fits;
//   - go:norace: the race detector keeps state in other threads.
//
// What can be worked out before is, by ordinary Go in the shim: see order. It has to fit into the stack that nosplit
// leaves, also when the compiler does not optimise (-N -l, as debuggers build): hence what would be local variables
// elsewhere is in the struct, and the functions are short.

// stage is what a stage works with. It is at stageAddress, behind the page that it shares with the shim, with the order that
// it was sent behind it.
type stage struct {
	network uintptr // where we were before Spec.NewNet; none is noDescriptor, which a failed call returns, too
	broken  bool    // we could not go back
	skipped uint32  // the program leaves out calls with this flag: callUnprivileged or callPrivileged
	lookup

	size    uint64     // of the order, before which it comes
	vector  [2]uintptr // struct iovec
	message messageHeader
	ancillary
	count uint64 // of fds

	failure  record
	denied   bool // the caller may not enter the directory: it is left to the program's user
	pauses   int  // of the program, see awaitWriter
	guardian guardian

	// Scratch, for which the stack has no room.
	got    uintptr
	errno  syscall.Errno
	now    syscall.Timespec
	status syscall.Stat_t
	ifreq  struct { // struct ifreq
		name  [syscall.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}

	order order // and what it points to
}

// messageHeader is struct msghdr, see recvmsg(2).
type messageHeader struct {
	name       uintptr
	nameLength uint32
	vector     uintptr
	vectors    uintptr
	control    uintptr
	controlLen uintptr
	flags      int32
}

// ancillary is what comes with an order: struct cmsghdr, see cmsg(3), and the descriptors.
type ancillary struct {
	length uint64
	_      [2]int32
	report int32
	fds    [maxDescriptors]int32
}

const (
	noDescriptor = ^uintptr(0)
	// keptMemory is what a stage keeps of its memory from one order to the next.
	keptMemory = 256 << 10

	clockMonotonic = 1
	atEaccess      = 0x200
	atFdcwd        = ^uintptr(99) // -100
	sysFaccessat2  = 439          // since Linux 5.8; the same number on every architecture
	sysCloseRange  = 436          // since Linux 5.9; the same number on every architecture
	accessExecute  = 1
)

// The strings are in the binary.
const networkZ = "/proc/self/ns/net\x00"

// serve is a stage, from its creation to its end.
//
//go:nosplit
//go:norace
func serve() {
	s := memory()
	s.settle()
	for s.receive() {
		s.launch()
		if !page().stay || s.broken {
			break
		}
	}
	if page().guardian {
		s.guard()
	}
	leave(0)
}

// settle makes the stage a process of its own: the program's descriptors come with the order, and what the caller has leaked
// must not reach it, nor be held by us.
//
//go:nosplit
//go:norace
func (s *stage) settle() {
	call(syscall.SYS_PRCTL, syscall.PR_SET_NAME, text(guardianNameZ), 0, 0)
	call(syscall.SYS_FCNTL, controlFD, syscall.F_SETFD, syscall.FD_CLOEXEC, 0)
	call(syscall.SYS_FCNTL, fileFD, syscall.F_SETFD, syscall.FD_CLOEXEC, 0)
	s.closeRange(fileFD+1, lastFD)
}

// closeRange closes the descriptors from a number to another. Where there is no close_range(2), as many as there may be.
//
//go:nosplit
//go:norace
func (s *stage) closeRange(fd, last uintptr) {
	if _, s.errno = call(sysCloseRange, fd, last, 0, 0); s.errno == 0 {
		return
	}
	for ; fd <= last && fd < uintptr(page().descriptors); fd++ {
		call(syscall.SYS_CLOSE, fd, 0, 0, 0)
	}
}

// receive waits for an order. False is that there will be none.
//
//go:nosplit
//go:norace
func (s *stage) receive() bool {
	const flags = syscall.MSG_CMSG_CLOEXEC | syscall.MSG_WAITALL
	s.vector = [2]uintptr{uintptr(unsafe.Pointer(&s.size)), unsafe.Sizeof(s.size)}
	s.message = messageHeader{vector: uintptr(unsafe.Pointer(&s.vector)), vectors: 1}
	s.message.control, s.message.controlLen = uintptr(unsafe.Pointer(&s.ancillary)), unsafe.Sizeof(s.ancillary)
	for s.errno = syscall.EINTR; s.errno == syscall.EINTR; {
		s.got, s.errno = call(syscall.SYS_RECVMSG, controlFD, uintptr(unsafe.Pointer(&s.message)), flags, 0)
	}
	if s.errno != 0 || s.got < unsafe.Sizeof(s.size) || s.size > uint64(orderRoom) {
		return false
	}
	for read := uintptr(0); read < uintptr(s.size); read += s.got {
		s.got, s.errno = call(syscall.SYS_READ, controlFD, uintptr(unsafe.Pointer(&s.order))+read, uintptr(s.size)-read, 0)
		if s.errno == syscall.EINTR {
			s.got = 0
		} else if s.errno != 0 || s.got == 0 {
			return false
		}
	}
	return s.unpack()
}

// unpack counts the descriptors that have come with the order. False is that there is not even one to say so by.
//
//go:nosplit
//go:norace
func (s *stage) unpack() bool {
	const first = unsafe.Offsetof(ancillary{}.fds)
	if s.message.controlLen < first {
		return false
	}
	s.count = min((s.length-uint64(first))/4, maxDescriptors)
	s.failure, s.denied, s.network, s.skipped = record{}, false, noDescriptor, callUnprivileged
	// Too few free descriptors here: a group would silently not be joined, a file not be there.
	if s.message.flags&syscall.MSG_CTRUNC != 0 || s.count != s.order.joins+s.order.stdio+s.order.keeps+s.order.rules {
		s.errno = syscall.EMFILE
		if s.order.keeps > 0 {
			s.check(StepFD, -1)
		} else {
			s.check(StepJoin, 0)
		}
	}
	return true
}

// launch executes an order. What looks at the file system, which may not answer, is done here, for the stage is in none of the
// run's groups; but by the program if the stage stays, and has to stay where it is. As another user PROG is always looked up by the
// program.
//
//go:nosplit
//go:norace
func (s *stage) launch() {
	if !page().stay {
		s.locate()
	}
	s.separate()
	if s.create() {
		if page().stay {
			s.locate()
		}
		s.run()
	}
	s.tell()
	s.goBack()
}

// check notes that a step has failed, if there is an errno.
//
//go:nosplit
//go:norace
func (s *stage) check(step Step, index int) {
	if s.errno != 0 {
		s.failure = record{step, uint32(s.errno), int64(index)}
	}
}

// tell reports the failure, if there is one.
//
//go:nosplit
//go:norace
func (s *stage) tell() {
	if s.failure.step != 0 {
		call(syscall.SYS_WRITE, uintptr(s.report), uintptr(unsafe.Pointer(&s.failure)), recordSize, 0)
	}
}

// separate gives this thread, and so the program, a network namespace in which loopback works
// (network_namespaces(7), netdevice(7)). If that is not permitted, the program makes it, in a user namespace, which this process
// could not leave again: see composer.separate.
//
//go:nosplit
//go:norace
func (s *stage) separate() {
	if s.failure.step != 0 || s.order.flags&orderNewNet == 0 {
		return
	}
	s.ifreq.name[0], s.ifreq.name[1], s.ifreq.flags = 'l', 'o', syscall.IFF_UP
	if s.errno = 0; page().stay {
		s.network, s.errno = call(syscall.SYS_OPENAT, atFdcwd, text(networkZ), syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	}
	if s.errno == 0 {
		if _, s.errno = call(syscall.SYS_UNSHARE, syscall.CLONE_NEWNET, 0, 0, 0); s.errno != 0 {
			s.network = noDescriptor // goBack closes what that was, and has no way to go
		}
	}
	if s.errno == 0 {
		s.got, s.errno = call(syscall.SYS_SOCKET, syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0, 0)
	}
	if s.errno == 0 {
		_, s.errno = call(syscall.SYS_IOCTL, s.got, syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&s.ifreq)), 0)
		call(syscall.SYS_CLOSE, s.got, 0, 0, 0)
	}
	if s.errno == syscall.EPERM && s.order.flags&orderUserNS != 0 {
		s.skipped = callPrivileged
		return
	}
	s.check(StepNet, 0)
}

// goBack ends what was for one launch only; but the run's cgroup2 directory, which has killFD then, is the guardian's to kill by. To
// the shim, the end of the report is the program's execve.
//
//go:nosplit
//go:norace
func (s *stage) goBack() {
	if s.network != noDescriptor {
		_, s.errno = call(sysSetns, s.network, syscall.CLONE_NEWNET, 0, 0)
		s.broken = s.errno != 0
	}
	if s.order.flags&orderInto == 0 || s.count == 0 {
		call(syscall.SYS_CLOSE, killFD, 0, 0, 0)
	} else if s.fds[0] != killFD {
		call(syscall.SYS_DUP3, uintptr(s.fds[0]), killFD, syscall.O_CLOEXEC, 0)
	}
	s.closeRange(killFD+1, lastFD)
	if s.size > keptMemory {
		const end = stageAddress + stageMemory
		from := (orderAddress + largestPage - 1) / largestPage * largestPage
		call(syscall.SYS_MADVISE, from, min(uintptr(s.size), end-from), syscall.MADV_DONTNEED, 0)
	}
}
