package reexec

import (
	"errors"
	"sync"
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
	// Rlimits are set right before execve, so that none can break the launch. Of several for one resource
	// the last one counts.
	Rlimits []Rlimit
	// Credential is whom the program runs as. Nil is the caller's user and groups.
	Credential *Credential
	// Affinity is the CPU mask, see sched_setaffinity(2): CPU n is bit n%64 of word n/64. It is set after
	// the cgroups were joined, in whose cpuset the kernel keeps it. Empty is the caller's.
	Affinity []uint64
	// AffinityOptional says that an affinity which the cpuset rules out is not to be had, and no error.
	AffinityOptional bool
	// NewNet gives the program a network namespace with nothing but loopback, which is up.
	NewNet bool
	// NewSession makes the program the leader of a session, see setsid(2). False leaves it in the caller's session and
	// process group, as a terminal's job control needs it; then it can have the kernel stop or hang up that group.
	NewSession bool

	parent int    // the shim's pid; the program exits if its parent is another process by then
	pgrp   int    // the shim's process group, for the program; 0 is one of another pid namespace, which the stage is in, too
	mask   uint64 // the signal mask that the program gets
}

// A Rlimit is a resource limit, see getrlimit(2). ^uint64(0) is unlimited.
type Rlimit struct {
	Resource   int
	Soft, Hard uint64
}

// A Credential is whom a program runs as, see credentials(7). It has no supplementary groups but Groups.
type Credential struct {
	UID, GID uint32
	Groups   []uint32
}

// Descriptors are what the program has open. Every other descriptor from 3 up is closed in it. The caller
// keeps and closes them.
type Descriptors struct {
	// Stdio become descriptors 0, 1 and 2. Nil is the caller's own.
	Stdio *[3]int
	// Keep are descriptors, from 3 up and at most 128, that the program has under the same numbers.
	Keep []int
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
	// Born says that it was created in Join.Into (CLONE_INTO_CGROUP), and did not have to join.
	Born bool
}

// An Error says which step of a launch failed, and why.
type Error struct {
	Step  Step
	Errno syscall.Errno
	// Arg is what the step worked on: the program, the directory; empty where there is nothing to name.
	Arg string
	// Index is, for StepJoin, which descriptor failed: 0 for Join.Procs if given, then Join.Tasks. For
	// StepRlimit it is the index in Spec.Rlimits, and for StepFD the one in Descriptors.Keep; or -1 for one
	// that is not there: the caller's RLIMIT_NOFILE, and stdio.
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
// concurrent use, but for Interrupt.
type Stage struct {
	pid   int // 0 after Abort
	sock  int
	spec  *Spec
	stuck []int // see Stuck

	ending      sync.Mutex // what Interrupt shares: the end of pid and sock, and
	interrupted bool

	guardian int // its pid
	alive    int // our end of its pipe
}

// Start starts a stage. The caller's goroutine must be locked to its thread (runtime.LockOSThread), and
// the thread must live as long as the program: the parent-death signal of both follows that thread.
// Every Stage has to end in Launch or Abort, and in Dismiss.
//
// With a guardian, this binary is executed once more when the caller dies before Dismiss, for cleaning up
// what Bequeath has told: see Will.
func Start(guarded bool) (*Stage, error) {
	s := &Stage{}
	socks, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, stageError(err)
	}
	defer closeFD(socks[1])
	s.sock = socks[0]
	attr := &syscall.ProcAttr{
		// A stage lives for a millisecond: it never needs the garbage collector, whose threads would
		// only delay it. Without disablethp its heap may be huge pages, and the program's ru_maxrss,
		// which remembers the copy of the stage that it was before execve, 4 MiB.
		Env:   []string{stageEnv + "=" + stageEnvFD, "GOGC=off", "GODEBUG=disablethp=1"},
		Files: []uintptr{0, 1, 2, uintptr(socks[1])},
		Sys:   &syscall.SysProcAttr{},
	}
	if guarded {
		var pipe [2]int
		if err := syscall.Pipe2(pipe[:], syscall.O_CLOEXEC); err != nil {
			closeFD(s.sock)
			return nil, stageError(err)
		}
		defer closeFD(pipe[0])
		s.alive = pipe[1]
		attr.Files = append(attr.Files, uintptr(pipe[0]))
		attr.Env = append(attr.Env, guardianVar)
		// Until there is a guardian it is the stage that cleans up after us: also if our whole process group is killed.
		attr.Sys.Setpgid = syscall.Getpgrp() != 0
	} else {
		attr.Sys.Pdeathsig = syscall.SIGKILL // there is nothing for it to do without us
	}
	if s.pid, err = syscall.ForkExec(exeFile, []string{guardianName}, attr); err != nil {
		closeFD(s.sock)
		s.closeAlive()
		return nil, stageError(err)
	}
	return s, nil
}

