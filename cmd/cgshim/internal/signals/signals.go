// Package signals catches the signals that a run forwards, before the rest of the command is initialised, because until then their
// default actions would end the command without a result. It imports next to nothing, so that its init is early. While the Go
// runtime starts, before any init, signals are caught if the binary begins with this package's entry: see there. A command that runs no
// program, or many, gives the signals back.
//
// Ctrl-C sends SIGINT to every process of the foreground process group: to cgshim and to the program. If cgshim forwarded it, the program
// would get two. Only the siginfo tells such a signal from one that a process has sent to cgshim alone, and os/signal does not hand
// it out. So these signals have a handler of this package: a few instructions that write the siginfo into a pipe (handler_*.s). The
// Go runtime itself has no use for them.
package signals

import (
	"os"
	"strings"
	"syscall"
	"unsafe"

	_ "github.com/cgshim/cgshim/reexec" // entry goes on in it
)

// Forwarded are the signals that are caught.
var Forwarded = [...]syscall.Signal{
	syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH,
	syscall.SIGCONT, syscall.SIGTSTP,
}

// signalPipe is the descriptor that the handler writes to.
//
//lint:ignore U1000 the handler reads it
var signalPipe int32

// onSignal is the address of the handler. It is no func, because Go would call that with its own conventions.
var onSignal uintptr

// caught is the result of init.
var caught struct {
	pipe     int                       // to read from; 0 if nothing is caught
	replaced [len(Forwarded)]sigaction // the actions before, in the order of Forwarded
	call     string                    // the one that err is of
	err      error
}

func init() {
	catches := false
	// Without arguments there is no program; -test. is for the tests' binaries.
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-test.") {
		catchAll()
		catches = caught.err == nil
	}
	if caughtFirst != 0 {
		takeOver(catches)
	}
}

// GiveBack gives the signals the actions that the Go runtime wants, as if they had never been caught. Those that have come have
// their effect now.
func GiveBack() {
	if caught.pipe == 0 || caught.err != nil {
		return
	}
	for i, sig := range Forwarded {
		action := &caught.replaced[i]
		if caughtFirst>>sig&1 != 0 {
			action = &wanted[sig] // instead of entry's handler
		}
		_ = rtSigaction(sig, action, nil)
	}
	for {
		sig, _, ok := Next()
		if !ok {
			return
		}
		_ = syscall.Kill(os.Getpid(), sig)
	}
}

// entry is where the kernel starts the command (go build -ldflags '-E …signals.entry'). It catches the signals in ending, unless
// the caller ignores them, and goes on to reexec's entry.
//
// To block the signals instead would not help: the Go runtime unblocks SIGTERM, SIGINT, SIGHUP and SIGQUIT, and installs handlers that
// end the process. So entry has it call keepFirst, which keeps entry's handler until init has been called. The hook for that is
// _cgo_sigaction, which sanitizers use in programs that have C in them.
//
//lint:ignore U1000 the linker uses it
func entry()

// leaveToGo ends that: from then on the Go runtime installs what it wants.
func leaveToGo()

// ending are the signals whose default actions end a process, and 0.
var ending = [...]byte{
	byte(syscall.SIGTERM), byte(syscall.SIGINT), byte(syscall.SIGHUP), byte(syscall.SIGQUIT), byte(syscall.SIGUSR1),
	byte(syscall.SIGUSR2), 0,
}

// These are by the numbers of the signals.
var (
	caughtFirst uint64        // a bit for each signal that entry has caught
	came        [16]siginfo   // of the signals that came before init was called
	wanted      [16]sigaction // the actions that the Go runtime wanted to install
)

// found is the action of one signal before entry.
//
//lint:ignore U1000 entry uses it
var found sigaction

// takeOver takes over from entry's handler. A signal that has come is treated as if it came now.
func takeOver(catches bool) {
	leaveToGo()
	for _, number := range ending {
		if caughtFirst>>number&1 == 0 {
			continue
		}
		sig, info := syscall.Signal(number), &came[number]
		if !catches {
			_ = rtSigaction(sig, &wanted[number], nil)
		}
		switch {
		case info.number == 0:
		case catches:
			_, _ = syscall.Write(int(signalPipe), (*[unsafe.Sizeof(*info)]byte)(unsafe.Pointer(info))[:])
		default:
			_ = syscall.Kill(os.Getpid(), sig)
		}
	}
}

