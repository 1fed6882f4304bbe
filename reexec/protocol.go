package reexec

import (
	"syscall"
	"unsafe"
)

// The protocol between shim and stage, on one SOCK_STREAM socket pair. Both ends are the same binary on
// the same machine, so integers are in native order.
//
//	shim → stage   uint64 length, then that many bytes: the encoded Spec
//	shim → stage   launchOrder, with the descriptors as SCM_RIGHTS: to join, stdio, to keep
//	guardian → shim record{stepGuardian}: it exists, with its pid
//	stage → shim   the same once more
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

// A message takes 253 descriptors (SCM_MAX_FD).
const (
	maxKeep  = 128 // of Descriptors.Keep
	maxTasks = 32  // of Join.Tasks; there are at most 14 v1 hierarchies
)

// launchOrder says what the descriptors of the launch message are.
type launchOrder struct {
	mode  uint64
	joins uint64 // so many of them are for joining
	stdio uint64 // then 3 or none
	keeps uint64
	keep  [maxKeep]int64 // and the numbers that the rest get
}

const launchOrderSize = unsafe.Sizeof(launchOrder{})

func (o *launchOrder) bytes() []byte { return (*[launchOrderSize]byte)(unsafe.Pointer(o))[:] }

// A Step names what was being done when a launch failed.
type Step uint32

// The steps, in the order in which they happen; StepStage can happen at any time.
const (
	stepStarted    Step = iota
	stepGuardian        // the guardian's pid
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
	"started", "guardian", "stage", "chdir", "exec", "keep-fd", "net", "clone", "join", "cpuset", "rlimit", "user",
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
	errno uint32 // stepStarted: bornInto or 0
	pid   int64  // stepStarted: the program's pid; a step of several: the index of what failed
	nanos int64  // stepStarted: CLOCK_MONOTONIC just before the process was created
}

// bornInto says that clone3 has put the program into its cgroup2 group.
const bornInto = 1

const recordSize = unsafe.Sizeof(record{})

func (r *record) bytes() []byte { return (*[recordSize]byte)(unsafe.Pointer(r))[:] }

// encode flattens a spec. Strings are NUL-terminated, which argv and environment entries can't contain.
func (s *Spec) encode() []byte {
	size := len(s.Dir) + 128 + 24*len(s.Rlimits) + 8*len(s.Affinity)
	for _, list := range [][]string{s.Args, s.Env} {
		for _, str := range list {
			size += len(str) + 1
		}
	}
	b := make([]byte, 8, size)
	b = appendUint64(appendUint64(appendUint64(b, uint64(s.parent)), uint64(s.pgrp)), s.mask)
	b = append(b, boolByte(s.AllowNewPrivs), boolByte(s.AffinityOptional), boolByte(s.NewNet), boolByte(s.NewSession), boolByte(s.Credential != nil))
	if c := s.Credential; c != nil {
		b = appendUint64(appendUint64(b, uint64(c.UID)), uint64(c.GID))
		b = appendUint64(b, uint64(len(c.Groups)))
		for _, gid := range c.Groups {
			b = appendUint64(b, uint64(gid))
		}
	}
	b = appendUint64(b, uint64(len(s.Rlimits)))
	for _, l := range s.Rlimits {
		b = appendUint64(appendUint64(appendUint64(b, uint64(l.Resource)), l.Soft), l.Hard)
	}
	b = appendUint64(b, uint64(len(s.Affinity)))
	for _, word := range s.Affinity {
		b = appendUint64(b, word)
	}
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
	d := decoder{b: b}
	s.parent, s.pgrp, s.mask = int(d.uint64()), int(d.uint64()), d.uint64()
	s.AllowNewPrivs, s.AffinityOptional, s.NewNet, s.NewSession = d.bool(), d.bool(), d.bool(), d.bool()
	if d.bool() {
		s.Credential = &Credential{UID: uint32(d.uint64()), GID: uint32(d.uint64())}
		for range d.count(8) {
			s.Credential.Groups = append(s.Credential.Groups, uint32(d.uint64()))
		}
	}
	for range d.count(24) {
		s.Rlimits = append(s.Rlimits, Rlimit{Resource: int(d.uint64()), Soft: d.uint64(), Hard: d.uint64()})
	}
	for range d.count(8) {
		s.Affinity = append(s.Affinity, d.uint64())
	}
	s.Dir = d.string()
	nargs := d.uint64()
	for !d.bad && len(d.b) > 0 {
		str := d.string()
		if uint64(len(s.Args)) < nargs {
			s.Args = append(s.Args, str)
		} else {
			s.Env = append(s.Env, str)
		}
	}
	return !d.bad && uint64(len(s.Args)) == nargs && nargs > 0
}

// A decoder takes values off a byte slice. After the first that is not there, all are zero.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n int) []byte {
	if d.bad || len(d.b) < n {
		d.bad = true
		return nil
	}
	taken := d.b[:n]
	d.b = d.b[n:]
	return taken
}

func (d *decoder) uint64() uint64 {
	if b := d.take(8); b != nil {
		return uint64At(b)
	}
	return 0
}

func (d *decoder) bool() bool {
	b := d.take(1)
	return b != nil && b[0] != 0
}

// count is the length of a list whose elements have so many bytes.
func (d *decoder) count(size int) int {
	n := d.uint64()
	if n > uint64(len(d.b)/size) {
		d.bad = true
		return 0
	}
	return int(n)
}

func (d *decoder) string() string {
	str, rest, ok := cutString(d.b)
	if d.bad || !ok {
		d.bad = true
		return ""
	}
	d.b = rest
	return str
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
