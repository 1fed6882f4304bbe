package reexec

import (
	"syscall"
	"unsafe"
)

// This file, program.go and guardian.go run in the stage, and in the program between its creation and execve. Most stages
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
	network uintptr // where we were before Spec.NewNet; none is 0
	broken  bool    // we could not go back
	report  uintptr
	next    uintptr // of the places where PROG may be
	path    uintptr // of PROG

	header    header
	vector    [2]uintptr // struct iovec
	message   messageHeader
	ancillary [ancillarySize]byte
	read      uintptr
	count     uint64 // of fds
	fds       [maxDescriptors]uintptr

	failure  record
	guardian guardian
	denied   Step // what the program has to do again as its user; stepNone is nothing
	pauses   int  // of the program, see awaitWriter

	// Scratch, for which the stack has no room.
	got    uintptr
	errno  syscall.Errno
	all    uint64 // signals
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

const (
	noDescriptor = ^uintptr(0)

	// stageMemory is address space; what is not used of it takes no memory. The kernel takes 6 MiB of arguments and
	// environment at most.
	stageMemory = 16 << 20
	// stageAddress is below every Go heap's, and below 2^39, which is the end of a small address space on arm64.
	stageAddress = 0x3e00000000
	orderAddress = stageAddress + sharedSize + unsafe.Offsetof(stage{}.order)
	orderRoom    = stageAddress + stageMemory - orderAddress
	// keptMemory is what a stage keeps of it from one order to the next.
	keptMemory = 256 << 10
	// largestPage is the largest that there are.
	largestPage = 64 << 10
	// refused is the exit status of what can't become a stage, and unexecuted that of a program, or a guardian's successor.
	refused, unexecuted = 125, 127

	clockMonotonic    = 1
	atEaccess         = 0x200
	atFdcwd           = ^uintptr(99) // -100
	sysFaccessat2     = 439          // since Linux 5.8; the same number on every architecture
	sysCloseRange     = 436          // since Linux 5.9; the same number on every architecture
	accessExecute     = 1
	prSetName         = 15
	madvDontNeed      = 4
	madvNoHugePage    = 15
	mapFixedNoReplace = 0x100000 // since Linux 4.17; before, a hint
)

// The strings are in the binary.
const networkZ = "/proc/self/ns/net\x00"

// entered says that this process has come through entry: a re-execution will, too. callersSlack is the timer slack of its main
// thread then, in ns, if entry has changed it.
var (
	entered      bool
	callersSlack int64
)

// noThread is where a stage's thread-local storage is, of which Go wants a word.
//
//lint:ignore U1000 entry uses it
var noThread [4]uintptr

// entry is where the kernel starts a binary that was linked so: a stage, or else the Go runtime.
//
//lint:ignore U1000 the linker uses it
func entry()

// call makes a system call: syscall.RawSyscall6 in a fifth of its stack, if nothing is optimised. What the arguments point
// to is in the stage's memory, or stays where it is for other reasons.
//
//go:noescape
func call(trap, a1, a2, a3, a4 uintptr) (result uintptr, errno syscall.Errno)

// mapMemory is mmap(2), for reading and writing. What it returns is another address if it failed.
func mapMemory(address, size, flags, fd uintptr) (result uintptr)

// startStage prepares a stage that the kernel has started, for serve.
//
//lint:ignore U1000 entry calls it
//go:nosplit
//go:norace
//go:noinline
func startStage() {
	s, errno := newStage(fileFD)
	if errno != 0 {
		failed(errno)
	}
	call(syscall.SYS_RT_SIGPROCMASK, sigSetmask, uintptr(unsafe.Pointer(&s.all)), 0, sigsetSize)
}

// failed ends a process that can't become a stage.
//
//go:nosplit
//go:norace
//go:noinline
func failed(errno syscall.Errno) {
	r := record{step: StepStage, errno: uint32(errno)}
	call(syscall.SYS_WRITE, controlFD, uintptr(unsafe.Pointer(&r)), recordSize, 0)
	leave(refused)
}

// leave ends this process.
//
//go:nosplit
//go:norace
func leave(status uintptr) {
	for {
		call(syscall.SYS_EXIT_GROUP, status, 0, 0, 0)
	}
}