// Prepare hands the spec over, so that the stage can do everything that needs no cgroup. What fails
// there is reported by Launch. The program gets the signal mask of the calling thread.
func (s *Stage) Prepare(spec *Spec) error {
	if err := spec.check(); err != nil {
		return err
	}
	complete := *spec
	complete.parent, complete.pgrp = syscall.Getpid(), syscall.Getpgrp()
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
	for i, l := range s.Rlimits {
		if l.Resource < 0 || l.Resource >= rlimits {
			return &Error{Step: StepRlimit, Errno: syscall.EINVAL, Index: i}
		}
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
// nothing is running any more, but what Stuck says, and the error is an *Error.
func (s *Stage) Launch(join Join, descriptors Descriptors) (Program, error) {
	if s.pid == 0 || s.spec == nil {
		s.Abort()
		return Program{}, stageError(syscall.EINVAL) // Abort was called, or Prepare was not, or failed
	}
	order, fds, err := newOrder(join, descriptors)
	if err != nil {
		s.Abort()
		return Program{}, err
	}
	sendErr := sendAll(s.sock, order.bytes(), fds)
	if sendErr != nil {
		// The stage would wait for the message for ever. If it is gone already, it has said why.
		_ = syscall.Shutdown(s.sock, syscall.SHUT_WR)
	}
	var program Program
	launchErr := s.readRecords(&program)
	s.Abort()
	if s.interrupted {
		launchErr = stageError(syscall.EINTR)
		if program.PID != 0 {
			_ = syscall.Kill(program.PID, syscall.SIGKILL) // our unreaped child
		}
	}
	switch {
	case launchErr != nil:
		s.reapSoon(program.PID)
		return Program{}, launchErr
	case program.PID == 0:
		if index, closed := descriptors.firstClosed(); closed {
			return Program{}, &Error{Step: StepFD, Errno: syscall.EBADF, Index: index}
		}
		return Program{}, stageError(orEIO(sendErr))
	}
	return program, nil
}

// PID is the stage's until Launch or Abort, then 0.
func (s *Stage) PID() int { return s.pid }

// Interrupt makes a Launch that is under way in another goroutine fail, with EINTR: without it, a stage or a
// program that waits for a file system which does not answer is waited for. When the launch is over it does nothing.
func (s *Stage) Interrupt() {
	s.ending.Lock()
	defer s.ending.Unlock()
	if s.pid != 0 {
		s.interrupted = true
		_ = syscall.Shutdown(s.sock, syscall.SHUT_RDWR) // the end of file that Launch reads until
	}
}

// Stuck lists processes of a launch that was given up, which SIGKILL has not ended in time: they are in an
// uninterruptible sleep. They are waited for in the background.
func (s *Stage) Stuck() []int { return s.stuck }

// firstClosed finds the descriptor that can't be sent, as an index in Keep or -1.
func (d *Descriptors) firstClosed() (index int, found bool) {
	closed := func(fd int) bool {
		_, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0)
		return errno != 0
	}
	if d.Stdio != nil {
		for _, fd := range d.Stdio {
			if closed(fd) {
				return -1, true
			}
		}
	}
	for i, fd := range d.Keep {
		if closed(fd) {
			return i, true
		}
	}
	return 0, false
}

// newOrder is the launch message, and the descriptors that go with it.
func newOrder(join Join, descriptors Descriptors) (*launchOrder, []int, error) {
	order := &launchOrder{mode: joinTasks}
	var fds []int
	if join.Into != 0 {
		order.mode, fds = joinInto, []int{join.Into, join.Procs}
		if join.noInto {
			order.mode = joinNoInto
		}
	}
	fds = append(fds, join.Tasks...)
	order.joins = uint64(len(fds))
	if descriptors.Stdio != nil {
		fds = append(fds, descriptors.Stdio[:]...)
		order.stdio = uint64(len(descriptors.Stdio))
	}
	if len(join.Tasks) > maxTasks {
		return nil, nil, &Error{Step: StepJoin, Errno: syscall.E2BIG, Index: maxTasks}
	}
	if len(descriptors.Keep) > maxKeep {
		return nil, nil, &Error{Step: StepFD, Errno: syscall.EINVAL, Index: maxKeep}
	}
	for i, fd := range descriptors.Keep {
		if fd < stageFD {
			return nil, nil, &Error{Step: StepFD, Errno: syscall.EINVAL, Index: i}
		}
		order.keep[i] = int64(fd)
	}
	order.keeps = uint64(len(descriptors.Keep))
	return order, append(fds, descriptors.Keep...), nil
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
		switch r.step {
		case stepStarted:
			program.PID, program.StartedNanos, program.Born = int(r.pid), r.nanos, r.errno == bornInto
		case stepGuardian:
			s.guardian = int(r.pid)
		default:
			failed = s.failure(r)
		}
	}
}

