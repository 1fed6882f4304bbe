package reexec

import (
	"errors"
	"syscall"
	"unsafe"
)

// A Spec says what to run. It holds no descriptors and no cgroups: those come with Launch.
type Spec struct {
	// Args is the argument list, the program first. It must not be empty. A program without a slash is
	// looked up in Env's PATH, after Dir was entered; without PATH in /bin and /usr/bin, as execvp does.
	Args []string
	// Env is the program's whole environment, as "key=value". Nil is an empty environment.
	Env []string
	// Dir is the working directory. Empty is the caller's.
	Dir string
	// AllowNewPrivs lets set-user-ID programs and file capabilities work. False sets no_new_privs.
	AllowNewPrivs bool

	parent int    // the shim's pid; the program exits if its parent is another process by then
	mask   uint64 // the signal mask that the program gets
}

// A Join holds the open descriptors through which the program enters its cgroups. The zero Join enters
// none. The caller keeps and closes them.
type Join struct {
	// Into and Procs are a cgroup2 directory, in which the program is born, and its cgroup.procs, for
	// kernels without CLONE_INTO_CGROUP. Both or neither; 0 is neither.
	Into, Procs int
	// Tasks are cgroup v1 tasks files open for writing, to which the program writes 0 as its first act.
	Tasks []int

	noInto bool // act as if the kernel had no clone3; for tests
}

// A Program was started by Launch. It is a child of the calling process, which has to wait for it.
type Program struct {
	PID int
	// StartedNanos is CLOCK_MONOTONIC, in nanoseconds, just before the process was created.
	StartedNanos int64
}

// An Error says which step of a launch failed, and why.
type Error struct {
	Step  Step
	Errno syscall.Errno
	// Arg is what the step worked on: the program, the directory; empty where there is nothing to name.
	Arg string
	// Index is, for StepJoin, which descriptor failed: 0 for Join.Procs if given, then Join.Tasks.
	Index int
}

func (e *Error) Error() string {
	if e.Arg == "" {
		return e.Step.String() + ": " + e.Errno.Error()
	}
	return e.Step.String() + " \"" + e.Arg + "\": " + e.Errno.Error()
}

// Unwrap returns the errno, so that errors.Is(err, fs.ErrNotExist) works.
func (e *Error) Unwrap() error { return e.Errno }

// A Stage is a re-execution of this binary that is waiting for its orders. It is not safe for
// concurrent use.
type Stage struct {
	pid  int
	sock int
	spec *Spec
}

// Start starts a stage. The caller's goroutine must be locked to its thread (runtime.LockOSThread), and
// the thread must live as long as the program: the parent-death signal of both follows that thread.
// Every Stage has to end in Launch or Abort.
func Start() (*Stage, error) {
	socks, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, stageError(err)
	}
	defer closeFD(socks[1])
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"cgshim-stage"}, &syscall.ProcAttr{
		// A stage lives for a millisecond: it never needs the garbage collector, whose threads would
		// only delay it. Without disablethp its heap may be huge pages, and the program's ru_maxrss,
		// which remembers the copy of the stage that it was before execve, 4 MiB.
		Env:   []string{stageEnv + "=" + stageEnvFD, "GOGC=off", "GODEBUG=disablethp=1"},
		Files: []uintptr{0, 1, 2, uintptr(socks[1])},
		Sys:   &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		closeFD(socks[0])
		return nil, stageError(err)
	}
	return &Stage{pid: pid, sock: socks[0]}, nil
}

// Prepare hands the spec over, so that the stage can do everything that needs no cgroup. What fails
// there is reported by Launch. The program gets the signal mask of the calling thread.
func (s *Stage) Prepare(spec *Spec) error {
	if err := spec.check(); err != nil {
		return err
	}
	complete := *spec
	complete.parent = syscall.Getpid()
	_, _, errno := syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, 0, 0, uintptr(unsafe.Pointer(&complete.mask)), sigsetSize, 0, 0)
	if errno != 0 {
		return stageError(errno)
	}
	s.spec = spec
	return stageError(sendAll(s.sock, complete.encode(), nil))
}

