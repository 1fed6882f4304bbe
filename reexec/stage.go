package reexec

import (
	"errors"
	"runtime"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/cgshim/cgshim/reexec/internal/nofile"
)

// The stage, and the program between its creation and execve, are copies of a Go process with one thread: the
// runtime's other threads, and every lock that one of them held, are frozen in time. Hence the rules for everything that
// runs there:
//
//   - raw system calls only, no entersyscall: there is no scheduler to come back to;
//   - no allocation, no interface, no closure, no pointer stored to the heap (write barriers);
//   - go:nosplit throughout: a function that may grow its stack has a prologue that the scheduler uses
//     to preempt, and preemption would never return. The linker checks that it all fits;
//   - go:norace: the race detector keeps state in other threads.
//
// What can be worked out before is, by ordinary Go in the shim: see order. It has to fit into the stack that nosplit
// leaves, also when the compiler does not optimise (-N -l, as debuggers build): hence what would be local variables
// elsewhere is in the struct, and the functions are short.

// stage is what a stage works with. It is in memory of its own, with the order that it was sent behind it, so that the
// Go heap, of which the stage is a copy, can be given back.
type stage struct {
	control  uintptr // the socket to the shim
	lifeline uintptr // the guardian's end of its pipe
	announce bool    // the shim does not know our pid yet
	leader   bool    // become a session's leader, or else the leader of a process group unless that is there already
	grouped  bool
	guarded  bool // after the end: see guardian.go
	flags    uintptr
	title    []byte // what ps(1) shows; nil is to stay

	network uintptr // where we were before Spec.NewNet; none is 0
	broken  bool    // we could not go back
	into    uintptr // the run's cgroup2 directory; none is noDescriptor
	report  uintptr
	path    uintptr

	header    header
	vector    [2]uintptr // struct iovec
	message   messageHeader
	ancillary [ancillarySize]byte
	read      uintptr
	count     uint64 // of fds
	fds       [maxDescriptors]uintptr

	hello, failure record
	shared         *shared
	guardian       guardian
	code           uintptr // where the binary is
	all            uint64  // all signals

	// Scratch, for which the stack has no room.
	got    uintptr
	errno  syscall.Errno
	now    syscall.Timespec
	action sigaction
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
	orderRoom   = stageMemory - sharedSize - unsafe.Sizeof(stage{}) + unsafe.Sizeof(order{})
	// keptMemory is what a stage keeps of it from one order to the next.
	keptMemory = 256 << 10
	// largestPage is the largest that there are.
	largestPage = 64 << 10
	// stageAddress is below the Go heap's, for the sake of giveBack. Another one would do.
	stageAddress = 0xbe00000000

	clockMonotonic = 1
	atEaccess      = 0x200
	sysFaccessat2  = 439 // since Linux 5.8; the same number on every architecture
	accessExecute  = 1
)

func init() {
	if v, ok := syscall.Getenv(stageEnv); ok && v == stageEnvFD {
		becomeStage()
	}
}

// becomeStage is a re-execution of this binary: it clones the stage, for the shim, and ends.
func becomeStage() {
	runtime.LockOSThread() // the signal mask is this thread's
	_, guarded := syscall.Getenv(guardianEnv)
	lifeline := guardianFD
	if !guarded {
		lifeline = stageFD // there is none
	}
	s, errno := newStage(stageFD, lifeline, guarded, sharedFD(guarded))
	if errno == 0 {
		s.announce = true
		s.grouped = guarded // by Start
		s.flags = syscall.CLONE_PARENT
		_, errno = s.fork()
	}
	if errno != 0 {
		// As the stage would say it.
		r := record{step: StepStage, errno: uint32(errno)}
		_, _ = syscall.Write(stageFD, r.bytes())
		exit(125) // nobody looks, unless somebody set the variable by hand
	}
	exit(0)
}

