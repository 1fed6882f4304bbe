package reexec

import (
	"syscall"
	"unsafe"
)

// How a process becomes a stage, and what the stage's code has in place of libraries. The rules of stage.go hold here.

const (
	// stageMemory is address space; what is not used of it takes no memory. The kernel takes 6 MiB of arguments and
	// environment at most.
	stageMemory = 16 << 20
	// stageAddress is below every Go heap's, and below 2^39, which is the end of a small address space on arm64.
	stageAddress = 0x3e00000000
	orderAddress = stageAddress + sharedSize + unsafe.Offsetof(stage{}.order)
	orderRoom    = stageAddress + stageMemory - orderAddress
	// refused is the exit status of what can't become a stage, and unexecuted that of a program, or a guardian's successor.
	refused, unexecuted = 125, 127

	mapFixedNoReplace = 0x100000 // since Linux 4.17; before, a hint
)

// entered says that this process has come through entry: a re-execution will, too. callersSlack is the timer slack of its main
// thread then, in ns, if entry has changed it.
var (
	entered      bool
	callersSlack int64
)

// entry is where the kernel starts a binary that was linked so (go build -ldflags '-E …reexec.entry'). On the kernel's stack are
// argc, argv[0] … argv[argc-1], 0, envp[0] …: with stageVar first in its environment, and no arguments, this is a stage. Else it
// goes on to the Go runtime, for which all has to be as it was; but for the timer slack.
//
// A Go process of some milliseconds spends most of its context switches on the naps of the runtime's monitor. With 5 ms of
// timer slack, which its thread inherits, there are next to none: see giveSlack. In one that stays, as batch does, that
// would keep other threads waiting.
//
//lint:ignore U1000 the linker uses it
func entry()

// startStage prepares this process, or the one that it clones, for serve. Who has given it rights that its caller has not (a
// set-user-ID file, or one with capabilities) has not given them to the author of an order.
//
//go:nosplit
//go:norace
func startStage() {
	if Raised() != "" {
		leave(refused)
	}
	if errno := makeMemory(fileFD); errno != 0 {
		failed(errno)
	}
	blockSignals()
}

// blockSignals blocks all of them, for good: none ends a stage.
//
//go:nosplit
//go:norace
func blockSignals() {
	all := ^uint64(0)
	if _, errno := call(syscall.SYS_RT_SIGPROCMASK, sigSetmask, uintptr(unsafe.Pointer(&all)), 0, sigsetSize); errno != 0 {
		failed(errno)
	}
}

// makeMemory makes a stage's memory, which begins with the first page of the file.
//
//go:nosplit
//go:norace
func makeMemory(file uintptr) syscall.Errno {
	const private = syscall.MAP_PRIVATE | syscall.MAP_ANON | syscall.MAP_NORESERVE | mapFixedNoReplace
	address, _ := mapMemory(stageAddress, stageMemory, private, noDescriptor)
	if address != stageAddress {
		return syscall.ENOMEM
	}
	// A huge page would be part of the program's ru_maxrss.
	call(syscall.SYS_MADVISE, address, stageMemory, syscall.MADV_NOHUGEPAGE, 0)
	if _, errno := mapMemory(address, sharedSize, syscall.MAP_SHARED|syscall.MAP_FIXED, file); errno != 0 {
		return syscall.EBADF
	}
	return 0
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

// failed ends a process that can't become a stage.
//
//go:nosplit
//go:norace
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

// call makes a system call. What the arguments point to is in the stage's memory, or stays where it is for other reasons.
//
//go:nosplit
//go:norace
func call(trap, a1, a2, a3, a4 uintptr) (result uintptr, errno syscall.Errno) {
	result, _, errno = syscall.RawSyscall6(trap, a1, a2, a3, a4, 0, 0)
	return result, errno
}

// mapMemory is mmap(2), for reading and writing.
//
//go:nosplit
//go:norace
func mapMemory(address, size, flags, fd uintptr) (result uintptr, errno syscall.Errno) {
	result, _, errno = syscall.RawSyscall6(syscall.SYS_MMAP, address, size, syscall.PROT_READ|syscall.PROT_WRITE, flags, fd, 0)
	return result, errno
}

// text is the address of a string in the binary.
//
//go:nosplit
//go:norace
func text(z string) uintptr { return uintptr(unsafe.Pointer(unsafe.StringData(z))) }
