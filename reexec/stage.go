package reexec

import (
	"errors"
	"runtime"
	"syscall"
	"unsafe"

	"github.com/cgshim/cgshim/reexec/internal/nofile"
)

func init() {
	if v, ok := syscall.Getenv(stageEnv); ok && v == stageEnvFD {
		_, guarded = syscall.Getenv(guardianEnv)
		runStage()
		end()
	}
}

// guarded says that the shim wants a guardian.
var guarded bool

// end is the end of a stage that is not needed any more. There may be something to clean up: the shim has
// called the run off by dying, or is about to undo what it has made.
func end() {
	if guarded {
		guardAsStage()
	}
	exit(125) // nobody looks, unless somebody set the variable by hand
}

// socket is the stage's end of the socket pair: stageFD, until the program needs that number.
var socket = stageFD

// lifeline is the guardian's end of its pipe: guardianFD, until the program needs that number.
var lifeline = guardianFD

// into is the run's cgroup2 directory; -1 if there is none yet.
var into = -1

// runStage is the stage from its first line of Go to its end. It returns when the shim closes the socket: the
// run was called off.
func runStage() {
	runtime.LockOSThread() // the signal mask and the clone are this thread's
	if errno := closeOnExecFrom(stageFD); errno != 0 {
		fail(StepStage, errno)
	}
	spec, ok := receiveSpec()
	if !ok {
		return
	}
	if spec.Dir != "" {
		if err := syscall.Chdir(spec.Dir); err != nil {
			fail(StepChdir, errnoOf(err))
		}
	}
	path, errno := lookup(spec.Args[0], spec.Env)
	if errno != 0 {
		fail(StepLookup, errno)
	}
	c := newChild(spec, path)
	order, fds, ok := receiveOrder()
	if !ok {
		return
	}
	placeDescriptors(order, fds)
	if spec.NewNet {
		if errno := newNetwork(); errno != 0 {
			fail(StepNet, errno)
		}
	}
	c.plan(socket, order, fds)
	if order.mode != joinTasks {
		into = fds[0]
	}
	c.started.nanos = monotonic()
	pid, errno := c.launch()
	if errno != 0 {
		fail(StepClone, errno)
	}
	c.started.pid = int64(pid)
	send(&c.started) // the program has said so itself, if it has lived long enough
	if guarded {
		guard()
	}
	exit(0)
}

func receiveSpec() (*Spec, bool) {
	var size [8]byte
	if n, err := readFull(socket, size[:]); err != nil || n < len(size) {
		return nil, false
	}
	b := make([]byte, uint64At(size[:]))
	if n, err := readFull(socket, b); err != nil || n < len(b) {
		return nil, false
	}
	spec := new(Spec)
	return spec, spec.decode(b)
}

func receiveOrder() (order *launchOrder, fds []int, ok bool) {
	order = new(launchOrder)
	oob := make([]byte, syscall.CmsgSpace(4*(2+maxTasks+3+maxKeep)))
	const flags = syscall.MSG_CMSG_CLOEXEC | syscall.MSG_WAITALL
	n, oobn, got, _, err := syscall.Recvmsg(socket, order.bytes(), oob, flags)
	for err == syscall.EINTR {
		n, oobn, got, _, err = syscall.Recvmsg(socket, order.bytes(), oob, flags)
	}
	if err != nil || n < int(launchOrderSize) {
		return nil, nil, false
	}
	messages, err := syscall.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		fail(StepStage, errnoOf(err))
	}
	for i := range messages {
		if fds, err = syscall.ParseUnixRights(&messages[i]); err != nil {
			fail(StepStage, errnoOf(err))
		}
	}
	// Too few free descriptors here: a group would silently not be joined, a file not be there.
	if got&syscall.MSG_CTRUNC != 0 || uint64(len(fds)) != order.joins+order.stdio+order.keeps {
		if order.keeps > 0 {
			failIndex(StepFD, syscall.EMFILE, -1)
		}
		fail(StepJoin, syscall.EMFILE)
	}
	return order, fds, true
}

// placeDescriptors gives the program's descriptors their numbers. What is there already, and is needed
// still, gives way: the socket, and descriptors that have arrived under a number that is another's.
func placeDescriptors(order *launchOrder, fds []int) {
	keep := order.keep[:order.keeps]
	var err error
	if socket, err = outOfTheWay(socket, keep); err != nil {
		socket = stageFD
		failIndex(StepFD, errnoOf(err), -1)
	}
	if guarded {
		if lifeline, err = outOfTheWay(lifeline, keep); err != nil {
			lifeline = guardianFD
			failIndex(StepFD, errnoOf(err), -1)
		}
	}
	for i := range fds {
		if fds[i], err = outOfTheWay(fds[i], keep); err != nil {
			failIndex(StepFD, errnoOf(err), -1)
		}
	}
	stdio, kept := fds[order.joins:order.joins+order.stdio], fds[order.joins+order.stdio:]
	for i, fd := range stdio {
		if err := dup3(fd, i); err != 0 {
			failIndex(StepFD, err, -1)
		}
	}
	for i, fd := range kept {
		if err := dup3(fd, int(keep[i])); err != 0 {
			failIndex(StepFD, err, i)
		}
	}
}

