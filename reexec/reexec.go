package reexec

import (
	"errors"
	"runtime"
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

// A Stage is a process that is waiting for its orders: a copy of this one, see Fork, or of a re-execution of this binary.
// It is not safe for concurrent use, but for Interrupt.
type Stage struct {
	// Stay keeps the stage after a Launch for the next one, until Abort. Set it before the first.
	Stay bool
	// Slow is called by a Launch that takes longer than 20 ms, once; a millisecond is what one takes, unless it is for a file
	// system that does not answer. Nil is nobody.
	Slow func()
	// Terminal says that the caller of Start or Fork has a controlling terminal.
	Terminal bool

	pid     int     // 0 is not known yet, or reaped
	base    uintptr // where an order has to fit in the stage's memory; 0 is not known yet
	boot    int     // the re-execution that clones the stage; 0 without, or reaped
	sock    int     // 0 when it has ended
	spec    *Spec
	guarded bool
	ordered bool  // it has got an order, and does not stay
	stuck   []int // see Stuck

	waiting bool // a Launch, which has not called Slow

	ending      sync.Mutex // what Interrupt shares: boot, pid, and
	launching   bool       // a program that there is, is not reaped
	interrupted bool
	over        bool // Interrupt has nothing to do any more

	alive  int // our end of the guardian's pipe
	shared *shared
}

// early is the stage that Fork has made, for Start.
var early *Stage

// Fork clones a stage from this process, for the next Start with a guardian: that is five times as quick as a
// re-execution, and the stage is there by the time that it is needed. It is for a process that is young: call it in the
// init of a package that is initialised early, because it does not import what is not. What has not become a run's stage by
// the end has to be ended by Discard. Without a terminal the stage is in a session of its own, and Spec.NewSession has to
// be true.
//
// args are os.Args, of which the stage is a copy, too: it has another name in their place, for ps(1) and pkill(1).
//
// The main thread becomes the goroutine's that calls it, for good. When it fails, Start does what it does otherwise.
func Fork(args []string) {
	if _, successor := syscall.Getenv(guardianEnv); successor {
		return
	}
	runtime.LockOSThread()
	sock, pipe, ends, err := connect(true)
	if err != nil {
		return
	}
	defer ends.close()
	terminal := onTerminal()
	memory, errno := newStage(ends.sock, ends.pipe, true, -1)
	if errno == 0 {
		defer memory.forget()
		memory.leader, memory.flags = !terminal, uintptr(syscall.SIGCHLD)
		memory.title = argumentArea(args)
		var pid uintptr
		if pid, errno = memory.fork(); errno == 0 {
			early = &Stage{pid: int(pid), base: uintptr(unsafe.Pointer(&memory.order)), shared: memory.shared, sock: sock, alive: pipe, guarded: true, Terminal: terminal}
			return
		}
	}
	if memory != nil {
		memory.shared.unmap()
	}
	closeFD(sock)
	closeFD(pipe)
}

// argumentArea is where the kernel has put the arguments, one behind the other: the strings are still there.
func argumentArea(args []string) []byte {
	size := 0
	for _, arg := range args {
		if unsafe.StringData(arg) != (*byte)(unsafe.Add(unsafe.Pointer(unsafe.StringData(args[0])), size)) {
			return nil // these are others
		}
		size += len(arg) + 1
	}
	if size == 0 {
		return nil
	}
	return unsafe.Slice(unsafe.StringData(args[0]), size)
}

// onTerminal says whether this process has a controlling terminal, see proc_pid_stat(5).
func onTerminal() bool {
	var b [1024]byte
	fd, err := syscall.Open("/proc/self/stat", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer closeFD(fd)
	n, _ := readFull(fd, b[:])
	// pid (comm) state ppid pgrp session tty_nr, and comm may hold anything.
	at := n - 1
	for at >= 0 && b[at] != ')' {
		at--
	}
	for fields := 0; at >= 0 && at+1 < n; at++ {
		if b[at] == ' ' {
			fields++
		}
		if fields == 5 {
			return b[at+1] != '0'
		}
	}
	return false
}

// Discard ends the stage that Fork has made, if no Start has taken it.
func Discard() {
	if early != nil {
		early.Dismiss()
		early = nil
	}
}

// ends are the descriptors that a stage has.
type ends struct{ sock, pipe int }

func (e ends) close() {
	closeFD(e.sock)
	if e.pipe != 0 {
		closeFD(e.pipe)
	}
}

// connect makes the socket pair, and the guardian's pipe.
func connect(guarded bool) (sock, pipe int, stage ends, err error) {
	socks, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil || !guarded {
		return socks[0], 0, ends{sock: socks[1]}, err
	}
	var lifeline [2]int
	if err := syscall.Pipe2(lifeline[:], syscall.O_CLOEXEC); err != nil {
		closeFD(socks[0])
		closeFD(socks[1])
		return 0, 0, ends{}, err
	}
	return socks[0], lifeline[1], ends{socks[1], lifeline[0]}, nil
}

// Start starts a stage, or takes the one of Fork. The caller's goroutine must be locked to its thread
// (runtime.LockOSThread), and the thread must live as long as the program: the parent-death signal of both follows
// that thread. Every Stage has to end in Launch or Abort, and in Dismiss.
//
// With a guardian, this binary is executed once more when the caller dies before Dismiss, for cleaning up
// what Bequeath has told: see Will.
func Start(guarded bool) (*Stage, error) {
	if s := early; guarded && s != nil {
		early = nil
		return s, nil
	}
	s := &Stage{guarded: guarded, Terminal: onTerminal()}
	file, err := s.share()
	if err != nil {
		return nil, stageError(err)
	}
	defer closeFD(file)
	var theirs ends
	if s.sock, s.alive, theirs, err = connect(guarded); err != nil {
		s.shared.unmap()
		return nil, stageError(err)
	}
	defer theirs.close()
	attr := &syscall.ProcAttr{
		// It lives for a millisecond, and never needs the garbage collector, whose threads would only delay it. Without
		// disablethp its heap may be huge pages, and the program's ru_maxrss, which remembers the copy of the
		// stage that it was before execve, 4 MiB.
		Env:   []string{stageEnv + "=" + stageEnvFD, "GOGC=off", "GODEBUG=disablethp=1"},
		Files: []uintptr{0, 1, 2, uintptr(theirs.sock)},
		Sys:   &syscall.SysProcAttr{},
	}
	if guarded {
		attr.Files = append(attr.Files, uintptr(theirs.pipe))
		attr.Env = append(attr.Env, guardianVar)
		// Until there is a guardian it is the stage that cleans up after us: also if our whole process group is killed.
		attr.Sys.Setpgid = syscall.Getpgrp() != 0
	}
	attr.Files = append(attr.Files, uintptr(file))
	limitWaiting(s.sock, syscall.Timeval{Usec: slowMicros})
	if s.boot, err = syscall.ForkExec(exeFile, []string{guardianName}, attr); err != nil {
		closeFD(s.sock)
		s.closeAlive()
		s.shared.unmap()
		return nil, stageError(err)
	}
	return s, nil
}

// share maps a page that a re-execution can map, too, by the file that is returned.
func (s *Stage) share() (file int, err error) {
	const cloexec = 1 // MFD_CLOEXEC
	name := []byte("cgshim-stage\x00")
	fd, _, errno := syscall.RawSyscall(sysMemfd, uintptr(unsafe.Pointer(&name[0])), cloexec, 0)
	if errno != 0 {
		return -1, errno
	}
	if err = syscall.Ftruncate(int(fd), sharedSize); err == nil {
		if s.shared, errno = mapShared(0, 0, int(fd)); errno != 0 {
			err = errno
		}
	}
	if err != nil {
		closeFD(int(fd))
	}
	return int(fd), err
}

// sharedFD is that file in the re-execution.
func sharedFD(guarded bool) int {
	if guarded {
		return guardianFD + 1
	}
	return stageFD + 1
}

// greet waits until the stage of a re-execution is there.
func (s *Stage) greet() error {
	if s.base != 0 {
		return nil
	}
	var r record
	n, err := s.readRecord(s.sock, &r)
	switch {
	case err != nil:
		return stageError(err)
	case n < int(recordSize):
		return stageError(syscall.EIO)
	case r.step != stepHello:
		return s.failure(r)
	}
	s.note(&s.pid, int(r.pid))
	s.base = uintptr(r.base)
	s.reapSoon(s.take(&s.boot))
	return nil
}

// note puts a child where Interrupt finds it.
func (s *Stage) note(child *int, pid int) {
	s.ending.Lock()
	defer s.ending.Unlock()
	*child = pid
	if s.interrupted {
		kill(pid)
	}
}

// take takes a child away from there: it is about to be reaped, and its number may be another's then.
func (s *Stage) take(child *int) (pid int) {
	s.ending.Lock()
	defer s.ending.Unlock()
	pid, *child = *child, 0
	return pid
}

// Prepare takes the spec of the next Launch. The program gets the signal mask of the calling thread.
func (s *Stage) Prepare(spec *Spec) error {
	s.spec = nil
	if err := spec.check(); err != nil {
		return err
	}
	complete := *spec
	complete.parent, complete.pgrp = syscall.Getpid(), syscall.Getpgrp()
	_, _, errno := syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, 0, 0, uintptr(unsafe.Pointer(&complete.mask)), sigsetSize, 0, 0)
	if errno != 0 {
		return stageError(errno)
	}
	s.spec = &complete
	return nil
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
// nothing is running any more, but what Stuck says, and the error is an *Error. The stage is its guardian then, or ends
// if it has none; or it stays. A stage that could not be talked to has ended, see Ended.
func (s *Stage) Launch(join Join, descriptors Descriptors) (Program, error) {
	if s.sock == 0 || s.spec == nil {
		s.Abort()
		return Program{}, stageError(syscall.EINVAL) // Abort was called, or Prepare was not, or failed
	}
	s.waiting = true
	program, sendErr, err := s.order(join, descriptors)
	s.waiting = false
	lost := program.PID == 0 && err == nil // it has gone without a word
	if s.launched() {
		err = stageError(syscall.EINTR)
		kill(program.PID) // our unreaped child, of which Interrupt may not have known
	}
	var e *Error
	if !s.Stay || lost || sendErr != nil || errors.As(err, &e) && e.Step == StepStage {
		s.Abort()
	}
	switch {
	case err != nil:
		s.reapSoon(program.PID)
		return Program{}, err
	case lost:
		if index, closed := descriptors.firstClosed(); closed {
			return Program{}, &Error{Step: StepFD, Errno: syscall.EBADF, Index: index}
		}
		return Program{}, stageError(orEIO(sendErr))
	}
	return program, nil
}

// order sends the stage its order, and waits for what comes of it.
func (s *Stage) order(join Join, descriptors Descriptors) (program Program, sendErr, err error) {
	if err := s.greet(); err != nil {
		return program, nil, err
	}
	b, fds, err := s.compose(join, descriptors)
	if err != nil {
		return program, nil, err
	}
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return program, nil, stageError(err)
	}
	limitWaiting(pair[0], syscall.Timeval{Usec: slowMicros})
	s.begin()
	if len(b) > socketRoom {
		s.beSlow() // the stage could make us wait before
	}
	h := header{size: uint64(len(b))}
	sendErr = sendAll(s.sock, append(h.bytes(), b...), append([]int{pair[1]}, fds...))
	closeFD(pair[1])
	if sendErr == nil {
		s.ordered = !s.Stay
	} else {
		// The stage would wait for the rest for ever. If it is gone already, it has said why.
		_ = syscall.Shutdown(s.sock, syscall.SHUT_WR)
	}
	err = s.readRecords(pair[0])
	closeFD(pair[0])
	program = Program{PID: s.shared.program(), StartedNanos: s.shared.nanos, Born: s.shared.born != 0}
	return program, sendErr, err
}

// slowMicros is when a launch is slow, deadMicros how long who was killed has to say a last word, and socketRoom what can
// be sent to a stage that does not read yet.
const (
	slowMicros = 20_000
	deadMicros = 500_000
	socketRoom = 64 << 10
)

// beSlow calls Slow, if it was not called yet.
func (s *Stage) beSlow() {
	if s.Slow != nil && s.waiting {
		s.waiting = false
		s.Slow()
	}
}

// limitWaiting has read return after a time, with EAGAIN.
func limitWaiting(sock int, timeout syscall.Timeval) {
	_ = syscall.SetsockoptTimeval(sock, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &timeout)
}

// begin is the launch's.
func (s *Stage) begin() {
	s.ending.Lock()
	defer s.ending.Unlock()
	*s.shared = shared{}
	s.launching = true
}

// launched says whether a launch was interrupted before it was over.
func (s *Stage) launched() (interrupted bool) {
	s.ending.Lock()
	defer s.ending.Unlock()
	s.launching, s.over = false, s.ordered
	return s.interrupted
}

func (s *Stage) wasInterrupted() bool {
	s.ending.Lock()
	defer s.ending.Unlock()
	return s.interrupted
}

// PID is the stage's until Launch or Abort, then 0, and if there is none. It waits for a re-execution's.
func (s *Stage) PID() int {
	if s.sock == 0 || s.greet() != nil {
		return 0
	}
	return s.pid
}

// Ready says whether a stage that stays can take another order: nobody has interrupted, killed or stopped it.
func (s *Stage) Ready() bool {
	if s.PID() == 0 || s.wasInterrupted() {
		return false
	}
	const pPid, stopped, exited, noWait = 1, 2, 4, 0x1000000 // P_PID, WSTOPPED, WEXITED, WNOWAIT
	var info struct {                                        // siginfo_t, see waitid(2)
		signo, errno, code, _ int32
		pid                   int32
		_                     [108]byte
	}
	_, errno := call(syscall.SYS_WAITID, pPid, uintptr(s.pid), uintptr(unsafe.Pointer(&info)), stopped|exited|noWait|syscall.WNOHANG)
	return errno == 0 && info.pid == 0
}

// Ended says whether there can be no other Launch.
func (s *Stage) Ended() bool { return s.sock == 0 }

// Interrupt makes a Launch that is under way in another goroutine fail, with EINTR: without it, a stage or a
// program that waits for a file system which does not answer is waited for. When the launch is over it does nothing; a
// stage that stays it ends.
func (s *Stage) Interrupt() {
	s.ending.Lock()
	defer s.ending.Unlock()
	if s.over {
		return
	}
	s.interrupted = true
	// Their death is the end of file that Launch reads until. To shut the sockets down instead would hide a stage that
	// has not told its pid yet.
	kill(s.boot)
	kill(s.pid)
	if s.launching {
		kill(s.shared.program())
	}
}

// kill kills a child that was not reaped.
func kill(pid int) {
	if pid != 0 {
		_ = syscall.Kill(pid, syscall.SIGKILL)
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

// readRecords reads until end of file: the stage is done, and the program in execve or gone.
func (s *Stage) readRecords(sock int) error {
	var failed error
	for {
		var r record
		n, err := s.readRecord(sock, &r)
		if errors.Is(err, syscall.ECONNRESET) {
			err = nil // end of file, of a stage that gave up before it read everything
		}
		if err != nil {
			return stageError(err)
		}
		if n < int(recordSize) {
			return failed
		}
		failed = s.failure(r)
	}
}

// readRecord waits for a record; after an interrupt, not for ever: what was killed may be in an uninterruptible sleep.
func (s *Stage) readRecord(sock int, r *record) (n int, err error) {
	for last := false; ; {
		n, err = readFull(sock, r.bytes())
		if !errors.Is(err, syscall.EAGAIN) || last {
			return n, err
		}
		last = s.wasInterrupted()
		s.beSlow()
		limitWaiting(sock, syscall.Timeval{Usec: deadMicros})
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

// Abort ends a stage that was not launched, or that stays, and waits for it. After another Launch it does nothing.
func (s *Stage) Abort() {
	if s.sock == 0 {
		return
	}
	if !s.ordered {
		s.Interrupt() // it may hang, in a chdir to a dead network file system for example
	}
	if s.boot != 0 && s.greet() != nil { // which finds out whether it has cloned the stage
		s.reapSoon(s.take(&s.boot))
	}
	if !s.guarded || s.wasInterrupted() {
		s.reapSoon(s.take(&s.pid))
	}
	closeFD(s.sock) // not before: for a stage that waits, it is our death
	s.sock = 0
	s.ending.Lock()
	s.over = true
	s.ending.Unlock()
}

// Release tells the guardian that there is nothing to clean up any more, after Abort. It does not wait for its
// end, as Dismiss does.
func (s *Stage) Release() {
	s.Abort()
	kill(s.pid)
	s.closeAlive() // which ends it, too
}

// Dismiss is Release, and waits for the guardian.
func (s *Stage) Dismiss() {
	s.Release()
	reap(s.pid)
	s.pid = 0
	if s.shared != nil {
		s.shared.unmap()
		s.shared = nil
	}
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
