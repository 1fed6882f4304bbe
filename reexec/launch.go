package reexec

import (
	"errors"
	"slices"
	"syscall"
	"unsafe"
)

// A Spec says what to run. It holds no descriptors and no cgroups: those come with Launch.
type Spec struct {
	// Args is the argument list, the program first. It must not be empty. A program without a slash is
	// looked up in Env's PATH, after Dir was entered; without PATH in /bin and /usr/bin, as execvp does: one that may not be
	// executed (EACCES) is gone past.
	Args []string
	// Env is the program's whole environment, as "key=value". Nil is an empty environment.
	Env []string
	// Dir is the working directory. Empty is the caller's. It is entered with the caller's rights; where those do not suffice, with
	// those of Credential's user.
	Dir string
	// AllowNewPrivs lets set-user-ID programs and file capabilities work. False sets no_new_privs.
	AllowNewPrivs bool
	// Rlimits are set right before execve, so that none can break the launch. Of several for one resource
	// the last one counts.
	Rlimits []Rlimit
	// Credential is whom the program runs as, without capabilities unless that is root; the program is looked up with the rights
	// that it leaves. Nil is the caller's user, groups and capabilities.
	Credential *Credential
	// Affinity is the CPU mask, see sched_setaffinity(2): CPU n is bit n%64 of word n/64. It is set after
	// the cgroups were joined, in whose cpuset the kernel keeps it. Empty is the caller's.
	Affinity []uint64
	// AffinityOptional says that an affinity which the cpuset rules out is not to be had, and no error.
	AffinityOptional bool
	// RulesetOptional says that a program which can't restrict itself by Descriptors.Ruleset starts all the same: see
	// Program.Unrestricted.
	RulesetOptional bool
	// NewNet gives the program a network namespace with nothing but loopback, which is up. A caller who may not make one gets it in a
	// user namespace, without capabilities; but not with AllowNewPrivs, which would do nothing in there.
	NewNet bool
	// Slow is called once by a Launch that takes longer than 20 ms; a millisecond is usual, unless a file system does not
	// answer. Nil is nobody.
	Slow func()
	// Meanwhile is called once the stage is at work, for what the caller has to do anyway before the program can end. It must
	// not wait for anything. Nil is nothing.
	Meanwhile func()
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
	// Ruleset is one of Landlock's, by which the program restricts itself before execve: see landlock(7). It does not have the
	// descriptor. 0 is none.
	Ruleset int
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
	// StartedNanos is CLOCK_MONOTONIC, in nanoseconds, just before the process was created; or, if execve had to wait for a
	// process that had the program's file open for writing (ETXTBSY), just before that was over.
	StartedNanos int64
	// Born says that it was created in Join.Into (CLONE_INTO_CGROUP), and did not have to join.
	Born bool
	// Unrestricted is why landlock_restrict_self(2) has failed, if Spec.RulesetOptional says that this is no error: E2BIG is a 17th
	// layer. 0 is that it has not.
	Unrestricted syscall.Errno
}

// An Error says which step of a launch failed, and why.
type Error struct {
	Step  Step
	Errno syscall.Errno
	// Arg is what the step worked on: the program, the directory; empty where there is nothing to name. With a Credential, a
	// program is named by its file, if there is one, or may be: in the caller's PATH it can be another one.
	Arg string
	// User, which the caller may set, is for whom it failed, in the message.
	User string
	// Index is, for StepJoin, which descriptor failed: 0 for Join.Procs if given, then Join.Tasks. For
	// StepRlimit it is the index in Spec.Rlimits, and for StepFD the one in Descriptors.Keep; or -1 for one
	// that is not there: the caller's RLIMIT_NOFILE, and stdio.
	Index int
}

func (e *Error) Error() string {
	text := e.Step.String()
	if e.Arg != "" {
		text += " \"" + e.Arg + "\""
	}
	if e.User != "" {
		text += " as user " + e.User
	}
	return text + ": " + e.Errno.Error()
}

// Unwrap returns the errno, so that errors.Is(err, fs.ErrNotExist) works.
func (e *Error) Unwrap() error { return e.Errno }

