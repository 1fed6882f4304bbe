package reexec

import "unsafe"

// The protocol between shim and stage, on a SOCK_STREAM socket pair, with a pipe for each launch to report on. Both ends are the
// same binary on the same machine, so integers are in native order.
//
//	stage → shim   record{StepStage}: it can't be one
//	shim → stage   order's size, order; with descriptors as SCM_RIGHTS: to report to, to join, stdio, to keep, a ruleset
//	end of file    there is no shim any more
//
// on the launch's pipe:
//
//	stage → shim   record{any step}: it failed; nothing runs
//	program → shim the same: it failed between clone3 and execve; or it goes on without what was optional, see callTold
//	end of file    the stage is done, and the program in execve (or gone)
//
// The program's pid is in a page that shim and stage share: the kernel writes it there before the program runs, so that
// nobody's sudden death can hide the program, and nobody has to be woken up for it. The page is the first one of a file;
// behind it is what the shim leaves to the guardian's successor.

const (
	stageName = "CGSHIM_STAGE"
	stageVar  = stageName + "=on" // the stage's environment; entry knows it

	// What a stage has open, beside the caller's 0 to 2. The guardian has the first three of them.
	controlFD = 3 // its end of the socket pair
	fileFD    = 4 // the file
	killFD    = 5 // the cgroup2 directory of the last run; in the end its cgroup.kill
	firstFD   = controlFD
	lastFD    = 1<<32 - 1

	// guardianName is what ps(1) shows of it. The binary's own name is not in it, so that who kills all of
	// that name does not kill this one.
	guardianName = "cg-guardian"
	guardianEnv  = "CGSHIM_GUARDIAN"
	guardianVar  = guardianEnv + "=4" // fileFD
	exeFile      = "/proc/self/exe"
)

// A message takes 253 descriptors (SCM_MAX_FD).
const (
	maxKeep        = 128 // of Descriptors.Keep
	maxTasks       = 32  // of Join.Tasks; there are at most 14 v1 hierarchies
	maxDescriptors = 256 // a power of two
)

// A Step names what was being done when a launch failed.
type Step uint32

// The steps, in the order in which they happen; StepStage can happen at any time.
const (
	stepNone       Step = iota
	StepStage           // starting the stage, or talking to it
	StepChdir           // changing to Spec.Dir
	StepLookup          // finding Spec.Args[0]; named "exec" too, since to a caller both are execve failing
	StepFD              // putting Descriptors in their places
	StepNet             // making a network namespace, and its loopback device come up; the program may do it after StepRlimit
	StepClone           // creating the process
	StepJoin            // joining a cgroup
	StepAffinity        // sched_setaffinity
	StepRlimit          // setting a resource limit
	StepUser            // setgroups, setresgid, setresuid
	StepNoNewPrivs      // prctl PR_SET_NO_NEW_PRIVS
	StepLandlock        // landlock_restrict_self; before StepUser with Spec.AllowNewPrivs
	StepPdeathsig       // prctl PR_SET_PDEATHSIG
	StepExec            // execve
)

var stepNames = [...]string{
	"", "stage", "chdir", "exec", "keep-fd", "net", "clone", "join", "cpuset", "rlimit", "user",
	"no-new-privs", "landlock", "pdeathsig", "exec",
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
	index int64 // of what failed, for a step of several
}

// shared is the page that shim and stage share.
type shared struct {
	// By the shim, before there is a stage.
	guardian, stay bool  // see Options
	descriptors    int32 // where the numbers of what is open end, for kernels without close_range

	// By the kernel (CLONE_PARENT_SETTID); 0 is none.
	stage int32 // the copy of a Go process that is the stage, if a copy is
	pid   int32 // the program

	born  int32 // 1: clone3 has put it into its cgroup2 group
	nanos int64 // CLOCK_MONOTONIC just before it was created
}

const (
	recordSize  = unsafe.Sizeof(record{})
	largestPage = 64 << 10 // that there is
	sharedSize  = largestPage
	// willOffset is where in the file the will begins: behind shared, and no further, because a RLIMIT_FSIZE of the caller's holds
	// for this file, too.
	willOffset = 64
)

// bytesOf is a value as it is in memory.
func bytesOf[T any](v *T) []byte { return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v)) }