// newStage maps the memory for a stage with these descriptors. It begins with the page that it shares with the shim: of a
// file, or -1.
func newStage(control, lifeline int, guarded bool, file int) (*stage, syscall.Errno) {
	const protection, flags = syscall.PROT_READ | syscall.PROT_WRITE, syscall.MAP_PRIVATE | syscall.MAP_ANON | syscall.MAP_NORESERVE
	address, _, errno := syscall.RawSyscall6(syscall.SYS_MMAP, stageAddress, stageMemory, protection, flags, ^uintptr(0), 0)
	if errno != 0 {
		return nil, errno
	}
	// A huge page would be part of the program's ru_maxrss.
	_, _, _ = syscall.RawSyscall(syscall.SYS_MADVISE, address, stageMemory, madvNoHugePage)
	page, errno := mapShared(address, syscall.MAP_FIXED, file)
	if errno != 0 {
		return nil, errno
	}
	s := (*stage)(unsafe.Add(unsafe.Pointer(page), sharedSize))
	s.shared = page
	s.control, s.lifeline, s.guarded = uintptr(control), uintptr(lifeline), guarded
	s.into = noDescriptor
	s.all = ^uint64(0)
	s.hello = record{step: stepHello, base: uint64(uintptr(unsafe.Pointer(&s.order)))}
	s.vector = [2]uintptr{uintptr(unsafe.Pointer(&s.header)), unsafe.Sizeof(s.header)}
	copy(s.ifreq.name[:], "lo")
	s.guardian.prepare(s)
	function := newStage
	s.code = **(**uintptr)(unsafe.Pointer(&function))
	return s, 0
}

// mapShared maps a page to share: of a file, or -1 for one that is shared with children.
func mapShared(address, flags uintptr, file int) (*shared, syscall.Errno) {
	flags |= syscall.MAP_SHARED
	if file < 0 {
		flags |= syscall.MAP_ANON
	}
	address, _, errno := syscall.RawSyscall6(syscall.SYS_MMAP, address, sharedSize, syscall.PROT_READ|syscall.PROT_WRITE, flags, uintptr(file), 0)
	if errno != 0 {
		return nil, errno
	}
	return *(**shared)(unsafe.Pointer(&address)), 0
}

// program is the pid that the kernel has written there.
func (p *shared) program() int { return int(atomic.LoadInt32(&p.pid)) }

func (p *shared) unmap() {
	_, _, _ = syscall.RawSyscall(syscall.SYS_MUNMAP, uintptr(unsafe.Pointer(p)), sharedSize, 0)
}

// forget gives the memory back, but for what is shared, in a process that is not the stage.
func (s *stage) forget() {
	_, _, _ = syscall.RawSyscall(syscall.SYS_MUNMAP, uintptr(unsafe.Pointer(s)), stageMemory-sharedSize, 0)
}

// fork clones the stage. Its caller has to be locked to its thread.
//
//go:nosplit
//go:norace
//go:noinline
func (s *stage) fork() (pid uintptr, errno syscall.Errno) {
	var mask uint64
	if _, errno = call(syscall.SYS_RT_SIGPROCMASK, sigSetmask, uintptr(unsafe.Pointer(&s.all)), uintptr(unsafe.Pointer(&mask)), sigsetSize); errno != 0 {
		return 0, errno
	}
	pid, errno = call(syscall.SYS_CLONE, s.flags, 0, 0, 0)
	if errno == 0 && pid == 0 {
		s.serve()
	}
	call(syscall.SYS_RT_SIGPROCMASK, sigSetmask, uintptr(unsafe.Pointer(&mask)), 0, sigsetSize)
	return pid, errno
}