// check refuses what neither the encoding nor the kernel can carry: an empty list, and NUL bytes, which
// would end a string early and make two of one.
func (s *Spec) check() error {
	if len(s.Args) == 0 {
		return &Error{Step: StepExec, Errno: syscall.EINVAL}
	}
	if hasByte(s.Dir, 0) {
		return &Error{Step: StepChdir, Errno: syscall.EINVAL, Arg: s.Dir}
	}
	for _, list := range [][]string{s.Args, s.Env} {
		for _, str := range list {
			if hasByte(str, 0) {
				return &Error{Step: StepExec, Errno: syscall.EINVAL, Arg: str}
			}
		}
	}
	return nil
}

// Launch starts the program inside the cgroups of join and returns when it is in execve. On error
// nothing is running any more, and the error is an *Error.
func (s *Stage) Launch(join Join) (Program, error) {
	if s.pid == 0 || s.spec == nil {
		s.Abort()
		return Program{}, stageError(syscall.EINVAL) // Abort was called, or Prepare was not, or failed
	}
	mode, fds := joinTasks, join.Tasks
	if join.Into != 0 {
		mode, fds = joinInto, append([]int{join.Into, join.Procs}, join.Tasks...)
		if join.noInto {
			mode = joinNoInto
		}
	}
	sendErr := sendAll(s.sock, appendUint64(nil, mode), fds)
	if sendErr != nil {
		// The stage would wait for the message for ever. If it is gone already, it has said why.
		_ = syscall.Shutdown(s.sock, syscall.SHUT_WR)
	}
	var program Program
	launchErr := s.readRecords(&program)
	s.Abort()
	switch {
	case launchErr != nil:
		reap(program.PID)
		return Program{}, launchErr
	case program.PID == 0:
		return Program{}, stageError(orEIO(sendErr))
	}
	return program, nil
}

// readRecords reads until end of file: the stage is gone, and the program in execve or gone.
func (s *Stage) readRecords(program *Program) error {
	var failed error
	for {
		var r record
		n, err := readFull(s.sock, r.bytes())
		if errors.Is(err, syscall.ECONNRESET) {
			err = nil // end of file, of a stage that gave up before it read everything
		}
		if err != nil {
			return stageError(err)
		}
		if n < int(recordSize) {
			return failed
		}
		if r.step == stepStarted {
			program.PID, program.StartedNanos = int(r.pid), r.nanos
			continue
		}
		failed = s.failure(r)
	}
}

func (s *Stage) failure(r record) error {
	e := &Error{Step: r.step, Errno: syscall.Errno(r.errno)}
	switch r.step {
	case StepChdir:
		e.Arg = s.spec.Dir
	case StepLookup, StepExec:
		e.Arg = s.spec.Args[0]
	case StepJoin:
		e.Index = int(r.pid)
	}
	return e
}

// Abort ends a stage that was not launched and waits for it. After Launch it does nothing.
func (s *Stage) Abort() {
	if s.pid == 0 {
		return
	}
	closeFD(s.sock)
	// After Launch it has exited, or is about to. Before, it may hang, in a chdir to a dead network file
	// system for example. It is our unreaped child, so that the pid is its own.
	_ = syscall.Kill(s.pid, syscall.SIGKILL)
	reap(s.pid)
	s.pid = 0
}

func reap(pid int) {
	if pid == 0 {
		return
	}
	for {
		if _, err := syscall.Wait4(pid, nil, 0, nil); err != syscall.EINTR {
			return
		}
	}
}

func closeFD(fd int) { _ = syscall.Close(fd) } // nothing was written that close could lose

func stageError(err error) error {
	if err == nil {
		return nil
	}
	return &Error{Step: StepStage, Errno: errnoOf(err)}
}

func orEIO(err error) error {
	if err == nil {
		return syscall.EIO
	}
	return err
}
