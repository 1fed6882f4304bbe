package reexec

import (
	"syscall"
	"unsafe"
)

// A guardian outlives the shim. The parent-death signal ends the program when the shim is killed, but not
// what the program has started, and nobody would remove the groups. So the stage, when it is no longer needed,
// does nothing but wait for the end of a pipe, of which the shim alone has the other
// end. That is the shim's death, however it came: then the guardian executes this binary once more, which
// reads from the pipe what the shim has left there (Bequeath), and cleans up. A stage that has had no order yet, or whose
// launch has failed, is the guardian as well.
//
// It is no second Go runtime until then, but a copy of a process's memory, of which it has given back what it
// can, that sits in one system call. The rules of stage.go apply to it. It is in a process group of its own, so that
// a signal to the caller's spares it; it has no descriptor but the pipe and the run's
// cgroup.kill, so that nobody waits for its end of theirs; and all signals are blocked.
//
// By that file it kills the run at once, where there is one: a Go process needs threads to start, and the run may have
// all the processes that a limit above leaves.
type guardian struct {
	watch      pollfd
	argv, envv [2]uintptr
	fds        uintptr // where to stop to close descriptors, for kernels without close_range
	priority   int32   // struct sched_param
	pause      syscall.Timespec
	patience   syscall.Timespec // of children that nobody kills
	children   [guardianThreads]uintptr

	tries, count, child int // scratch
}

// pollfd is struct pollfd, see poll(2).
type pollfd struct {
	fd              int32
	events, revents int16
}

const (
	// guardianFD is the guardian's end of the pipe, as the stage and the guardian's successor get it.
	guardianFD = stageFD + 1
	// guardianName is what ps(1) shows of it. The binary's own name is not in it, so that who kills all of
	// that name does not kill this one.
	guardianName = "cg-guardian"

	sysCloseRange = 436 // since Linux 5.9; the same number on every architecture
	schedRR       = 2
	guardianTries = 1000 // with 20 ms between them
	// guardianThreads is as many as a Go process starts with.
	guardianThreads = 8
	prSetName       = 15
	madvDontNeed    = 4
	madvNoHugePage  = 15

	addressSpaceEnd = 1<<47 - 4096 // amd64's; where there is less, munmap fails, and nothing is lost but that
	exeFile         = "/proc/self/exe"

	guardianEnv = "CGSHIM_GUARDIAN"
	guardianVar = guardianEnv + "=4" // guardianFD
)

// Will is for the process that a guardian has become: what Bequeath has written. In every other process it
// is false. Whoever calls Start with a guardian has to call it in an init, and to end the process after it
// has cleaned up.
func Will() (will []byte, ok bool) {
	if v, set := syscall.Getenv(guardianEnv); !set || v != guardianVar[len(guardianEnv)+1:] {
		return nil, false
	}
	buf := make([]byte, 64<<10) // the most that a pipe takes
	n, err := readFull(guardianFD, buf)
	return buf[:n], err == nil
}

// The strings are in the binary: the guardian gives its heap back.
const (
	exeFileZ      = exeFile + "\x00"
	guardianNameZ = guardianName + "\x00"
	guardianVarZ  = guardianVar + "\x00"
	rootZ         = "/\x00"
	killFileZ     = "cgroup.kill\x00"
	killZ         = "1\x00"
)

func (g *guardian) prepare(s *stage) {
	// What is opened later gets the lowest numbers that are free.
	g.fds = openDescriptors() + maxDescriptors
	g.priority = 1
	g.pause.Nsec, g.patience.Sec = 20e6, 1
	g.argv[0] = uintptr(unsafe.Pointer(unsafe.StringData(guardianNameZ)))
	g.envv[0] = uintptr(unsafe.Pointer(unsafe.StringData(guardianVarZ)))
	g.watch.fd = int32(s.lifeline)
}

// openDescriptors is where the numbers of what is open end; or 0, if nobody has to know.
func openDescriptors() (end uintptr) {
	const none = ^uintptr(0) >> 32
	if _, _, errno := syscall.RawSyscall(sysCloseRange, none, none, 0); errno == 0 {
		return 0
	}
	dir, err := syscall.Open("/proc/self/fd", syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return 1 << 16
	}
	defer closeFD(dir)
	buf := make([]byte, 8192)
	for {
		n, err := syscall.ReadDirent(dir, buf)
		if err != nil || n == 0 {
			return end
		}
		_, _, names := syscall.ParseDirent(buf[:n], -1, nil)
		for _, name := range names {
			end = max(end, number(name)+1)
		}
	}
}

