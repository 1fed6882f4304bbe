package reexec

import (
	"syscall"
	"unsafe"
)

// A guardian outlives the shim. The parent-death signal ends the program when the shim is killed, but not
// what the program has started, and nobody would remove the groups. So the stage, when it is no longer needed,
// does nothing but wait for the end of its socket, of which the shim alone has the other
// end. That is the shim's death, however it came: then the guardian executes this binary once more, which
// reads what the shim has left (Bequeath), and cleans up. A stage that has had no order yet, or whose
// launch has failed, is the guardian as well.
//
// It is in a process group of its own, so that a signal to the caller's spares it; it has no descriptor but the socket, the file
// that it shares with the shim, and the run's cgroup.kill, so that nobody waits for its end of theirs; and all signals are
// blocked.
//
// By cgroup.kill it kills the run at once, where there is one: a Go process needs threads to start, and the run may have
// all the processes that a limit above leaves.
type guardian struct {
	watch      pollfd
	argv, envv [2]uintptr
	priority   int32 // struct sched_param
	pause      syscall.Timespec
	patience   syscall.Timespec // of children that nobody kills
	children   [guardianThreads]uintptr
}

// pollfd is struct pollfd, see poll(2).
type pollfd struct {
	fd              int32
	events, revents int16
}

const (
	schedRR       = 2
	guardianTries = 1000 // with 20 ms between them
	// guardianThreads is as many as a Go process starts with.
	guardianThreads = 8
)

// The strings are in the binary.
const (
	exeFileZ      = exeFile + "\x00"
	guardianNameZ = guardianName + "\x00"
	guardianVarZ  = guardianVar + "\x00"
	rootZ         = "/\x00"
	killFileZ     = "cgroup.kill\x00"
	killZ         = "1\x00"
)

// guard waits for the shim's death, and then becomes what cleans up.
//
//go:nosplit
//go:norace
func (s *stage) guard() {
	call(syscall.SYS_CHDIR, text(rootZ), 0, 0, 0)
	s.strip()
	s.guardian.watch.fd = controlFD
	const hangUp, failed = 0x10, 0x8 // POLLHUP, POLLERR: reported also with no events asked for
	for s.guardian.watch.revents&(hangUp|failed) == 0 {
		call(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&s.guardian.watch)), 1, 0, 0)
	}
	s.guardian.makeRoom()
	s.succeed()
}

// strip opens what a guardian kills with, and closes what it has no use for.
//
//go:nosplit
//go:norace
func (s *stage) strip() {
	s.got, s.errno = call(syscall.SYS_OPENAT, killFD, text(killFileZ), syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
	if s.errno != 0 {
		call(syscall.SYS_CLOSE, killFD, 0, 0, 0)
	} else {
		call(syscall.SYS_DUP3, s.got, killFD, syscall.O_CLOEXEC, 0)
	}
	s.closeRange(0, firstFD-1)
	s.closeRange(killFD+1, lastFD)
}

// makeRoom kills the run, and waits until there are tasks to be had again.
//
//go:nosplit
//go:norace
func (g *guardian) makeRoom() {
	// What comes next needs some CPU time and some threads, of which the run may have left none.
	g.priority, g.pause.Nsec, g.patience.Sec = 1, 20e6, 1
	call(syscall.SYS_SCHED_SETSCHEDULER, 0, schedRR, uintptr(unsafe.Pointer(&g.priority)), 0)
	if _, errno := call(syscall.SYS_WRITE, killFD, text(killZ), 1, 0); errno != 0 {
		return
	}
	// The dead count until they are waited for: there is room when so many children can be had at the same time.
	count := 0
	for tries := 0; tries < guardianTries && count < guardianThreads; tries++ {
		for count = 0; count < guardianThreads; count++ {
			pid, errno := call(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0)
			if errno != 0 {
				break
			}
			if pid == 0 {
				call(syscall.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&g.patience)), 0, 0, 0)
				leave(0)
			}
			g.children[count&(guardianThreads-1)] = pid
		}
		for i := 0; i < count; i++ {
			call(syscall.SYS_KILL, g.children[i&(guardianThreads-1)], uintptr(syscall.SIGKILL), 0, 0)
			call(syscall.SYS_WAIT4, g.children[i&(guardianThreads-1)], 0, 0, 0)
		}
		if count < guardianThreads {
			call(syscall.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&g.pause)), 0, 0, 0)
		}
	}
}

// succeed becomes what cleans up.
//
//go:nosplit
//go:norace
func (s *stage) succeed() {
	call(syscall.SYS_FCNTL, fileFD, syscall.F_SETFD, 0, 0) // it is close-on-exec
	s.guardian.argv[0] = text(guardianNameZ)
	s.guardian.envv[0] = text(guardianVarZ)
	call(syscall.SYS_EXECVE, text(exeFileZ), uintptr(unsafe.Pointer(&s.guardian.argv)), uintptr(unsafe.Pointer(&s.guardian.envv)), 0)
	leave(unexecuted)
}