// serve is the stage from its creation to its end.
//
//go:nosplit
//go:norace
//go:noinline
func (s *stage) serve() {
	s.settle()
	for stay := true; stay && s.receive(); {
		if s.order.flags&orderStay == 0 {
			s.locate()
		}
		if s.failure.step == 0 {
			s.separate()
		}
		if s.failure.step == 0 {
			if s.create(); s.got == 0 && s.errno == 0 {
				if s.order.flags&orderStay != 0 {
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
		stay = s.order.flags&orderStay != 0
		s.guarded = s.guarded && s.order.flags&orderGuard != 0
		s.goBack()
		stay = stay && !s.broken
	}
	if s.guarded {
		s.guard()
	}
	for {
		call(syscall.SYS_EXIT_GROUP, 0, 0, 0, 0)
	}
}

// settle makes the stage a process of its own, with nothing that it does not need.
//
//go:nosplit
//go:norace
//go:noinline
func (s *stage) settle() {
	// Out of the way of a signal to the caller's process group: until there is a guardian it is the stage that cleans
	// up, and later it is the guardian.
	if s.leader {
		call(syscall.SYS_SETSID, 0, 0, 0, 0)
	} else if s.guarded && !s.grouped {
		call(syscall.SYS_SETPGID, 0, 0, 0, 0)
	}
	if s.announce {
		s.got, _ = call(syscall.SYS_GETPID, 0, 0, 0, 0)
		s.hello.pid = int64(s.got)
		call(syscall.SYS_WRITE, s.control, uintptr(unsafe.Pointer(&s.hello)), recordSize, 0)
	}
	call(syscall.SYS_FCNTL, s.control, syscall.F_SETFD, syscall.FD_CLOEXEC, 0)
	call(syscall.SYS_FCNTL, s.lifeline, syscall.F_SETFD, syscall.FD_CLOEXEC, 0)
	call(syscall.SYS_PRCTL, prSetName, uintptr(unsafe.Pointer(unsafe.StringData(guardianNameZ))), 0, 0)
	for i := range s.title {
		s.title[i] = 0
	}
	for i := 0; i < len(s.title)-1 && i < len(guardianName); i++ {
		s.title[i] = guardianName[i]
	}
	s.giveBack()
	// The program's descriptors come with the order. What the caller has leaked must not reach it, nor be held by us.
	s.closeOthers(stageFD, s.control, s.lifeline)
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
		s.got, s.errno = call(syscall.SYS_RECVMSG, s.control, uintptr(unsafe.Pointer(&s.message)), flags, 0)
	}
	if s.errno != 0 || s.got < unsafe.Sizeof(s.header) || s.header.size > uint64(orderRoom) {
		return false
	}
	for s.read = 0; s.read < uintptr(s.header.size); s.read += s.got {
		s.got, s.errno = call(syscall.SYS_READ, s.control, uintptr(unsafe.Pointer(&s.order))+s.read, uintptr(s.header.size)-s.read, 0)
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
	s.failure, s.network = record{}, 0
	// Too few free descriptors here: a group would silently not be joined, a file not be there.
	if s.message.flags&syscall.MSG_CTRUNC != 0 || s.count != s.order.joins+s.order.stdio+s.order.keeps {
		s.fail(StepJoin, syscall.EMFILE, 0)
		if s.order.keeps > 0 {
			s.fail(StepFD, syscall.EMFILE, -1)
		}
	}
	return true
}

// locate does what looks at the file system, which may not answer: in the stage, for it is in none of the run's groups;
// but in the program if the stage stays, and has to stay where it is.
//
//go:nosplit
//go:norace
//go:noinline
func (s *stage) locate() {
	s.enter()
	if s.failure.step == 0 {
		s.find()
	}
}

// enter goes to the program's directory.
//
//go:nosplit
//go:norace
//go:noinline
func (s *stage) enter() {
	if s.failure.step != 0 || s.order.dir == 0 {
		return
	}
	if _, s.errno = call(syscall.SYS_CHDIR, s.order.dir, 0, 0, 0); s.errno != 0 {
		s.fail(StepChdir, s.errno, 0)
	}
}

// find finds the file to execute, as execvp(3) does.
//
//go:nosplit
//go:norace
//go:noinline
func (s *stage) find() {
	failure := syscall.ENOENT
	for i := uintptr(0); ; i++ {
		s.path = *(*uintptr)(unsafe.Add(unsafe.Pointer(&s.order), s.order.paths+8*i))
		if s.path == 0 {
			break
		}
		s.path += uintptr(unsafe.Pointer(&s.order))
		_, s.errno = call(sysFstatat, atFdcwd, s.path, uintptr(unsafe.Pointer(&s.status)), 0)
		if s.order.flags&orderSearch == 0 {
			if failure = s.errno; failure == 0 {
				return
			}
			break
		}
		if s.errno == syscall.EACCES {
			failure = syscall.EACCES // a directory that can't be searched may have it
		}
		if s.errno != 0 {
			continue
		}
		if s.status.Mode&syscall.S_IFMT == syscall.S_IFREG && s.executable() {
			return
		}
		failure = syscall.EACCES // there is one, though none that can be executed
	}
	s.fail(StepLookup, failure, 0)
}

//go:nosplit
//go:norace
//go:noinline
func (s *stage) executable() bool {
	_, s.errno = call(sysFaccessat2, atFdcwd, s.path, accessExecute, atEaccess)
	if s.errno == syscall.ENOSYS || s.errno == syscall.EPERM { // before Linux 5.8, and old seccomp filters: with the real ids
		_, s.errno = call(syscall.SYS_FACCESSAT, atFdcwd, s.path, accessExecute, 0)
	}
	return s.errno == 0
}

// separate gives this thread, and so the program, a network namespace in which loopback works
// (network_namespaces(7), netdevice(7)).
//
//go:nosplit
//go:norace
//go:noinline
func (s *stage) separate() {
	if s.order.flags&orderNewNet == 0 {
		return
	}
	if s.order.flags&orderStay != 0 {
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

// goBack ends what was for one launch only. To the shim, the end of the report is the program's execve.
//
//go:nosplit
//go:norace
//go:noinline
func (s *stage) goBack() {
	call(syscall.SYS_CLOSE, s.report, 0, 0, 0)
	if s.into != noDescriptor {
		call(syscall.SYS_CLOSE, s.into, 0, 0, 0)
		s.into = noDescriptor
	}
	for i := uint64(0); i < s.count; i++ {
		if i == 0 && s.order.flags&orderInto != 0 {
			s.into = s.fds[0] // the guardian's, to kill by
			continue
		}
		call(syscall.SYS_CLOSE, s.fds[i&(maxDescriptors-1)], 0, 0, 0)
	}
	if s.network != 0 {
		s.back(sysSetns, s.network, syscall.CLONE_NEWNET)
	}
	if s.header.size > keptMemory {
		from := (uintptr(unsafe.Pointer(&s.order)) + largestPage - 1) / largestPage * largestPage
		end := uintptr(unsafe.Pointer(s)) + stageMemory
		call(syscall.SYS_MADVISE, from, min(uintptr(s.header.size), end-from), madvDontNeed, 0)
	}
}

//go:nosplit
//go:norace
//go:noinline
func (s *stage) back(trap, fd, flags uintptr) {
	if _, s.errno = call(trap, fd, flags, 0, 0); s.errno != 0 {
		s.broken = true
	}
	call(syscall.SYS_CLOSE, fd, 0, 0, 0)
}

// closeOthers closes the descriptors from one on but for two. Where there is no close_range(2), as many as the process
// may have had.
//
//go:nosplit
//go:norace
//go:noinline
func (s *stage) closeOthers(from, keep, keepToo uintptr) {
	low, high := min(keep, keepToo), max(keep, keepToo)
	s.errno = 0
	if low > from {
		_, s.errno = call(sysCloseRange, from, low-1, 0, 0)
	}
	if high > low+1 && s.errno == 0 {
		_, s.errno = call(sysCloseRange, low+1, high-1, 0, 0)
	}
	if s.errno == 0 {
		_, s.errno = call(sysCloseRange, high+1, ^uintptr(0)>>32, 0, 0)
	}
	for fd := from; s.errno != 0 && fd < s.guardian.fds; fd++ {
		if fd != low && fd != high {
			call(syscall.SYS_CLOSE, fd, 0, 0, 0)
		}
	}
}

// giveBack gives memory back that a stage can do without: of the heap arena, what is around the stack that it runs on,
// which nothing moves any more; and all above the arena, if the code is below, but for the stage itself. That is what the
// Go runtime has mapped for itself, and takes most of the time in which a stage is copied and ends. With cgo, thread-local
// storage is up there: nothing then.
//
//go:nosplit
//go:norace
//go:noinline
func (s *stage) giveBack() {
	const arena = 64 << 20         // runtime.heapArenaBytes
	const around = largestPage / 2 // more than the frames of functions that may not split the stack
	var local byte
	stack := uintptr(unsafe.Pointer(&local))
	begin := stack / arena * arena
	if usesCgo || s.code > begin {
		return
	}
	s.drop(syscall.SYS_MADVISE, begin, stack-around)
	s.drop(syscall.SYS_MADVISE, stack+around, begin+arena)
	if self := uintptr(unsafe.Pointer(s)); self < begin+arena {
		s.drop(syscall.SYS_MUNMAP, begin+arena, addressSpaceEnd)
	} else {
		s.drop(syscall.SYS_MUNMAP, begin+arena, self-sharedSize)
		s.drop(syscall.SYS_MUNMAP, self-sharedSize+stageMemory, addressSpaceEnd)
	}
}

//go:nosplit
//go:norace
//go:noinline
func (s *stage) drop(trap, from, to uintptr) {
	if from, to = (from+largestPage-1)/largestPage*largestPage, to/largestPage*largestPage; from < to {
		call(trap, from, to-from, madvDontNeed, 0)
	}
}

// The strings are in the binary: the stage gives its heap back.
const (
	networkZ = "/proc/self/ns/net\x00"
)

const atFdcwd = ^uintptr(99) // -100

func monotonic() int64 {
	var ts syscall.Timespec
	_, _, _ = syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&ts)), 0)
	return ts.Nano()
}

func exit(code int) { syscall.Exit(code) }

// errnoOf is the errno of an error of package syscall.
func errnoOf(err error) syscall.Errno {
	var errno syscall.Errno
	if err != nil && !errors.As(err, &errno) {
		return syscall.EIO
	}
	return errno
}

// programRlimits are the resource limits that the program has to get: first so many that raise a hard
// limit, which takes a privilege that the credentials may drop, and then those that do not. With them goes
// the RLIMIT_NOFILE that was there before the Go runtime raised it.
func programRlimits(asked []Rlimit) (limits []rlimit, raising int) {
	var last [rlimits]*Rlimit
	var index [rlimits]int
	for i := range asked {
		last[asked[i].Resource], index[asked[i].Resource] = &asked[i], i
	}
	var others []rlimit
	for resource, l := range last {
		switch {
		case l != nil:
			limit := rlimit{uintptr(resource), index[resource], [2]uint64{l.Soft, l.Hard}}
			if raises(resource, l.Hard) {
				limits = append(limits, limit)
			} else {
				others = append(others, limit)
			}
		case resource == rlimitNofile:
			if limit, known := callersNofile(); known {
				others = append(others, rlimit{rlimitNofile, -1, limit})
			}
		}
	}
	return append(limits, others...), len(limits)
}

// callersNofile is the RLIMIT_NOFILE that this process was started with, or has set since.
func callersNofile() (limit [2]uint64, known bool) {
	_, errno := call(syscall.SYS_PRLIMIT64, 0, rlimitNofile, 0, uintptr(unsafe.Pointer(&limit)))
	if nofile.Known && (errno != 0 || limit == [2]uint64{nofile.Original[1] - 1, nofile.Original[1]}) {
		return nofile.Original, true // package syscall has raised it
	}
	return limit, errno == 0
}

func raises(resource int, hard uint64) bool {
	var now [2]uint64
	_, errno := call(syscall.SYS_PRLIMIT64, 0, uintptr(resource), 0, uintptr(unsafe.Pointer(&now)))
	return errno == 0 && hard > now[1]
}
