package main

import (
	"encoding/binary"
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/shim"
)

// Ctrl-C sends SIGINT to every process of the foreground process group: to cgshim and to the program. To
// forward it would make it two. Only the siginfo tells such a signal from one that somebody has sent to
// cgshim alone, and os/signal does not hand it out. So the signals that are forwarded have a handler of our
// own: a few instructions that write the siginfo into a pipe (siginfo_*.s). The Go runtime itself has no use
// for these signals.

// signalPipe is the end of the pipe that the handler writes to.
//
//lint:ignore U1000 the handler reads it
var signalPipe int32

// onSignal is the address of the handler: not a func, for Go would call that with its own conventions.
var onSignal uintptr

// siginfoSize is what the handler writes: si_signo, si_errno, si_code, then a union (sigaction(2)).
const siginfoSize = 32

// fromKernel is SI_KERNEL: on a signal that a process sends there is another si_code.
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
)

// catchSignals catches the signals that shim forwards, but for those that the caller ignores.
func catchSignals() (chan os.Signal, error) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	if err := unix.SetNonblock(pipe[1], true); err != nil { // a handler must not wait
		return nil, os.NewSyscallError("fcntl", err)
	}
	signalPipe = int32(pipe[1])
	for _, sig := range shim.ForwardedSignals() {
		if err := catch(sig.(unix.Signal)); err != nil {
			return nil, err
		}
	}
	signals := make(chan os.Signal, 16)
	go readSignals(pipe[0], signals)
	return signals, nil
}

func catch(sig unix.Signal) error {
	var old sigaction
	if err := rtSigaction(sig, nil, &old); err != nil || old.handler == sigIgnore {
		return err
	}
	return rtSigaction(sig, handlerAction(), nil)
}

func rtSigaction(sig unix.Signal, action, old *sigaction) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(action)), uintptr(unsafe.Pointer(old)), 8, 0, 0)
	if errno != 0 {
		return os.NewSyscallError("rt_sigaction", errno)
	}
	return nil
}

// readSignals hands on what the handler has written: whole records, for a pipe does not split such a write.
func readSignals(pipe int, signals chan<- os.Signal) {
	var info [siginfoSize]byte
	for {
		n, err := unix.Read(pipe, info[:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if n < len(info) {
			return
		}
		sig := unix.Signal(binary.NativeEndian.Uint32(info[0:]))
		if code := int32(binary.NativeEndian.Uint32(info[8:])); code == fromKernel {
			signals <- shim.TerminalSignal(sig)
		} else {
			signals <- sig
		}
	}
}
