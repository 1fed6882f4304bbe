package reexec

import (
	"syscall"
	"unsafe"
)

// The protocol between shim and stage, on a SOCK_STREAM socket pair, and on another one for each launch. Both ends are the
// same binary on the same machine, so integers are in native order.
//
//	stage → shim   record{stepHello}: its pid, and where an order has to fit; only if this binary was re-executed
//	shim → stage   header, order; with descriptors as SCM_RIGHTS: the launch's socket, to join, stdio, to keep
//
// on the launch's socket:
//
//	stage → shim   record{any step}: it failed; nothing runs
//	program → shim the same: it failed between clone3 and execve
//	end of file    the stage is done, and the program in execve (or gone)
//
// The program's pid is in a page that shim and stage share: the kernel writes it there before the program runs, so that
// nobody's sudden death can hide the program, and nobody has to be woken up for it.

const (
	stageEnv   = "CGSHIM_STAGE_SOCKET" // set in the stage's environment only, which the program never sees
	stageEnvFD = "3"
	stageFD    = 3
)

// A message takes 253 descriptors (SCM_MAX_FD).
const (
	maxKeep  = 128 // of Descriptors.Keep
	maxTasks = 32  // of Join.Tasks; there are at most 14 v1 hierarchies
)

const (
	maxDescriptors = 256                                                  // a power of two
	ancillarySize  = 16 + 4*(1+2+maxTasks+3+maxKeep) + 4*((maxTasks+2)%2) // CMSG_SPACE
)

// header comes before an order.
type header struct {
	size uint64
	_    uint64
}

func (h *header) bytes() []byte { return (*[unsafe.Sizeof(header{})]byte)(unsafe.Pointer(h))[:] }

// A Step names what was being done when a launch failed.
type Step uint32

// The steps, in the order in which they happen; StepStage can happen at any time.
const (
	stepNone       Step = iota
	stepHello           // the stage's pid, and its memory's address
	StepStage           // starting the stage, or talking to it
	StepChdir           // changing to Spec.Dir
	StepLookup          // finding Spec.Args[0]; named "exec" too, since to a caller both are execve failing
	StepFD              // putting Descriptors in their places
	StepNet             // making a network namespace, and its loopback device come up
	StepClone           // creating the process
	StepJoin            // joining a cgroup
	StepAffinity        // sched_setaffinity
	StepRlimit          // setting a resource limit
	StepUser            // setgroups, setresgid, setresuid
	StepNoNewPrivs      // prctl PR_SET_NO_NEW_PRIVS
	StepPdeathsig       // prctl PR_SET_PDEATHSIG
	StepExec            // execve
)

var stepNames = [...]string{
	"", "hello", "stage", "chdir", "exec", "keep-fd", "net", "clone", "join", "cpuset", "rlimit", "user",
	"no-new-privs", "pdeathsig", "exec",
}

func (s Step) String() string {
	if int(s) < len(stepNames) {
		return stepNames[s]
	}
	return "unknown"
}

// record is what the stage and the program write; one write each, so records never interleave.
type record struct {
	step  Step
	errno uint32
	pid   int64  // stepHello: a pid; a step of several: the index of what failed
	base  uint64 // stepHello: an address
}

// shared is what a stage tells of the program that it creates.
type shared struct {
	pid   int32  // written by the kernel (CLONE_PARENT_SETTID); 0 is none
	born  uint32 // 1: clone3 has put it into its cgroup2 group
	nanos int64  // CLOCK_MONOTONIC just before it was created
}

// sharedSize is the largest page that there is.
const sharedSize = 64 << 10

const recordSize = unsafe.Sizeof(record{})

func (r *record) bytes() []byte { return (*[recordSize]byte)(unsafe.Pointer(r))[:] }

func hasByte(s string, b byte) bool {
	for i := range len(s) {
		if s[i] == b {
			return true
		}
	}
	return false
}

// readFull reads len(b) bytes, and returns fewer only at end of file.
func readFull(fd int, b []byte) (int, error) {
	n := 0
	for n < len(b) {
		m, err := syscall.Read(fd, b[n:])
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return n, err
		case m == 0:
			return n, nil
		default:
			n += m
		}
	}
	return n, nil
}

// sendAll writes b, with fds attached to its first byte. A peer that is gone is EPIPE, never a signal.
func sendAll(fd int, b []byte, fds []int) error {
	var rights []byte
	if len(fds) > 0 {
		rights = syscall.UnixRights(fds...)
	}
	for len(b) > 0 {
		n, err := syscall.SendmsgN(fd, b, rights, nil, syscall.MSG_NOSIGNAL)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b, rights = b[n:], nil
	}
	return nil
}