// newStage makes a stage's memory, which begins with the first page of the file. Who has given this process rights that its
// caller has not (a set-user-ID file, or one with capabilities) has not given them to the author of an order.
//
//go:nosplit
//go:norace
//go:noinline
func newStage(file uintptr) (s *stage, errno syscall.Errno) {
	const private = syscall.MAP_PRIVATE | syscall.MAP_ANON | syscall.MAP_NORESERVE | mapFixedNoReplace
	if Raised() != "" {
		leave(refused)
	}
	address := mapMemory(stageAddress, stageMemory, private, noDescriptor)
	if address != stageAddress {
		return nil, syscall.ENOMEM
	}
	// A huge page would be part of the program's ru_maxrss.
	call(syscall.SYS_MADVISE, address, stageMemory, madvNoHugePage, 0)
	if mapMemory(address, sharedSize, syscall.MAP_SHARED|syscall.MAP_FIXED, file) != address {
		return nil, syscall.EBADF
	}
	s = memory()
	s.all = ^uint64(0)
	s.vector[0], s.vector[1] = uintptr(unsafe.Pointer(&s.header)), unsafe.Sizeof(s.header)
	s.ifreq.name[0], s.ifreq.name[1] = 'l', 'o'
	return s, 0
}

// page is what the stage shares with the shim.
//
//go:nosplit
//go:norace
func page() *shared {
	address := uintptr(stageAddress)
	return *(**shared)(unsafe.Pointer(&address))
}

// memory is what follows it, the stage's own.
//
//go:nosplit
//go:norace
func memory() *stage { return (*stage)(unsafe.Add(unsafe.Pointer(page()), sharedSize)) }

// serve is a stage, from its creation to its end.
//
//go:nosplit
//go:norace
//go:noinline
func serve() {
	s := memory()
	s.settle()
	for s.receive() {
		s.launch()
		if page().flags&flagStay == 0 || s.broken {
			break
		}
	}
	if page().flags&flagGuardian != 0 {
		s.guard()
	}
	leave(0)
}

// settle makes the stage a process of its own: the program's descriptors come with the order, and what the caller has leaked
// must not reach it, nor be held by us.
//
//go:nosplit
//go:norace
//go:noinline
func (s *stage) settle() {
	call(syscall.SYS_PRCTL, prSetName, uintptr(unsafe.Pointer(unsafe.StringData(guardianNameZ))), 0, 0)
	call(syscall.SYS_FCNTL, controlFD, syscall.F_SETFD, syscall.FD_CLOEXEC, 0)
	call(syscall.SYS_FCNTL, fileFD, syscall.F_SETFD, syscall.FD_CLOEXEC, 0)
	s.closeRange(fileFD+1, lastFD)
}

// closeRange closes the descriptors from a number to another. Where there is no close_range(2), as many as there may be.
//
//go:nosplit
//go:norace
//go:noinline
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
//go:noinline
func (s *stage) receive() bool {
	const flags = syscall.MSG_CMSG_CLOEXEC | syscall.MSG_WAITALL
	s.message = messageHeader{vector: uintptr(unsafe.Pointer(&s.vector)), vectors: 1}
	s.message.control, s.message.controlLen = uintptr(unsafe.Pointer(&s.ancillary)), ancillarySize
	for s.errno = syscall.EINTR; s.errno == syscall.EINTR; {
		s.got, s.errno = call(syscall.SYS_RECVMSG, controlFD, uintptr(unsafe.Pointer(&s.message)), flags, 0)
	}
	if s.errno != 0 || s.got < unsafe.Sizeof(s.header) || s.header.size > uint64(orderRoom) {
		return false
	}
	for s.read = 0; s.read < uintptr(s.header.size); s.read += s.got {
		s.got, s.errno = call(syscall.SYS_READ, controlFD, uintptr(unsafe.Pointer(&s.order))+s.read, uintptr(s.header.size)-s.read, 0)
		if s.errno == syscall.EINTR {
			s.got = 0
		} else if s.errno != 0 || s.got == 0 {
			return false
		}
	}
	return s.unpack()
}

