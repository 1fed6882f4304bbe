package reexec

import (
	"runtime"
	"syscall"
	"unsafe"

	"github.com/cgshim/cgshim/reexec/internal/nofile"
)

// A guardian outlives the shim. The parent-death signal ends the program when the shim is killed, but not
// what the program has started, and nobody would remove the groups. So the stage, as its last act, clones a
// child for the shim that does nothing but wait for the end of a pipe, of which the shim alone has the other
// end. That is the shim's death, however it came: then the guardian executes this binary once more, which
// reads from the pipe what the shim has left there (Bequeath), and cleans up. Before there is a guardian, and
// when the launch has failed, the stage does the same itself.
//
// It is no second Go runtime until then, but a copy of the stage's memory, of which it gives back what it
// can, that sits in one system call. The rules of child.go apply to it. It is in a session of its own, so that
// a signal to the caller's process group or a terminal's end spares it; it has no descriptor but the pipe and the run's
// cgroup.kill, so that nobody waits for its end of theirs; and all signals are blocked.
//
// By that file it kills the run at once, where there is one: a Go process needs threads to start, and the run may have
// all the processes that a limit above leaves.
type guardian struct {
	self       record // what the shim hears first
	watch      pollfd
	argv, envv [2]*byte
	socket     uintptr
	lifeline   uintptr // our end of the pipe
	into       uintptr // the run's cgroup2 directory, if there is one
	fds        uintptr // where to stop to close descriptors, for kernels without close_range
	priority   int32   // struct sched_param
	pause      syscall.Timespec
	patience   syscall.Timespec // of children that nobody kills
	children   [guardianThreads]uintptr
	// Scratch, for which the stack has no room; and so run is in pieces.
	got                 uintptr
	errno               syscall.Errno
	tries, count, child int
	spare               [4]memory
}

// memory is an address and a length.
type memory struct{ start, size uintptr }

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

// guard clones the guardian, and tells the shim its pid; so does the guardian, as with the program. Signals
// are blocked by now. If there is no room for one more process, the stage stays.
func guard() {
	g := newGuardian()
	var local byte
	g.spare = spareMemory(g, uintptr(unsafe.Pointer(&local)))
	pid, errno := g.clone()
	if errno != 0 {
		guardAsStage()
	}
	g.self.pid = int64(pid)
	send(&g.self)
	runtime.KeepAlive(g)
}

// guardAsStage makes the stage the guardian, with all that a Go process needs. It does not return.
func guardAsStage() { newGuardian().run() }

// The strings are in the binary: the guardian gives its heap back.
const (
	exeFileZ      = exeFile + "\x00"
	guardianNameZ = guardianName + "\x00"
	guardianVarZ  = guardianVar + "\x00"
	rootZ         = "/\x00"
	killFileZ     = "cgroup.kill\x00"
	killZ         = "1\x00"
)

func newGuardian() *guardian {
	g := &guardian{socket: uintptr(socket), lifeline: uintptr(lifeline), fds: uintptr(lifeline) + 1, into: uintptr(into), priority: 1}
	g.pause.Nsec, g.patience.Sec = 20e6, 1
	if nofile.Known {
		g.fds = uintptr(min(nofile.Original[0], 1<<16))
	}
	g.argv[0] = unsafe.StringData(guardianNameZ)
	g.envv[0] = unsafe.StringData(guardianVarZ)
	g.self.step = stepGuardian
	g.watch.fd = int32(lifeline)
	return g
}

// clone is launch's little brother: see there.
//
//go:nosplit
//go:norace
//go:noinline
func (g *guardian) clone() (pid uintptr, errno syscall.Errno) {
	pid, errno = call(syscall.SYS_CLONE, syscall.CLONE_PARENT, 0, 0, 0)
	if errno == 0 && pid == 0 {
		g.run()
	}
	return pid, errno
}

// run waits for the shim's death, and then becomes what cleans up.
//
//go:nosplit
//go:norace
//go:noinline
func (g *guardian) run() {
	pid, _ := call(syscall.SYS_GETPID, 0, 0, 0, 0)
	g.self.pid = int64(pid)
	call(syscall.SYS_WRITE, g.socket, uintptr(unsafe.Pointer(&g.self)), recordSize, 0)
	// At once: for the shim, the end of the socket is the program's execve.
	call(syscall.SYS_CLOSE, g.socket, 0, 0, 0)
	call(syscall.SYS_PRCTL, prSetName, uintptr(unsafe.Pointer(unsafe.StringData(guardianNameZ))), 0, 0)
	call(syscall.SYS_SETSID, 0, 0, 0, 0)
	call(syscall.SYS_CHDIR, uintptr(unsafe.Pointer(unsafe.StringData(rootZ))), 0, 0, 0)
	g.strip()
	g.giveBack()
	const hangUp, failed = 0x10, 0x8 // POLLHUP, POLLERR: reported also with no events asked for
	for g.watch.revents&(hangUp|failed) == 0 {
		call(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&g.watch)), 1, 0, 0)
	}
	g.makeRoom()
	g.succeed()
}

