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
		runStage()
		exit(125) // nobody looks, unless somebody set the variable by hand
	}
}

// runStage is the stage from its first line of Go to its end. It returns when the program is started, and
// early when the shim closes the socket: the run was called off.
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
	mode, fds, ok := receiveJoin()
	if !ok {
		return
	}
	c.join(mode, fds)
	c.started.nanos = monotonic()
	pid, errno := c.launch()
	if errno != 0 {
		fail(StepClone, errno)
	}
	c.started.pid = int64(pid)
	send(&c.started) // the program has said so itself, if it has lived long enough
	runtime.KeepAlive(c)
}

func receiveSpec() (*Spec, bool) {
	var size [8]byte
	if n, err := readFull(stageFD, size[:]); err != nil || n < len(size) {
		return nil, false
	}
	b := make([]byte, uint64At(size[:]))
	if n, err := readFull(stageFD, b); err != nil || n < len(b) {
		return nil, false
	}
	spec := new(Spec)
	return spec, spec.decode(b)
}

func receiveJoin() (mode uint64, fds []int, ok bool) {
	var b [8]byte
	oob := make([]byte, 256) // room for 60 descriptors; there are at most 14 v1 hierarchies
	n, oobn, flags, _, err := syscall.Recvmsg(stageFD, b[:], oob, syscall.MSG_CMSG_CLOEXEC|syscall.MSG_WAITALL)
	for err == syscall.EINTR {
		n, oobn, flags, _, err = syscall.Recvmsg(stageFD, b[:], oob, syscall.MSG_CMSG_CLOEXEC|syscall.MSG_WAITALL)
	}
	if err != nil || n < len(b) {
		return 0, nil, false
	}
	if flags&syscall.MSG_CTRUNC != 0 { // too few free descriptors here: a group would silently not be joined
		fail(StepJoin, syscall.EMFILE)
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
	return uint64At(b[:]), fds, true
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
	const sysCloseRange, closeRangeCloexec = 436, 1 << 2
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

func fail(step Step, errno syscall.Errno) {
	send(&record{step: step, errno: uint32(errno)})
	exit(1)
}

func send(r *record) {
	_, _ = syscall.Write(stageFD, r.bytes()) // a shim that is gone has nobody to tell
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

// originalNofile is the RLIMIT_NOFILE that the program has to see, or nil if it is unknown.
func originalNofile() *[2]uint64 {
	if !nofile.Known {
		return nil
	}
	return &nofile.Original
}
