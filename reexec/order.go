package reexec

import (
	"slices"
	"syscall"
	"unsafe"

	"github.com/cgshim/cgshim/reexec/internal/nofile"
)

// An order is everything that a stage and a program do, worked out by the shim: the two make system calls only
// (see stage.go). It goes to the stage's memory as it is, with what it points to behind it, so that its pointers
// are addresses there.
type order struct {
	// The descriptors that come with it: one to report to, then these.
	joins uint64
	stdio uint64 // 3 or none
	keeps uint64
	keep  [maxKeep]int64 // the numbers that they get
	rules uint64         // 1 or none, the last of them

	flags      uintptr // orderInto and others
	dir        uintptr // string; 0 is none
	paths      uintptr // where the program may be: strings, with 0 for the end
	argv, envv uintptr

	clone cloneArgs
	calls [maxSystemCalls]systemCall
	count int
	born  int // the first call for a program that clone3 has put into its cgroup2 group
}

const (
	orderInto   = 1 << iota // the first two descriptors are a cgroup2 directory and its cgroup.procs
	orderClone3             // not as if the kernel had none
	orderSearch             // take the first of paths that can be executed, and not just the one that there is
	orderNewNet
	orderUserNS // the program makes the network namespace if the stage may not
	orderUser   // the program is another user's
)

// A systemCall is one of those between clone3 and execve.
type systemCall struct {
	trap       uintptr
	a1, a2, a3 uintptr
	a4         uintptr
	want       uintptr // for getppid, which never fails: the result that is not a failure
	index      int     // of what it is about, for error reports
	step       Step
	flags      uint32
}

const (
	callOptional     = 1 << iota // a failure is none
	callTold                     // likewise, and the shim is told
	callDescriptor               // a1 is an index of the order's descriptors
	callOnResult                 // a1 is the result of the call before
	callUnprivileged             // only if the program makes the network namespace, in a user namespace
	callPrivileged               // only if it does not
)

// cloneArgs is struct clone_args, see clone(2).
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

const maxSystemCalls = 128 // a power of two: 33 groups, 16 rlimits, 8 for signals, and two dozen others

// orderSize is how much of a stage's memory the order itself takes.
const orderSize = unsafe.Sizeof(order{})

// A composer writes an order for a stage's memory.
type composer struct {
	order
	tail []byte // what follows the order
	err  *Error
}

// compose works out an order, and the descriptors that go with it, after the one to report to.
func compose(spec *Spec, join Join, descriptors Descriptors, session bool) (b []byte, fds []int, err error) {
	c := new(composer)
	if fds, err = c.takeDescriptors(join, descriptors); err != nil {
		return nil, nil, err
	}
	c.flag(spec.NewNet, orderNewNet)
	c.flag(spec.NewNet && !spec.AllowNewPrivs, orderUserNS)
	c.flag(spec.Credential != nil, orderUser)
	if spec.Dir != "" {
		c.dir = c.string(spec.Dir)
	}
	c.findProgram(spec)
	c.argv, c.envv = c.strings(spec.Args), c.strings(spec.Env)
	c.plan(spec, session)
	if c.err != nil {
		return nil, nil, c.err
	}
	if orderSize+uintptr(len(c.tail)) > orderRoom {
		return nil, nil, &Error{Step: StepExec, Errno: syscall.E2BIG, Arg: spec.Args[0]}
	}
	return append(bytesOf(&c.order), c.tail...), fds, nil
}

func (c *composer) flag(set bool, flag uintptr) {
	if set {
		c.flags |= flag
	}
}

