package advice

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/reexec"
)

// hasRealTime reports whether this thread, and so what it starts, has a real-time policy, see sched(7).
func hasRealTime() bool {
	const fifo, roundRobin, resetOnFork = 1, 2, 0x40000000
	policy, _, errno := unix.RawSyscall(unix.SYS_SCHED_GETSCHEDULER, 0, 0, 0)
	return errno == 0 && (policy&^resetOnFork == fifo || policy&^resetOnFork == roundRobin)
}

// filtered says that a seccomp filter is in force for this process, see proc_pid_status(5).
func (s *Situation) filtered() bool {
	status, _ := os.ReadFile("/proc/self/status")
	return strings.Contains(string(status), "\nSeccomp:\t2")
}

// NameRefused finds out which system call was refused to a stage, and names it in the error.
func NameRefused(e *reexec.Error) {
	if e.Step == reexec.StepStage && e.Arg == "" && (e.Errno == unix.EPERM || e.Errno == unix.ENOSYS) {
		e.Arg = refusedCall(e.Errno)
	}
}

// refusedCall tries those that starting a stage takes, and names the one that is refused with an errno; "" if none is.
func refusedCall(errno unix.Errno) string {
	var fds [2]int
	for _, call := range []struct {
		name string
		try  func() error
	}{
		{"memfd_create", func() (err error) { fds[0], err = unix.MemfdCreate("cgshim-probe", unix.MFD_CLOEXEC); return err }},
		{"pipe2", func() error { return unix.Pipe2(fds[:], unix.O_CLOEXEC) }},
		{"socketpair", func() (err error) {
			fds, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			return err
		}},
	} {
		fds = [2]int{-1, -1}
		if err := call.try(); errors.Is(err, errno) {
			return call.name
		}
		for _, fd := range fds {
			if fd >= 0 {
				unix.Close(fd)
			}
		}
	}
	return ""
}
