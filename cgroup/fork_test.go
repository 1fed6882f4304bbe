package cgroup

import (
	"fmt"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// forkBomb forks itself without end, and each child does. Should a test lose it, it ends after bombSeconds.
// Each fork copies the page tables of that many MiB: a large process spends its time in fork.
func forkBomb(args []string) string {
	size, _ := strconv.Atoi(args[0])
	touch(size << 20)
	signal.Ignore(unix.SIGCHLD) // so that the kernel reaps the children
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		panic(err)
	}
	fmt.Println("forking")
	runtime.LockOSThread()
	forkUntil(now.Sec + bombSeconds)
	return "over"
}

const bombSeconds = 120

// forkUntil runs in children of a bare fork, which have one thread and no Go scheduler: raw system calls
// only, no stack growth, no race detector.
//
//go:norace
//go:nosplit
func forkUntil(end int64) {
	var now unix.Timespec
	for now.Sec < end {
		_, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if errno != 0 {
			syscall.RawSyscall6(unix.SYS_SCHED_YIELD, 0, 0, 0, 0, 0, 0)
		}
		syscall.RawSyscall6(unix.SYS_CLOCK_GETTIME, unix.CLOCK_MONOTONIC, uintptr(unsafe.Pointer(&now)), 0, 0, 0, 0)
	}
	syscall.RawSyscall6(unix.SYS_EXIT_GROUP, 0, 0, 0, 0, 0, 0)
}