// check refuses what neither the encoding nor the kernel can carry: an empty list, and NUL bytes, which
// would end a string early and make two of one.
func (s *Spec) check() error {
	if len(s.Args) == 0 {
		return &Error{Step: StepExec, Errno: syscall.EINVAL}
	}
	if slices.Contains([]byte(s.Dir), 0) {
		return &Error{Step: StepChdir, Errno: syscall.EINVAL, Arg: s.Dir}
	}
	for i, l := range s.Rlimits {
		if l.Resource < 0 || l.Resource >= rlimits {
			return &Error{Step: StepRlimit, Errno: syscall.EINVAL, Index: i}
		}
	}
	for _, list := range [][]string{s.Args, s.Env} {
		for _, str := range list {
			if slices.Contains([]byte(str), 0) {
				return &Error{Step: StepExec, Errno: syscall.EINVAL, Arg: str}
			}
		}
	}
	return nil
}

// Launch starts the program inside the cgroups of join, with descriptors open, and returns when it is in execve. On error
// nothing is running any more, but what Stuck says, and the error is an *Error. The stage is its guardian then, or ends
// if it has none; or it stays. A stage that could not be talked to has ended, see Ready.
func (s *Stage) Launch(spec *Spec, join Join, descriptors Descriptors) (Program, error) {
	if err := spec.check(); err != nil {
		return Program{}, err
	}
	if !s.Ready() {
		return Program{}, stageError(syscall.EINVAL)
	}
	s.ready = s.options.Stay
	s.slow = spec.Slow
	program, err := s.order(spec, join, descriptors)
	s.slow = nil
	if s.launched() {
		err = stageError(syscall.EINTR)
	}
	if !s.options.Guardian && !s.options.Stay { // it has no use any more, and is nobody's to be found
		pid := s.takePID()
		kill(pid, syscall.SIGKILL)
		s.reapSoon(pid)
	}
	if err == nil {
		return program, nil
	}
	var e *Error
	if errors.As(err, &e) && e.Step == StepStage {
		s.ready = false
	}
	kill(program.PID, syscall.SIGKILL) // our unreaped child, which may be there
	s.reapSoon(program.PID)
	return Program{}, err
}

// order sends the stage its order, and waits for what comes of it.
func (s *Stage) order(spec *Spec, join Join, descriptors Descriptors) (program Program, err error) {
	b, fds, err := compose(spec, join, descriptors, s.options.NewSession)
	if err != nil {
		return program, err
	}
	if err := s.greet(); err != nil {
		return program, err
	}
	var report [2]int
	if err := syscall.Pipe2(report[:], syscall.O_CLOEXEC); err != nil {
		return program, stageError(err)
	}
	s.begin()
	size := uint64(len(b))
	sendErr := s.send(append(bytesOf(&size), b...), append([]int{report[1]}, fds...))
	closeFD(report[1])
	if sendErr != nil {
		// The stage would wait for the rest for ever. If it is gone already, it has said why.
		_ = syscall.Shutdown(s.control, syscall.SHUT_WR)
		s.ready = false
	} else if spec.Meanwhile != nil {
		spec.Meanwhile()
	}
	unrestricted, err := s.readRecords(report[0], spec)
	closeFD(report[0])
	program = Program{PID: s.shared.program(), StartedNanos: s.shared.nanos, Born: s.shared.born != 0, Unrestricted: unrestricted}
	if program.PID == 0 && err == nil { // the stage has gone without a word
		s.ready = false
		if index, closed := descriptors.firstClosed(); closed {
			return program, &Error{Step: StepFD, Errno: syscall.EBADF, Index: index}
		}
		err = s.lastWord(sendErr)
	}
	return program, err
}

// begin is the launch's.
func (s *Stage) begin() {
	s.ending.Lock()
	defer s.ending.Unlock()
	s.shared.pid, s.shared.born, s.shared.nanos = 0, 0, 0
	s.launching, s.over = true, false
}

// launched says whether a launch was interrupted before it was over.
func (s *Stage) launched() (interrupted bool) {
	s.ending.Lock()
	defer s.ending.Unlock()
	s.launching, s.over = false, true
	return s.interrupted
}