// unpack takes the descriptors that have come with the order.
//
//go:nosplit
//go:norace
//go:noinline
func (s *stage) unpack() bool {
	const head = 16 // struct cmsghdr
	s.count = 0
	if s.message.controlLen < head+4 {
		return false // not even one to say so by
	}
	length := *(*uint64)(unsafe.Pointer(&s.ancillary))
	s.count = min((length-head)/4, maxDescriptors) - 1
	s.report = uintptr(*(*int32)(unsafe.Pointer(&s.ancillary[head])))
	for i := uint64(0); i < s.count; i++ {
		s.fds[i&(maxDescriptors-1)] = uintptr(*(*int32)(unsafe.Add(unsafe.Pointer(&s.ancillary), head+4+4*i)))
	}
	s.failure, s.denied, s.network = record{}, stepNone, 0
	// Too few free descriptors here: a group would silently not be joined, a file not be there.
	if s.message.flags&syscall.MSG_CTRUNC != 0 || s.count != s.order.joins+s.order.stdio+s.order.keeps {
		s.fail(StepJoin, syscall.EMFILE, 0)
		if s.order.keeps > 0 {
			s.fail(StepFD, syscall.EMFILE, -1)
		}
	}
	return true
}

// launch executes an order. What looks at the file system, which may not answer, is done here, for the stage is in none of the
// run's groups; but by the program if the stage stays, and has to stay where it is.
//
//go:nosplit
//go:norace
//go:noinline
func (s *stage) launch() {
	if page().flags&flagStay == 0 {
		s.locate()
	}
	s.separate()
	if s.failure.step == 0 {
		if s.create(); s.got == 0 && s.errno == 0 {
			if page().flags&flagStay != 0 {
				s.locate()
			}
			s.run()
		}
		if s.errno != 0 {
			s.fail(StepClone, s.errno, 0)
		}
	}
	if s.failure.step != 0 {
		call(syscall.SYS_WRITE, s.report, uintptr(unsafe.Pointer(&s.failure)), recordSize, 0)
	}
	s.goBack()
}

// separate gives this thread, and so the program, a network namespace in which loopback works
// (network_namespaces(7), netdevice(7)).
//
//go:nosplit
//go:norace
//go:noinline
func (s *stage) separate() {
	if s.failure.step != 0 || s.order.flags&orderNewNet == 0 {
		return
	}
	if page().flags&flagStay != 0 {
		s.network, s.errno = call(syscall.SYS_OPENAT, atFdcwd, uintptr(unsafe.Pointer(unsafe.StringData(networkZ))), syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		if s.errno != 0 {
			s.network = 0
			s.fail(StepNet, s.errno, 0)
			return
		}
	}
	if _, s.errno = call(syscall.SYS_UNSHARE, syscall.CLONE_NEWNET, 0, 0, 0); s.errno == 0 {
		s.got, s.errno = call(syscall.SYS_SOCKET, syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0, 0)
	}
	if s.errno == 0 {
		s.ifreq.flags = syscall.IFF_UP
		_, s.errno = call(syscall.SYS_IOCTL, s.got, syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&s.ifreq)), 0)
		call(syscall.SYS_CLOSE, s.got, 0, 0, 0)
	}
	if s.errno != 0 {
		s.fail(StepNet, s.errno, 0)
	}
}

// goBack ends what was for one launch only; but the run's cgroup2 directory, which has killFD then, is the guardian's to kill by. To
// the shim, the end of the report is the program's execve.
//
//go:nosplit
//go:norace
//go:noinline
func (s *stage) goBack() {
	if s.network != 0 {
		_, s.errno = call(sysSetns, s.network, syscall.CLONE_NEWNET, 0, 0)
		s.broken = s.errno != 0
	}
	if s.order.flags&orderInto == 0 || s.count == 0 {
		call(syscall.SYS_CLOSE, killFD, 0, 0, 0)
	} else if s.fds[0] != killFD {
		call(syscall.SYS_DUP3, s.fds[0], killFD, syscall.O_CLOEXEC, 0)
	}
	s.closeRange(killFD+1, lastFD)
	if s.header.size > keptMemory {
		const end = stageAddress + stageMemory
		from := (orderAddress + largestPage - 1) / largestPage * largestPage
		call(syscall.SYS_MADVISE, from, min(uintptr(s.header.size), end-from), madvDontNeed, 0)
	}
}

//go:nosplit
//go:norace
func (s *stage) fail(step Step, errno syscall.Errno, index int) {
	s.failure.step, s.failure.errno, s.failure.index = step, uint32(errno), int64(index)
}