func (c *composer) takeDescriptors(join Join, descriptors Descriptors) (fds []int, err error) {
	if join.Into != 0 {
		c.flags |= orderInto
		fds = []int{join.Into, join.Procs}
	}
	fds = append(fds, join.Tasks...)
	c.flag(!join.noInto, orderClone3)
	c.joins = uint64(len(fds))
	if descriptors.Stdio != nil {
		fds = append(fds, descriptors.Stdio[:]...)
		c.stdio = uint64(len(descriptors.Stdio))
	}
	if len(join.Tasks) > maxTasks {
		return nil, &Error{Step: StepJoin, Errno: syscall.E2BIG, Index: maxTasks}
	}
	if len(descriptors.Keep) > maxKeep {
		return nil, &Error{Step: StepFD, Errno: syscall.EINVAL, Index: maxKeep}
	}
	for i, fd := range descriptors.Keep {
		if fd < firstFD {
			return nil, &Error{Step: StepFD, Errno: syscall.EINVAL, Index: i}
		}
		c.keep[i] = int64(fd)
	}
	c.keeps = uint64(len(descriptors.Keep))
	fds = append(fds, descriptors.Keep...)
	if descriptors.Ruleset != 0 {
		fds = append(fds, descriptors.Ruleset)
		c.rules = 1
	}
	return fds, nil
}

// findProgram lists where the program may be.
func (c *composer) findProgram(spec *Spec) {
	c.flag(!slices.Contains([]byte(spec.Args[0]), '/'), orderSearch)
	c.paths = c.strings(spec.places())
}

// places are where execvp(3) would look for the program. A name with a slash is taken as it is, but has to exist: so that "not
// found" is told apart from an interpreter that is missing.
func (s *Spec) places() (places []string) {
	name := s.Args[0]
	if slices.Contains([]byte(name), '/') {
		return []string{name}
	}
	for rest, more := pathOf(s.Env), name != ""; more; {
		var dir string
		dir, rest, more = cutColon(rest)
		if dir == "" {
			dir = "." // POSIX: a zero-length prefix is the current directory
		}
		places = append(places, dir+"/"+name)
	}
	return places
}

func pathOf(env []string) string {
	for _, kv := range env {
		if len(kv) >= 5 && kv[:5] == "PATH=" {
			return kv[5:]
		}
	}
	return "/bin:/usr/bin"
}