// send writes b, with fds attached to its first byte. A peer that is gone is EPIPE, never a signal.
func (s *Stage) send(b []byte, fds []int) error {
	rights := syscall.UnixRights(fds...)
	for len(b) > 0 {
		n, err := syscall.SendmsgN(s.control, b, rights, nil, syscall.MSG_NOSIGNAL|syscall.MSG_DONTWAIT)
		switch {
		case err == nil:
			b, rights = b[n:], nil
		case errors.Is(err, syscall.EAGAIN):
			err = s.await(s.control, pollOut)
		case errors.Is(err, syscall.EINTR):
			err = nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readRecords reads until end of file: the stage is done, and the program in execve or gone.
func (s *Stage) readRecords(report int, spec *Spec) (unrestricted syscall.Errno, failed error) {
	for {
		if err := s.await(report, pollIn); err != nil {
			return 0, stageError(err)
		}
		var r record
		n, err := syscall.Read(report, bytesOf(&r))
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return 0, stageError(err)
		case n < int(recordSize): // a pipe does not split them
			return unrestricted, failed
		case r.step == StepLandlock && spec.RulesetOptional:
			unrestricted = syscall.Errno(r.errno)
		default:
			failed = r.error(spec)
		}
	}
}

func (r *record) error(spec *Spec) error {
	e := &Error{Step: r.step, Errno: syscall.Errno(r.errno)}
	switch r.step {
	case StepChdir:
		e.Arg = spec.Dir
	case StepLookup, StepExec:
		e.Arg = spec.Args[0]
		missing := r.step == StepLookup && e.Errno == syscall.ENOENT // everywhere
		if places := spec.places(); spec.Credential != nil && !missing && r.index < int64(len(places)) {
			e.Arg = places[r.index]
		}
	case StepJoin, StepRlimit, StepFD:
		e.Index = int(r.index)
	}
	return e
}

// lastWord is why a stage has ended, if it has said so.
func (s *Stage) lastWord(sendErr error) error {
	var r record
	n, _, err := syscall.Recvfrom(s.control, bytesOf(&r), syscall.MSG_DONTWAIT)
	if err == nil && n == int(recordSize) {
		return &Error{Step: r.step, Errno: syscall.Errno(r.errno)}
	}
	if sendErr == nil {
		sendErr = syscall.EIO
	}
	return stageError(sendErr)
}

const (
	// slowNanos is when a launch is slow; slowTickNanos how often it is looked at from then on, and how long something that
	// was killed has to say a last word.
	slowNanos     = 20e6
	slowTickNanos = 500e6
	pollIn        = 0x1
	pollOut       = 0x4
)

// await waits until a descriptor is ready. When that takes long, it calls Slow, and has go on what somebody has stopped: before
// execve, SIGSTOP is no business of the program's. After an interrupt it does not wait for ever: what was killed may be in an
// uninterruptible sleep.
func (s *Stage) await(fd int, events int16) error {
	wait := int64(slowNanos)
	for last := false; ; {
		watch := pollfd{fd: int32(fd), events: events}
		timeout := syscall.NsecToTimespec(wait)
		n, _, errno := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&watch)), 1, uintptr(unsafe.Pointer(&timeout)), 0, 0, 0)
		switch {
		case errno == syscall.EINTR:
			continue
		case errno != 0:
			return errno
		case n > 0:
			return nil
		case last:
			return syscall.EAGAIN
		}
		last = s.wasInterrupted()
		s.carryOn()
		wait = slowTickNanos
	}
}

// carryOn sees to a launch that takes long.
func (s *Stage) carryOn() {
	if slow := s.slow; slow != nil {
		s.slow = nil
		slow()
	}
	s.ending.Lock()
	defer s.ending.Unlock()
	s.signal(syscall.SIGCONT)
}

// firstClosed finds the descriptor that can't be sent, as an index in Keep or -1.
func (d *Descriptors) firstClosed() (index int, found bool) {
	list, first := d.Keep, 0
	if d.Stdio != nil {
		list, first = append(d.Stdio[:], d.Keep...), -len(d.Stdio)
	}
	for i, fd := range list {
		if _, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0); errno != 0 {
			return max(first+i, -1), true
		}
	}
	return 0, false
}
