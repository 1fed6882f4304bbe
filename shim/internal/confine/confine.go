// Package confine makes the rulesets of Landlock by which programs restrict themselves, see landlock(7).
//
// There are two, and both may be asked for. The shield keeps a program from sending signals to what is outside of its run; any
// ruleset keeps it from tracing that, and from reaching its descriptors and memory through /proc. The other one is a list of
// what the program may open of the file system.
package confine

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Policy is what a program may do. The zero Policy is everything.
type Policy struct {
	Shield    bool     // no signals to what is outside of the run
	Optional  bool     // no shield is no error, if the kernel has none
	Loose     bool     // a kernel that can't forbid everything is no error
	ReadOnly  []string // it may read and execute files beneath these paths
	ReadWrite []string // it may also write, create, rename, link and remove files beneath these
	System    bool     // it may use SystemReadOnly and SystemReadWrite, too
}

// SystemReadOnly and SystemReadWrite are the paths of Policy.System. Those that are not there are left out. cgroup files can be read
// beneath /sys, and never written: Java, Node and Go read their limits there. /proc/self is not among the second, because a rule
// holds a directory, and not a name, so that it would be cgshim's own.
var (
	SystemReadOnly = [...]string{
		"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/proc", "/sys", "/run/systemd/resolve",
	}
	SystemReadWrite = [...]string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"}
)

// Files reports whether the policy is about files.
func (p *Policy) Files() bool { return len(p.ReadOnly) > 0 || len(p.ReadWrite) > 0 || p.System }

// What the kernel lacks; Unsupported tells these from others.
var (
	ErrNone       = errors.New("the kernel has no Landlock, or it is turned off") // or refused, by a seccomp filter
	ErrNoScope    = errors.New("the kernel's Landlock can't keep signals inside: that takes Linux 6.12")
	ErrNoTruncate = errors.New("the kernel's Landlock can't keep truncate(2) from emptying files that may not be written: that takes Linux 6.2")
)

// Unsupported reports whether an error is the kernel's lack of something.
func Unsupported(err error) bool {
	return errors.Is(err, ErrNone) || errors.Is(err, ErrNoScope) || errors.Is(err, ErrNoTruncate)
}

// A PathError is a path that can't be looked up.
type PathError struct {
	ReadWrite bool
	Path      string
	Err       error
}

func (e *PathError) Error() string { return fmt.Sprintf("%q: %v", e.Path, e.Err) }

// Unwrap returns the cause.
func (e *PathError) Unwrap() error { return e.Err }

// ABITruncate is the first version that does for Policy.Files: Linux 6.2.
const ABITruncate = 3

// Other versions of Landlock, and of Linux.
const (
	abiRefer = 2 // 5.19
	abiIoctl = 5 // 6.10
	abiScope = 6 // 6.12
	abiUnix  = 9 // 7.1
)

const (
	read    = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR | unix.LANDLOCK_ACCESS_FS_EXECUTE
	devices = unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK
	// ofFiles are the rights that a rule about something else than a directory may have.
	ofFiles = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
		unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV | unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX
)

// later are the rights that the first version does not know. It is a function so that a run without paths has nothing to do with it.
func later() []right {
	return []right{
		{abiRefer, unix.LANDLOCK_ACCESS_FS_REFER, "files can't be renamed or linked from one directory to another (since Linux 5.19)"},
		{ABITruncate, unix.LANDLOCK_ACCESS_FS_TRUNCATE, "files that may not be written can be emptied by truncate (it can be forbidden since Linux 6.2)"},
		{abiIoctl, unix.LANDLOCK_ACCESS_FS_IOCTL_DEV, "ioctl is allowed on every device that is open (it can be forbidden since Linux 6.10)"},
		{abiScope, 0, "signals, and sockets by abstract names, reach what is outside of the run (they can be forbidden since Linux 6.12)"},
		{abiUnix, unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX, ""}, // the manual says so
	}
}

// A right is one that a version knows.
type right struct {
	since int
	bit   uint64 // of files; 0 for a scope
	lack  string // what it is to be without; "" is not worth a warning
}

// handled are the rights to files that a version knows.
func handled(abi int) uint64 {
	all := uint64(unix.LANDLOCK_ACCESS_FS_MAKE_SYM)<<1 - 1 // the first version's
	for _, r := range later() {
		if abi >= r.since {
			all |= r.bit
		}
	}
	return all
}