// outOfTheWay is a descriptor's duplicate with a number that is in nobody's way. Those between stay open,
// close-on-exec, so that each next one is another.
func outOfTheWay(fd int, taken []int64) (int, error) {
	for {
		inTheWay := false
		for _, number := range taken {
			inTheWay = inTheWay || int64(fd) == number
		}
		if !inTheWay {
			return fd, nil
		}
		const dupfdCloexec = 1030
		next, _, errno := syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(fd), dupfdCloexec, stageFD)
		if errno != 0 {
			return 0, errno
		}
		fd = int(next)
	}
}

// dup3 makes a descriptor that the program inherits.
func dup3(from, to int) syscall.Errno {
	_, _, errno := syscall.RawSyscall(syscall.SYS_DUP3, uintptr(from), uintptr(to), 0)
	return errno
}

// newNetwork gives this thread, and so the program, a network namespace in which loopback works
// (network_namespaces(7), netdevice(7)).
func newNetwork() syscall.Errno {
	if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
		return errnoOf(err)
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return errnoOf(err)
	}
	request := struct { // struct ifreq
		name  [syscall.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}{name: [syscall.IFNAMSIZ]byte{'l', 'o'}, flags: syscall.IFF_UP}
	_, _, errno := syscall.RawSyscall(syscall.SYS_IOCTL, uintptr(fd), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request)))
	closeFD(fd)
	return errno
}

// lookup finds the file to execute, as execvp(3) does. A name with a slash is taken as it is, but has to
// exist: so that "not found" is told apart from an interpreter that is missing.
func lookup(name string, env []string) (string, syscall.Errno) {
	var st syscall.Stat_t
	failure := syscall.ENOENT
	if name == "" {
		return "", failure
	}
	if hasByte(name, '/') {
		return name, errnoOf(syscall.Stat(name, &st))
	}
	for rest, more := pathOf(env), true; more; {
		var dir string
		dir, rest, more = cutColon(rest)
		if dir == "" {
			dir = "." // POSIX: a zero-length prefix is the current directory
		}
		path := dir + "/" + name
		if err := syscall.Stat(path, &st); err != nil {
			if errnoOf(err) == syscall.EACCES {
				failure = syscall.EACCES // a directory that can't be searched may have it
			}
			continue
		}
		const xOK, atEaccess = 1, 0x200
		if st.Mode&syscall.S_IFMT == syscall.S_IFREG && syscall.Faccessat(atFdcwd, path, xOK, atEaccess) == nil {
			return path, 0
		}
		failure = syscall.EACCES // there is one, though none that can be executed
	}
	return "", failure
}

const atFdcwd = -100

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

// closeOnExecFrom marks every descriptor from first up close-on-exec, whoever opened it: what the
// shim's caller leaked must not reach the program.
func closeOnExecFrom(first uintptr) syscall.Errno {
	const closeRangeCloexec = 1 << 2
	_, _, errno := syscall.RawSyscall(sysCloseRange, first, ^uintptr(0)>>32, closeRangeCloexec)
	if errno == 0 {
		return 0
	}
	dir, err := syscall.Open("/proc/self/fd", syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return errnoOf(err)
	}
	buf := make([]byte, 8192)
	for {
		n, err := syscall.ReadDirent(dir, buf)
		if err != nil || n == 0 {
			closeFD(dir)
			return errnoOf(err)
		}
		_, _, names := syscall.ParseDirent(buf[:n], -1, nil)
		for _, name := range names {
			if fd, ok := parseUint(name); ok && fd >= first {
				syscall.CloseOnExec(int(fd))
			}
		}
	}
}

func parseUint(s string) (n uintptr, ok bool) {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + uintptr(s[i]-'0')
	}
	return n, len(s) > 0
}

func monotonic() int64 {
	const clockMonotonic = 1
	var ts syscall.Timespec
	_, _, _ = syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&ts)), 0)
	return ts.Nano()
}

func fail(step Step, errno syscall.Errno) { failIndex(step, errno, 0) }

func failIndex(step Step, errno syscall.Errno, index int) {
	send(&record{step: step, errno: uint32(errno), pid: int64(index)})
	end()
}

func send(r *record) {
	_, _ = syscall.Write(socket, r.bytes()) // a shim that is gone has nobody to tell
}

func exit(code int) { syscall.Exit(code) }

// errnoOf is the errno of an error of package syscall.
func errnoOf(err error) syscall.Errno {
	var errno syscall.Errno
	if err != nil && !errors.As(err, &errno) {
		return syscall.EIO
	}
	return errno
}

// programRlimits are the resource limits that the program has to get: first so many that raise a hard
// limit, which takes a privilege that the credentials may drop, and then those that do not. With them goes
// the RLIMIT_NOFILE that was there before the Go runtime raised it.
func programRlimits(asked []Rlimit) (limits []rlimit, raising int) {
	var last [rlimits]*Rlimit
	var index [rlimits]int
	for i := range asked {
		last[asked[i].Resource], index[asked[i].Resource] = &asked[i], i
	}
	var others []rlimit
	for resource, l := range last {
		switch {
		case l != nil:
			limit := rlimit{uintptr(resource), index[resource], [2]uint64{l.Soft, l.Hard}}
			if raises(resource, l.Hard) {
				limits = append(limits, limit)
			} else {
				others = append(others, limit)
			}
		case resource == rlimitNofile && nofile.Known:
			others = append(others, rlimit{rlimitNofile, -1, nofile.Original})
		}
	}
	return append(limits, others...), len(limits)
}

func raises(resource int, hard uint64) bool {
	var now [2]uint64
	_, errno := call(syscall.SYS_PRLIMIT64, 0, uintptr(resource), 0, uintptr(unsafe.Pointer(&now)))
	return errno == 0 && hard > now[1]
}