func cutColon(s string) (before, after string, found bool) {
	for i := range len(s) {
		if s[i] == ':' {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

// plan writes down the program's way to execve.
func (c *composer) plan(spec *Spec, session bool) {
	c.clone.flags = syscall.CLONE_PARENT | syscall.CLONE_PARENT_SETTID
	c.clone.parentTID = stageAddress + uint64(unsafe.Offsetof(shared{}.pid))
	first := 0
	if c.flags&orderInto != 0 {
		c.clone.flags |= cloneIntoCgroup // of the first descriptor
		first, c.born = 1, 1
	}
	zero := c.string("0")
	for i := first; i < int(c.joins); i++ {
		// "0" is the writer itself; in a tasks file it is the one form that does not wait for an RCU grace
		// period (6 to 8 ms).
		c.add(StepJoin, i-first, syscall.SYS_WRITE, uintptr(i), zero, 1).flags = callDescriptor
	}
	if pgrp := syscall.Getpgrp(); session {
		c.add(StepStage, 0, syscall.SYS_SETSID, 0, 0, 0)
	} else if pgrp != 0 { // one of another pid namespace, which the stage is in, too
		c.add(StepStage, 0, syscall.SYS_SETPGID, 0, uintptr(pgrp), 0)
	}
	if mask := spec.Affinity; len(mask) > 0 {
		call := c.add(StepAffinity, 0, syscall.SYS_SCHED_SETAFFINITY, 0, uintptr(len(mask))*8, 0)
		if call.a3 = put(c, mask...); spec.AffinityOptional {
			call.flags = callOptional
		}
	}
	raising, others, files := programRlimits(spec.Rlimits)
	c.addRlimits(raising)
	if spec.AllowNewPrivs {
		c.restrict(spec) // which takes CAP_SYS_ADMIN without no_new_privs
	}
	if spec.Credential != nil {
		c.changeUser(spec.Credential)
	}
	// After setresuid, which would compare a low RLIMIT_NPROC with the number of the user's processes, and
	// have execve fail. And before there is a user namespace: if it is set in one, it counts the processes there, and not those that
	// the user has besides (since Linux 5.14).
	c.addRlimits(others)
	if c.flags&orderUserNS != 0 {
		c.separate(spec.Credential)
	}
	c.addRlimits(files) // last, because separate opens files
	if !spec.AllowNewPrivs {
		c.add(StepNoNewPrivs, 0, syscall.SYS_PRCTL, prSetNoNewPrivs, 1, 0)
		c.restrict(spec)
	}
	// After setresuid, which clears it. If the shim has died before, its death sends no signal: look.
	c.add(StepPdeathsig, 0, syscall.SYS_PRCTL, syscall.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0)
	c.add(StepPdeathsig, 0, syscall.SYS_GETPPID, 0, 0, 0).want = uintptr(syscall.Getpid())
	c.defaultSignals()
	// And execve, of the path that the stage has found.
}

// restrict has the program restrict itself by the ruleset, if there is one.
func (c *composer) restrict(spec *Spec) {
	if c.rules == 0 {
		return
	}
	call := c.add(StepLandlock, 0, sysLandlockRestrictSelf, uintptr(c.joins+c.stdio+c.keeps), 0, 0)
	if call.flags = callDescriptor; spec.RulesetOptional {
		call.flags |= callTold
	}
}

// changeUser gives the program another user, and takes away the capabilities of the one before. setresuid alone leaves
// the inheritable ones, those that are ambient if the user before was not root either, and all of them with the
// securebit no_setuid_fixup.
//
// The bounding set stays. It gives nothing by itself: it bounds what set-user-ID programs and file capabilities give, and
// with no_new_privs they give nothing.
func (c *composer) changeUser(who *Credential) {
	uid, gid := uintptr(who.UID), uintptr(who.GID)
	c.add(StepUser, 0, syscall.SYS_SETGROUPS, uintptr(len(who.Groups)), put(c, who.Groups...), 0)
	c.add(StepUser, 0, syscall.SYS_SETRESGID, gid, gid, gid)
	c.add(StepUser, 0, syscall.SYS_SETRESUID, uid, uid, uid).flags = callPrivileged
	if c.flags&orderUserNS != 0 {
		c.changeUserInPart(uid)
	}
	if who.UID == 0 && !rootIsOrdinary() {
		// Root was asked for, and so were its capabilities: execve takes them from the bounding set, with no_new_privs
		// less those that are not permitted now. What an ordinary user could inherit from it goes.
		c.add(StepUser, 0, syscall.SYS_PRCTL, prCapAmbient, prCapAmbientClearAll, 0)
		return
	}
	c.dropCapabilities(StepUser)
}

// dropCapabilities drops all: with the permitted and the inheritable ones the ambient ones go, see capabilities(7).
func (c *composer) dropCapabilities(step Step) *systemCall {
	header := put[uint32](c, capabilityVersion3, 0) // of the calling thread
	return c.add(step, 0, syscall.SYS_CAPSET, header, put(c, make([]uint32, 6)...), 0)
}

// rootIsOrdinary reports whether user 0 gets no capabilities from execve: it does not with the securebit noroot.
func rootIsOrdinary() bool {
	const noRoot = 1 << 0 // SECBIT_NOROOT
	bits, errno := call(syscall.SYS_PRCTL, prGetSecurebits, 0, 0, 0)
	return errno == 0 && bits&noRoot != 0
}

// defaultSignals gives signals the state that programs expect: none is blocked, and none is ignored but SIGHUP and
// SIGINT, if the caller ignores them. The others have a handler of the Go runtime's, whatever the caller had, until there is a
// stage; but these the runtime leaves as they were.
func (c *composer) defaultSignals() {
	action := put[uint64](c, 0, 0, 0, 0) // SIG_DFL, no flags
	for _, sig := range untouchedSignals {
		c.add(StepExec, 0, syscall.SYS_RT_SIGACTION, uintptr(sig), action, 0).a4 = sigsetSize
	}
	c.add(StepExec, 0, syscall.SYS_RT_SIGPROCMASK, sigSetmask, put[uint64](c, 0), 0).a4 = sigsetSize
}

// untouchedSignals are those that the Go runtime has no handler for: those of job control, and three that C libraries
// use for threads.
var untouchedSignals = []syscall.Signal{syscall.SIGCONT, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU, 32, 33, 34}

func (c *composer) addRlimits(limits []rlimit) {
	for _, l := range limits {
		c.add(StepRlimit, l.index, syscall.SYS_PRLIMIT64, 0, uintptr(l.Resource), put(c, l.Soft, l.Hard))
	}
}

func (c *composer) add(step Step, index int, trap, a1, a2, a3 uintptr) *systemCall {
	if c.count == maxSystemCalls {
		c.err = &Error{Step: step, Errno: syscall.E2BIG, Index: index}
		return new(systemCall)
	}
	s := &c.calls[c.count]
	*s = systemCall{step: step, index: index, trap: trap, a1: a1, a2: a2, a3: a3}
	c.count++
	return s
}

// string, strings and put write something behind the order, and return its address.

func (c *composer) string(s string) uintptr {
	at := c.next()
	c.tail = append(append(c.tail, s...), 0)
	return at
}

func (c *composer) strings(list []string) uintptr {
	pointers := make([]uintptr, 0, len(list)+1)
	for _, s := range list {
		pointers = append(pointers, c.string(s))
	}
	return put(c, append(pointers, 0)...)
}

func put[T uint32 | uint64 | uintptr](c *composer, list ...T) uintptr {
	for len(c.tail)%8 != 0 {
		c.tail = append(c.tail, 0)
	}
	at := c.next()
	for i := range list {
		c.tail = append(c.tail, bytesOf(&list[i])...)
	}
	return at
}

func (c *composer) next() uintptr { return orderAddress + orderSize + uintptr(len(c.tail)) }

// rlimit is one that the program gets, and which of Spec.Rlimits it is; -1 if none.
type rlimit struct {
	Rlimit
	index int
}

// programRlimits are the resource limits that the program has to get: those that raise a hard limit, which takes a privilege
// that the credentials may drop, the others, and of those RLIMIT_NOFILE: the one that was there before the Go runtime raised it, if
// no other is asked for.
func programRlimits(asked []Rlimit) (raising, others, files []rlimit) {
	var last [rlimits]*rlimit
	last[syscall.RLIMIT_NOFILE] = callersNofile()
	for i, l := range asked {
		last[l.Resource] = &rlimit{l, i}
	}
	for _, l := range last {
		switch {
		case l == nil:
		case l.index >= 0 && l.raises():
			raising = append(raising, *l)
		case l.Resource == syscall.RLIMIT_NOFILE:
			files = append(files, *l)
		default:
			others = append(others, *l)
		}
	}
	return raising, others, files
}

// callersNofile is the RLIMIT_NOFILE that this process was started with, or has set since; nil if that is not known.
func callersNofile() *rlimit {
	var now syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &now)
	soft, hard := nofile.Original[0], nofile.Original[1]
	switch {
	case nofile.Known && (err != nil || now == syscall.Rlimit{Cur: hard - 1, Max: hard}):
		now = syscall.Rlimit{Cur: soft, Max: hard} // package syscall has raised it
	case err != nil:
		return nil
	}
	return &rlimit{Rlimit{syscall.RLIMIT_NOFILE, now.Cur, now.Max}, -1}
}

func (l *rlimit) raises() bool {
	var now syscall.Rlimit
	return syscall.Getrlimit(l.Resource, &now) == nil && l.Hard > now.Max
}