// lacks are the rights that a version does not know, in words.
func lacks(abi int) (list []string) {
	for _, r := range later() {
		if abi < r.since && r.lack != "" {
			list = append(list, r.lack)
		}
	}
	return list
}

// ABI is the kernel's version of Landlock; 0 is that there is none: in an old kernel, turned off at boot, or refused by a seccomp
// filter, as in old container runtimes.
func ABI() int {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(abi)
}

// A Ruleset is one that was made.
type Ruleset struct {
	FD      int      // the caller's to close
	Shield  bool     // it is about signals, too
	Lacking []string // what an older kernel can't forbid, in words
}

// Ruleset makes the policy's ruleset. Paths are those of the calling process; a file system that does not answer keeps the call from
// returning. The error is a *PathError for a path that is not there, or Unsupported.
func (p *Policy) Ruleset() (Ruleset, error) {
	if !p.Files() {
		fd, err := shield()
		return Ruleset{FD: fd, Shield: true}, err
	}
	abi := ABI()
	r := Ruleset{Shield: p.Shield && abi >= abiScope, Lacking: lacks(abi)}
	switch {
	case abi == 0:
		return r, ErrNone
	case abi < ABITruncate && !p.Loose:
		return r, ErrNoTruncate
	case p.Shield && !r.Shield && !p.Optional && !p.Loose:
		return r, ErrNoScope
	}
	attr := unix.LandlockRulesetAttr{Handled_access_fs: handled(abi)}
	size := unsafe.Offsetof(attr.Handled_access_net)
	if abi >= abiScope {
		size = unsafe.Offsetof(attr.Quiet_access_fs)
		attr.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
	}
	if r.Shield {
		attr.Scoped |= unix.LANDLOCK_SCOPE_SIGNAL
	}
	var err error
	if r.FD, err = create(&attr, size); err != nil {
		return r, err
	}
	if err = p.allow(r.FD, handled(abi)); err != nil {
		_ = unix.Close(r.FD)
	}
	return r, err
}

// shield is the ruleset that is only about signals.
func shield() (int, error) {
	attr := unix.LandlockRulesetAttr{Scoped: unix.LANDLOCK_SCOPE_SIGNAL}
	fd, err := create(&attr, unsafe.Offsetof(attr.Quiet_access_fs))
	if errors.Is(err, unix.E2BIG) || errors.Is(err, unix.EINVAL) { // an older one knows no such field, or no such scope
		return -1, ErrNoScope
	}
	return fd, err
}

// create is landlock_create_ruleset(2). The kernel refuses a size that it does not know, if there is anything in it.
func create(attr *unix.LandlockRulesetAttr, size uintptr) (int, error) {
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(attr)), size, 0)
	switch errno {
	case 0:
		return int(fd), nil
	case unix.ENOSYS, unix.EOPNOTSUPP, unix.EPERM: // EPERM: a seccomp filter's
		return -1, fmt.Errorf("%w: %w", ErrNone, errno)
	}
	return -1, os.NewSyscallError("landlock_create_ruleset", errno)
}

// allow adds the rules. Nobody may make device files: root would make one for a disk.
func (p *Policy) allow(ruleset int, known uint64) error {
	readWrite := known &^ devices
	for _, list := range []struct {
		paths  []string
		access uint64
		maybe  bool
	}{
		{p.ReadOnly, read, false},
		{p.ReadWrite, readWrite, false},
		{p.system(SystemReadOnly[:]), read, true},
		{p.system(SystemReadWrite[:]), readWrite, true},
	} {
		for _, path := range list.paths {
			err := allowBeneath(ruleset, path, list.access)
			if err != nil && !list.maybe {
				return &PathError{ReadWrite: list.access == readWrite, Path: path, Err: err}
			}
		}
	}
	return nil
}

func (p *Policy) system(paths []string) []string {
	if !p.System {
		return nil
	}
	return paths
}

// allowBeneath adds a rule for what is beneath a path, or for the file that it is.
func allowBeneath(ruleset int, path string, access uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	for errors.Is(err, unix.EINTR) {
		fd, err = unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		access &= ofFiles
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: access, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return os.NewSyscallError("landlock_add_rule", errno) // EBADFD: a file without a place, as a pipe in /proc/self/fd
	}
	return nil
}

// Paths are all beneath which the policy allows the program to execute files, but for devices.
func (p *Policy) Paths() []string {
	return slices.Concat(p.ReadOnly, p.ReadWrite, p.system(SystemReadOnly[:]))
}
