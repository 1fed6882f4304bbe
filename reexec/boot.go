package reexec

import (
	"syscall"
	"unsafe"
)

// A binary without the entry is a Go program by the time that it can become a stage, or a guardian's successor. What is here runs in
// such a process, with a runtime.

func init() {
	giveSlack()
	if v, ok := syscall.Getenv(stageName); ok && stageName+"="+v == stageVar {
		becomeStage()
	}
}

// giveSlack gives this thread the caller's timer slack, if entry has changed it: a stage that it starts, and the program, inherit it.
func giveSlack() {
	if callersSlack > 0 {
		_, _ = call(syscall.SYS_PRCTL, syscall.PR_SET_TIMERSLACK, uintptr(callersSlack), 0, 0)
	}
}

// becomeStage clones the stage from this process, as the shim's child, and ends.
func becomeStage() {
	startStage()
	clearHandlers()
	const flags = syscall.CLONE_PARENT | syscall.CLONE_PARENT_SETTID
	pid, errno := call(syscall.SYS_CLONE, flags, 0, uintptr(unsafe.Pointer(&page().stage)), 0)
	if errno != 0 {
		failed(errno)
	}
	if pid == 0 {
		serve()
	}
	leave(0)
}

// sigaction is struct kernel_sigaction: handler, flags, restorer (unused on arm64), mask.
type sigaction struct {
	handler uintptr
	_       [3]uint64
}

// clearHandlers takes signals away from the Go runtime: a stage, and a program before execve, have none. What is ignored stays so.
func clearHandlers() {
	const ignored = 1 // SIG_IGN; SIG_DFL is 0
	for sig := uintptr(1); sig <= signals; sig++ {
		var action sigaction
		at := uintptr(unsafe.Pointer(&action))
		if _, errno := call(syscall.SYS_RT_SIGACTION, sig, 0, at, sigsetSize); errno == 0 && action.handler > ignored {
			action = sigaction{}
			_, _ = call(syscall.SYS_RT_SIGACTION, sig, at, 0, sigsetSize)
		}
	}
}

// Will is for the process that a guardian has become: what Bequeath has written. In every other process it
// is false. Whoever calls Start with a guardian has to call it in an init, and to end the process after it
// has cleaned up.
func Will() (will []byte, ok bool) {
	if v, set := syscall.Getenv(guardianEnv); !set || guardianEnv+"="+v != guardianVar {
		return nil, false
	}
	if Raised() != "" {
		leave(refused) // whoever has called it could have written the will
	}
	var status syscall.Stat_t
	if err := syscall.Fstat(fileFD, &status); err != nil || status.Size < willOffset {
		return nil, err == nil
	}
	file, err := syscall.Mmap(fileFD, 0, int(status.Size), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE)
	if err != nil {
		return nil, false
	}
	return file[willOffset:], true
}