// strip opens what a guardian kills with, beside the pipe, and closes all else.
//
//go:nosplit
//go:norace
//go:noinline
func (g *guardian) strip() {
	g.got, g.errno = call(syscall.SYS_OPENAT, g.into, uintptr(unsafe.Pointer(unsafe.StringData(killFileZ))), syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
	if g.errno != 0 {
		call(syscall.SYS_CLOSE, g.lifeline+1, 0, 0, 0)
	} else if g.got != g.lifeline+1 {
		call(syscall.SYS_DUP3, g.got, g.lifeline+1, syscall.O_CLOEXEC, 0)
	}
	_, g.errno = call(sysCloseRange, 0, g.lifeline-1, 0, 0)
	if g.errno == 0 {
		_, g.errno = call(sysCloseRange, g.lifeline+2, ^uintptr(0)>>32, 0, 0)
	}
	for fd := uintptr(0); g.errno != 0 && fd < g.fds; fd++ {
		if fd != g.lifeline && fd != g.lifeline+1 {
			call(syscall.SYS_CLOSE, fd, 0, 0, 0)
		}
	}
}

// giveBack gives memory back that a guardian does not need.
//
//go:nosplit
//go:norace
//go:noinline
func (g *guardian) giveBack() {
	for i := range g.spare {
		if m := &g.spare[i&3]; i == len(g.spare)-1 {
			call(syscall.SYS_MUNMAP, m.start, m.size, 0, 0)
		} else if m.size != 0 {
			call(syscall.SYS_MADVISE, m.start, m.size, madvDontNeed, 0)
		}
	}
}

// makeRoom kills the run, and waits until there are tasks to be had again.
//
//go:nosplit
//go:norace
//go:noinline
func (g *guardian) makeRoom() {
	// What comes next needs some CPU time and some threads, of which the run may have left none.
	call(syscall.SYS_SCHED_SETSCHEDULER, 0, schedRR, uintptr(unsafe.Pointer(&g.priority)), 0)
	g.got, g.errno = call(syscall.SYS_WRITE, g.lifeline+1, uintptr(unsafe.Pointer(unsafe.StringData(killZ))), 1, 0)
	if g.errno != 0 {
		return
	}
	// The dead count until they are waited for: there is room when so many children can be had at the same time.
	for g.tries = 0; g.tries < guardianTries && g.count < guardianThreads; g.tries++ {
		for g.count = 0; g.count < guardianThreads; g.count++ {
			g.got, g.errno = call(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0)
			if g.errno != 0 {
				break
			}
			if g.got == 0 {
				call(syscall.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&g.patience)), 0, 0, 0)
				call(syscall.SYS_EXIT_GROUP, 0, 0, 0, 0)
			}
			g.children[g.count&(guardianThreads-1)] = g.got
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
func (g *guardian) succeed() {
	// The stage has marked it close-on-exec, and perhaps moved it.
	if g.lifeline == guardianFD {
		call(syscall.SYS_FCNTL, guardianFD, syscall.F_SETFD, 0, 0)
	} else {
		call(syscall.SYS_DUP3, g.lifeline, guardianFD, 0, 0)
	}
	call(syscall.SYS_EXECVE, uintptr(unsafe.Pointer(unsafe.StringData(exeFileZ))), uintptr(unsafe.Pointer(&g.argv)), uintptr(unsafe.Pointer(&g.envv)), 0)
	for {
		call(syscall.SYS_EXIT_GROUP, 127, 0, 0, 0)
	}
}

// spareMemory is what a guardian can do without of the memory that it is a copy of: first, of the heap arena,
// what is around the guardian itself and the stack that it runs on; last, all above the arena, if the code is
// below. That is what the Go runtime has mapped for itself, and takes most of the time in which a guardian
// ends, and the shim waits for that. With cgo, thread-local storage is up there: nothing then.
func spareMemory(g *guardian, stack uintptr) (spare [4]memory) {
	const arena = 64 << 20 // runtime.heapArenaBytes
	const page = 64 << 10  // the largest that there are
	function := spareMemory
	code, heap := **(**uintptr)(unsafe.Pointer(&function)), uintptr(unsafe.Pointer(g))
	if usesCgo || heap/arena != stack/arena || code > heap {
		return spare
	}
	low, high := min(heap, stack), max(heap, stack)
	begin, end := heap/arena*arena, (heap/arena+1)*arena
	gap := func(from, to uintptr) memory {
		if from = (from + page - 1) / page * page; from >= to/page*page {
			return memory{}
		}
		return memory{from, to/page*page - from}
	}
	const around = page / 2 // of each: more than a guardian, or the frames of functions that may not split the stack
	spare[0] = gap(begin, low-around)
	spare[1] = gap(low+around, high-around)
	spare[2] = gap(high+around, end)
	spare[3] = memory{end, addressSpaceEnd - end}
	return spare
}
