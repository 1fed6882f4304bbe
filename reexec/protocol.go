package reexec

import (
	"syscall"
	"unsafe"
)

// The protocol between shim and stage, on one SOCK_STREAM socket pair. Both ends are the same binary on
// the same machine, so integers are in native order.
//
//	shim → stage   uint64 length, then that many bytes: the encoded Spec
//	shim → stage   uint64 join mode, with the join descriptors as SCM_RIGHTS
//	stage → shim   record{any step}: it failed; nothing runs
//	program → shim record{stepStarted}: it exists, with its pid
//	stage → shim   the same once more, so that neither's sudden death can hide the program
//	program → shim record{any other step}: it failed between clone3 and execve
//	end of file    stage gone and program in execve (or gone)

const (
	stageEnv   = "CGSHIM_STAGE_SOCKET" // set in the stage's environment only, which the program never sees
	stageEnvFD = "3"
	stageFD    = 3
)

// Join modes: what the first descriptors of the launch message are.
const (
	joinTasks  uint64 = iota // tasks files only
	joinInto                 // a cgroup2 directory, its cgroup.procs, then tasks files
	joinNoInto               // the same, but as if the kernel had no CLONE_INTO_CGROUP
)

// A Step names what was being done when a launch failed.
type Step uint32

// The steps, in the order in which they happen; StepStage can happen at any time.
const (
	stepStarted    Step = iota
	StepStage           // starting the stage, or talking to it
	StepChdir           // changing to Spec.Dir
	StepLookup          // finding Spec.Args[0]; named "exec" too, since to a caller both are execve failing
	StepClone           // creating the process
	StepJoin            // joining a cgroup
	StepRlimit          // setting a resource limit
	StepNoNewPrivs      // prctl PR_SET_NO_NEW_PRIVS
	StepPdeathsig       // prctl PR_SET_PDEATHSIG
	StepExec            // execve
)

var stepNames = [...]string{"started", "stage", "chdir", "exec", "clone", "join", "rlimit", "no-new-privs", "pdeathsig", "exec"}

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
	pid   int64 // stepStarted: the program's pid; StepJoin: the index of the descriptor that failed
	nanos int64 // stepStarted: CLOCK_MONOTONIC just before the process was created
}

const recordSize = unsafe.Sizeof(record{})

func (r *record) bytes() []byte { return (*[recordSize]byte)(unsafe.Pointer(r))[:] }

// encode flattens a spec. Strings are NUL-terminated, which argv and environment entries can't contain.
func (s *Spec) encode() []byte {
	size := len(s.Dir) + 48
	for _, list := range [][]string{s.Args, s.Env} {
		for _, str := range list {
			size += len(str) + 1
		}
	}
	b := make([]byte, 8, size)
	b = appendUint64(appendUint64(b, uint64(s.parent)), s.mask)
	b = append(b, boolByte(s.AllowNewPrivs))
	b = append(append(b, s.Dir...), 0)
	b = appendUint64(b, uint64(len(s.Args)))
	for _, str := range append(append(make([]string, 0, len(s.Args)+len(s.Env)), s.Args...), s.Env...) {
		b = append(append(b, str...), 0)
	}
	*(*uint64)(unsafe.Pointer(&b[0])) = uint64(len(b) - 8)
	return b
}

// decode is encode's inverse, without the leading length. It trusts its peer, which is this binary, but
// never reads past b.
func (s *Spec) decode(b []byte) bool {
	if len(b) < 17 {
		return false
	}
	s.parent, s.mask, b = int(uint64At(b)), uint64At(b[8:]), b[16:]
	s.AllowNewPrivs, b = b[0] != 0, b[1:]
	var ok bool
	if s.Dir, b, ok = cutString(b); !ok || len(b) < 8 {
		return false
	}
	nargs := uint64At(b)
	for b = b[8:]; len(b) > 0; {
		var str string
		if str, b, ok = cutString(b); !ok {
			return false
		}
		if uint64(len(s.Args)) < nargs {
			s.Args = append(s.Args, str)
		} else {
			s.Env = append(s.Env, str)
		}
	}
	return uint64(len(s.Args)) == nargs && nargs > 0
}

func cutString(b []byte) (string, []byte, bool) {
	for i, c := range b {
		if c == 0 {
			return string(b[:i]), b[i+1:], true
		}
	}
	return "", nil, false
}

func hasByte(s string, b byte) bool {
	for i := range len(s) {
		if s[i] == b {
			return true
		}
	}
	return false
}

func appendUint64(b []byte, v uint64) []byte {
	return append(b, (*[8]byte)(unsafe.Pointer(&v))[:]...)
}

func uint64At(b []byte) uint64 {
	var v uint64
	copy((*[8]byte)(unsafe.Pointer(&v))[:], b)
	return v
}

func boolByte(v bool) byte {
	if v {
		return 1
	}
	return 0
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
