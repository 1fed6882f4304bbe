package reexec

import (
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// Options say what a stage is for. The zero Options are for one program without a guardian.
type Options struct {
	// Guardian has this binary executed once more when the caller dies before Close, for cleaning up what Bequeath has
	// told: see Will.
	Guardian bool
	// Stay keeps the stage for more than one Launch.
	Stay bool
	// NewSession makes the stage and its programs leaders of sessions of their own, see setsid(2). False leaves the program in the
	// caller's session and process group, as a terminal's job control needs it; then it can have the kernel stop or hang
	// up that group.
	NewSession bool
	// Every, if it is not nil, has look called by another thread every now and then, from some 20 ms on, until stop is called. Start
	// needs that while its own thread waits in the kernel for the execve of the stage, which somebody may have stopped.
	Every func(look func()) (stop func())
}

// A Stage is a process that is waiting for its orders: a re-execution of this binary. It is not safe for concurrent use, but for
// Interrupt.
type Stage struct {
	options Options
	control int // 0 after Close
	file    int // what it has from us, for Bequeath
	will    int64
	shared  *shared
	ready   bool
	slow    func() // of the Launch under way, if not called yet
	stuck   []int  // see Stuck

	ending      sync.Mutex // what Interrupt shares
	boot        int        // the re-execution that makes the stage; 0 without, or reaped
	pid         int        // the stage; 0 is not known yet
	launching   bool       // a program that there is, is not reaped
	interrupted bool
	over        bool // Interrupt has nothing to do any more
}

// Start starts a stage. The thread that calls it must live as long as the program, for the parent-death signal of both follows
// that thread (runtime.LockOSThread). Every Stage has to end in Close.
func Start(options Options) (*Stage, error) {
	file, err := memoryFile()
	if err != nil {
		return nil, stageError(err)
	}
	s := &Stage{options: options, file: file, will: willOffset, ready: true}
	if err = s.share(); err == nil {
		err = s.execute()
	}
	if err != nil {
		s.release()
		return nil, stageError(err)
	}
	return s, nil
}

// execute executes this binary as a stage.
func (s *Stage) execute() error {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer closeFD(pair[1])
	s.control = pair[0]
	attr := &syscall.ProcAttr{
		// What follows is for a binary without the entry: a Go program of a millisecond has no use for the garbage collector, and
		// without disablethp its heap may be huge pages, and the program's ru_maxrss, which remembers the copy of the stage
		// that it was before execve, 4 MiB.
		Env:   []string{stageVar, "GOGC=off", "GODEBUG=disablethp=1"},
		Files: []uintptr{0, 1, 2, uintptr(pair[1]), uintptr(s.file)},
		// Until there is a guardian it is the stage that cleans up after us: also if our whole process group is killed.
		Sys: &syscall.SysProcAttr{Setsid: s.options.NewSession, Setpgid: !s.options.NewSession && syscall.Getpgrp() != 0},
	}
	giveSlack()
	if s.options.Every != nil {
		thread := syscall.Gettid()
		defer s.options.Every(func() { resumeChildren(thread) })()
	}
	pid, err := syscall.ForkExec(exeFile, []string{guardianName}, attr)
	if entered {
		s.pid = pid
	} else {
		s.boot = pid
	}
	return err
}

// resumeChildren has the children of a thread go on that somebody has stopped, if they are this binary: the one that nobody has the
// pid of yet is.
func resumeChildren(thread int) {
	proc := "/proc/self/task/" + decimal(thread) + "/children" // where the kernel has it (CONFIG_PROC_CHILDREN)
	fd, err := syscall.Open(proc, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	list := make([]byte, 4096)
	n, _ := syscall.Read(fd, list)
	closeFD(fd)
	own, begin := executableOf("self"), 0
	for end, c := range list[:max(n, 0)] {
		if c != ' ' { // which is behind each
			continue
		}
		pid := string(list[begin:end])
		if begin = end + 1; own != "" && executableOf(pid) == own {
			kill(int(number(pid)), syscall.SIGCONT)
		}
	}
}

// executableOf is the file that a process executes; empty if that can't be found out.
func executableOf(pid string) string {
	name := make([]byte, 1024)
	n, _ := syscall.Readlink("/proc/"+pid+"/exe", name)
	return string(name[:max(n, 0)])
}

func number(digits string) (n uintptr) {
	for i := range len(digits) {
		n = n*10 + uintptr(digits[i]-'0')
	}
	return n
}

// decimal is strconv.Itoa, of a number that is not negative.
func decimal(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return decimal(n/10) + decimal(n%10)
}

// greet waits until there is a stage, where another process makes it.
func (s *Stage) greet() error {
	if s.boot == 0 {
		return nil
	}
	for wait := int64(slowNanos); !endsWithin(s.boot, wait); wait = slowTickNanos {
		s.carryOn()
	}
	s.ending.Lock()
	s.boot, s.pid = 0, int(atomic.LoadInt32(&s.shared.stage))
	s.ending.Unlock()
	if s.wasInterrupted() {
		kill(s.pid, syscall.SIGKILL)
	}
	if s.pid == 0 {
		return s.lastWord(nil)
	}
	return nil
}

// PID is the stage's, and the guardian's; 0 if there is none.
func (s *Stage) PID() int {
	_ = s.greet() // the next Launch says what is wrong
	return s.pid
}

// Ready says whether the stage can take an order.
func (s *Stage) Ready() bool { return s.ready }

// Interrupt makes a Launch that is under way in another goroutine, or is next, fail with EINTR: without it, a stage or a
// program that waits for a file system which does not answer is waited for. The stage ends then, too. Between a Launch and the next
// one, and after Close, it does nothing.
func (s *Stage) Interrupt() {
	s.ending.Lock()
	defer s.ending.Unlock()
	if s.over {
		return
	}
	s.interrupted = true
	// Their death is the end of file that Launch reads until. To shut the socket down instead would hide a program whose pid has
	// not been told yet.
	s.signal(syscall.SIGKILL)
}

// signal sends one to all that take part in a launch: our children, which nobody has reaped while ending is locked.
func (s *Stage) signal(sig syscall.Signal) {
	kill(s.boot, sig)
	kill(s.pid, sig)
	if s.launching {
		kill(s.shared.program(), sig)
	}
}

func (s *Stage) wasInterrupted() bool {
	s.ending.Lock()
	defer s.ending.Unlock()
	return s.interrupted
}

// Stuck lists processes of a launch that was given up, which SIGKILL has not ended in time: they are in an
// uninterruptible sleep. They are waited for in the background.
func (s *Stage) Stuck() []int { return s.stuck }

// Bequeath leaves a message for the guardian's successor, for Will: before whatever it is about is done.
func (s *Stage) Bequeath(message []byte) error {
	if !s.options.Guardian {
		return nil
	}
	err := growing(s.will+int64(len(message)), func() error {
		for len(message) > 0 {
			n, err := syscall.Pwrite(s.file, message, s.will)
			if err != nil && err != syscall.EINTR {
				return err
			}
			message, s.will = message[max(n, 0):], s.will+int64(max(n, 0))
		}
		return nil
	})
	if err != nil {
		return stageError(err)
	}
	return nil
}

// Close ends the stage, or the guardian, which has nothing to clean up any more, and waits for its end. To close a closed Stage
// does nothing.
func (s *Stage) Close() {
	if s.control == 0 {
		return
	}
	if s.boot != 0 {
		kill(s.boot, syscall.SIGKILL)
		_ = s.greet() // which finds out whether it has made a stage
	}
	settled := s.over && !s.wasInterrupted()
	pid := s.takePID()
	kill(pid, syscall.SIGKILL)
	s.release()
	if settled {
		reap(pid) // it waits for us, and for nothing that can hang
	} else {
		s.reapSoon(pid)
	}
	s.ready = false
}

// takePID takes the stage's away from Interrupt: it is about to be reaped, and its number may be another's then.
func (s *Stage) takePID() (pid int) {
	s.ending.Lock()
	defer s.ending.Unlock()
	pid, s.pid, s.over = s.pid, 0, true
	return pid
}

// release closes the descriptors. For a stage that is alive that is our death.
func (s *Stage) release() {
	if s.control != 0 {
		closeFD(s.control)
	}
	closeFD(s.file)
	if s.shared != nil {
		_, _, _ = syscall.RawSyscall(syscall.SYS_MUNMAP, uintptr(unsafe.Pointer(s.shared)), sharedSize, 0)
	}
	s.control, s.shared = 0, nil
}

// program is the pid that the kernel has written there.
func (p *shared) program() int { return int(atomic.LoadInt32(&p.pid)) }

const (
	// dyingNanos is how long reapSoon waits, and napNanos how long between two looks.
	dyingNanos = 2e9
	napNanos   = 1e6
)

// reapSoon reaps a child that is about to end, or leaves that to the background.
func (s *Stage) reapSoon(pid int) {
	if !endsWithin(pid, dyingNanos) {
		s.stuck = append(s.stuck, pid)
		go reap(pid)
	}
}

// endsWithin reaps a child that has ended, or does so within a time.
func endsWithin(pid int, nanos int64) bool {
	pause := syscall.NsecToTimespec(napNanos)
	for end := monotonic() + nanos; !ended(pid); _ = syscall.Nanosleep(&pause, nil) {
		if monotonic() > end {
			return false
		}
	}
	return true
}

// ended reaps a child that has ended, and says whether there is none any more.
func ended(pid int) bool {
	if pid == 0 {
		return true
	}
	got, err := syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
	return got == pid || err != nil && err != syscall.EINTR
}

func reap(pid int) {
	for pid != 0 {
		if _, err := syscall.Wait4(pid, nil, 0, nil); err != syscall.EINTR {
			return
		}
	}
}

// kill sends a signal to a child that was not reaped; to 0, which is none, it does not.
func kill(pid int, sig syscall.Signal) {
	if pid != 0 {
		_ = syscall.Kill(pid, sig)
	}
}

func closeFD(fd int) { _ = syscall.Close(fd) } // nothing was written that close could lose

func monotonic() int64 {
	var ts syscall.Timespec
	_, _ = call(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&ts)), 0, 0)
	return ts.Nano()
}

func stageError(err error) error {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		errno = syscall.EIO
	}
	return &Error{Step: StepStage, Errno: errno}
}