func (s *Stage) failure(r record) error {
	e := &Error{Step: r.step, Errno: syscall.Errno(r.errno)}
	switch r.step {
	case StepChdir:
		e.Arg = s.spec.Dir
	case StepLookup, StepExec:
		e.Arg = s.spec.Args[0]
	case StepJoin, StepRlimit, StepFD:
		e.Index = int(r.pid)
	}
	return e
}

// Bequeath leaves a message for the guardian's successor, for Will: before whatever it is about is done. All
// messages together must fit into a pipe, 64 KiB.
func (s *Stage) Bequeath(message []byte) error {
	for len(message) > 0 && s.alive != 0 {
		n, err := syscall.Write(s.alive, message)
		if err != nil && err != syscall.EINTR {
			return stageError(err)
		}
		message = message[max(n, 0):]
	}
	return nil
}

// Abort ends a stage that was not launched and waits for it. After Launch it does nothing.
func (s *Stage) Abort() {
	if s.pid == 0 {
		return
	}
	if s.guardian != s.pid {
		// After Launch it has exited, or is about to. Before, it may hang, in a chdir to a dead network file
		// system for example. It is our unreaped child, so that the pid is its own.
		_ = syscall.Kill(s.pid, syscall.SIGKILL)
		s.reapSoon(s.pid)
	}
	s.ending.Lock()
	defer s.ending.Unlock()
	s.pid = 0
	closeFD(s.sock) // not before: for a stage that waits, it is our death
}

// Release tells the guardian that there is nothing to clean up any more, after Abort. It does not wait for its
// end, as Dismiss does.
func (s *Stage) Release() {
	s.Abort()
	if s.guardian != 0 {
		_ = syscall.Kill(s.guardian, syscall.SIGKILL) // our unreaped child
	}
	s.closeAlive() // which ends it, too
}

// Dismiss is Release, and waits for the guardian.
func (s *Stage) Dismiss() {
	s.Release()
	reap(s.guardian)
	s.guardian = 0
}

func (s *Stage) closeAlive() {
	if s.alive != 0 {
		closeFD(s.alive)
		s.alive = 0
	}
}

// dyingSeconds is how long reapSoon waits.
const dyingSeconds = 2

// reapSoon reaps a child that is about to end, or leaves that to the background.
func (s *Stage) reapSoon(pid int) {
	if pid == 0 {
		return
	}
	end := monotonic() + dyingSeconds*1e9
	fd, _, errno := syscall.RawSyscall(sysPidfdOpen, uintptr(pid), 0, 0)
	if errno == 0 {
		watch := pollfd{fd: int32(fd), events: pollIn}
		for errno = syscall.EINTR; errno == syscall.EINTR; {
			timeout := syscall.NsecToTimespec(max(end-monotonic(), 0))
			_, _, errno = syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&watch)), 1, uintptr(unsafe.Pointer(&timeout)), 0, 0, 0)
		}
		closeFD(int(fd))
		if errno == 0 && watch.revents != 0 {
			reap(pid)
			return
		}
	}
	for { // without one, this is how to wait
		got, err := syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
		if got == pid || err != nil && err != syscall.EINTR {
			return
		}
		if monotonic() >= end {
			s.stuck = append(s.stuck, pid)
			go reap(pid)
			return
		}
		pause := syscall.NsecToTimespec(2e6)
		_ = syscall.Nanosleep(&pause, nil)
	}
}

const (
	sysPidfdOpen = 434 // since Linux 5.3; the same number on every architecture
	pollIn       = 1
)

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