func number(digits string) (n uintptr) {
	for i := range len(digits) {
		n = n*10 + uintptr(digits[i]-'0')
	}
	return n
}

// guard waits for the shim's death, and then becomes what cleans up.
//
//go:nosplit
//go:norace
//go:noinline
func (s *stage) guard() {
	call(syscall.SYS_SETSID, 0, 0, 0, 0) // which may be refused: see settle
	call(syscall.SYS_CHDIR, uintptr(unsafe.Pointer(unsafe.StringData(rootZ))), 0, 0, 0)
	s.strip()
	const hangUp, failed = 0x10, 0x8 // POLLHUP, POLLERR: reported also with no events asked for
	for s.guardian.watch.revents&(hangUp|failed) == 0 {
		call(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&s.guardian.watch)), 1, 0, 0)
	}
	s.guardian.makeRoom(s.lifeline + 1)
	s.succeed()
}

// strip opens what a guardian kills with, beside the pipe, and closes all else.
//
//go:nosplit
//go:norace
//go:noinline
func (s *stage) strip() {
	s.got, s.errno = call(syscall.SYS_OPENAT, s.into, uintptr(unsafe.Pointer(unsafe.StringData(killFileZ))), syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
	if s.errno != 0 {
		call(syscall.SYS_CLOSE, s.lifeline+1, 0, 0, 0)
	} else if s.got != s.lifeline+1 {
		call(syscall.SYS_DUP3, s.got, s.lifeline+1, syscall.O_CLOEXEC, 0)
	}
	s.closeOthers(0, s.lifeline, s.lifeline+1)
}

// makeRoom kills the run, and waits until there are tasks to be had again.
//
//go:nosplit
//go:norace
//go:noinline
func (g *guardian) makeRoom(kill uintptr) {
	// What comes next needs some CPU time and some threads, of which the run may have left none.
	call(syscall.SYS_SCHED_SETSCHEDULER, 0, schedRR, uintptr(unsafe.Pointer(&g.priority)), 0)
	if _, errno := call(syscall.SYS_WRITE, kill, uintptr(unsafe.Pointer(unsafe.StringData(killZ))), 1, 0); errno != 0 {
		return
	}
	// The dead count until they are waited for: there is room when so many children can be had at the same time.
	for g.tries = 0; g.tries < guardianTries && g.count < guardianThreads; g.tries++ {
		for g.count = 0; g.count < guardianThreads; g.count++ {
			pid, errno := call(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0)
			if errno != 0 {
				break
			}
			if pid == 0 {
				call(syscall.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&g.patience)), 0, 0, 0)
				call(syscall.SYS_EXIT_GROUP, 0, 0, 0, 0)
			}
			g.children[g.count&(guardianThreads-1)] = pid
		}
		for g.child = 0; g.child < g.count; g.child++ {
			call(syscall.SYS_KILL, g.children[g.child&(guardianThreads-1)], uintptr(syscall.SIGKILL), 0, 0)
			call(syscall.SYS_WAIT4, g.children[g.child&(guardianThreads-1)], 0, 0, 0)
		}
		if g.count < guardianThreads {
			call(syscall.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&g.pause)), 0, 0, 0)
		}
	}
}

// succeed becomes what cleans up.
//
//go:nosplit
//go:norace
//go:noinline
func (s *stage) succeed() {
	if s.lifeline == guardianFD {
		call(syscall.SYS_FCNTL, guardianFD, syscall.F_SETFD, 0, 0) // it is close-on-exec
	} else {
		call(syscall.SYS_DUP3, s.lifeline, guardianFD, 0, 0)
	}
	call(syscall.SYS_EXECVE, uintptr(unsafe.Pointer(unsafe.StringData(exeFileZ))), uintptr(unsafe.Pointer(&s.guardian.argv)), uintptr(unsafe.Pointer(&s.guardian.envv)), 0)
	for {
		call(syscall.SYS_EXIT_GROUP, 127, 0, 0, 0)
	}
}