// siginfo is the beginning of siginfo_t, see sigaction(2). The handler writes that much.
type siginfo struct {
	number, errno, code int32
	_                   [5]int32
}

// fromKernel is SI_KERNEL, an si_code that no signal of a process has.
const fromKernel = 0x80

// sigaction is struct kernel_sigaction.
type sigaction struct {
	handler  uintptr
	flags    uint64
	restorer uintptr // on arm64 the mask is here; both are 0
	mask     uint64
}

const (
	saSigInfo  = 0x4
	saRestorer = 0x4000000
	saOnStack  = 0x8000000 // Go's threads have small stacks, and one for signals
	saRestart  = 0x10000000
	sigIgnore  = 1
	sigsetSize = 8
)

// catchAll catches the signals, except those that the caller ignores.
func catchAll() {
	var pipe [2]int
	if caught.err = syscall.Pipe2(pipe[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); caught.err != nil {
		caught.call = "pipe2"
		return
	}
	caught.pipe, signalPipe = pipe[0], int32(pipe[1])
	caught.call = "rt_sigaction"
	for i, sig := range Forwarded {
		if caught.err = catch(sig, &caught.replaced[i]); caught.err != nil {
			return
		}
	}
}

// catch catches a signal, and stores the action that it had before.
func catch(sig syscall.Signal, before *sigaction) error {
	if err := rtSigaction(sig, nil, before); err != nil || before.handler == sigIgnore {
		return err
	}
	return rtSigaction(sig, handlerAction(onSignal), nil)
}

func rtSigaction(sig syscall.Signal, action, old *sigaction) error {
	_, _, errno := syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(action)), uintptr(unsafe.Pointer(old)), sigsetSize, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// childEvent is the descriptor that SIGCHLD's handler writes to, see Children.
//
//lint:ignore U1000 the handler reads it
var childEvent int32

// onChild is the address of that handler, like onSignal.
var onChild uintptr

// Children returns an eventfd that becomes readable with each SIGCHLD from now on, without a goroutine. It is never closed: the handler
// may be about to write to it.
func Children() (fd int, err error) {
	if childEvent != 0 {
		return int(childEvent), nil
	}
	event, _, errno := syscall.RawSyscall(syscall.SYS_EVENTFD2, 0, syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if errno != 0 {
		return 0, os.NewSyscallError("eventfd2", errno)
	}
	childEvent = int32(event)
	if err := rtSigaction(syscall.SIGCHLD, handlerAction(onChild), nil); err != nil {
		return 0, os.NewSyscallError("rt_sigaction", err)
	}
	return int(event), nil
}

// Next takes a signal that has come since the start of the process. ok is false if there is none.
func Next() (sig syscall.Signal, fromTerminal, ok bool) {
	var info siginfo
	b := (*[unsafe.Sizeof(info)]byte)(unsafe.Pointer(&info))
	for caught.pipe != 0 {
		n, err := syscall.Read(caught.pipe, b[:]) // whole records: a pipe does not split such a write
		if err != syscall.EINTR {
			return syscall.Signal(info.number), info.code == fromKernel, n == len(b)
		}
	}
	return 0, false, false
}

// Wait returns true when there is a signal to take, and false if there can't be any.
func Wait() bool {
	for caught.pipe != 0 {
		ready := struct { // struct pollfd
			fd              int32
			events, revents int16
		}{fd: int32(caught.pipe), events: readable}
		_, _, errno := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&ready)), 1, 0, 0, 0, 0)
		if errno != syscall.EINTR {
			return errno == 0 && ready.revents == readable
		}
	}
	return false
}

const readable = 0x1 // POLLIN

// Err returns the error because of which signals are not caught.
func Err() error {
	if caught.err != nil {
		return os.NewSyscallError(caught.call, caught.err)
	}
	return nil
}
