package reexec

import (
	"errors"
	"syscall"
	"unsafe"
)

// The file that the shim shares with a stage: its first page, and the will.

// share has the first page of the file shared by stage and shim.
func (s *Stage) share() error {
	if err := growing(willOffset, func() error { return syscall.Ftruncate(s.file, willOffset) }); err != nil {
		return err
	}
	address, errno := mapMemory(0, sharedSize, syscall.MAP_SHARED, uintptr(s.file))
	if errno != 0 {
		return errno
	}
	s.shared = *(**shared)(unsafe.Pointer(&address))
	s.shared.guardian, s.shared.stay = s.options.Guardian, s.options.Stay
	s.shared.descriptors = int32(openDescriptors() + maxDescriptors) // what is opened later gets the lowest numbers
	return nil
}

// openDescriptors is where the numbers of what is open end; or 0, if nobody has to know.
func openDescriptors() (end uintptr) {
	const none = ^uintptr(0) >> 32
	if _, _, errno := syscall.RawSyscall(sysCloseRange, none, none, 0); errno == 0 {
		return 0
	}
	dir, err := syscall.Open("/proc/self/fd", syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return 1 << 16
	}
	defer closeFD(dir)
	buf := make([]byte, 8192)
	for {
		n, err := syscall.ReadDirent(dir, buf)
		if err != nil || n == 0 {
			return end
		}
		_, _, names := syscall.ParseDirent(buf[:n], -1, nil)
		for _, name := range names {
			end = max(end, number(name)+1)
		}
	}
}

// memoryFile is a file without a name: by memfd_create(2), or where that is refused (an old seccomp filter, vm.memfd_noexec), in a
// directory for temporary files.
func memoryFile() (fd int, err error) {
	const cloexec, noExecSeal = 1, 8 // the latter since Linux 6.3
	name := []byte("cgshim-stage\x00")
	for _, flags := range [...]uintptr{cloexec, cloexec | noExecSeal} {
		fd, _, errno := syscall.RawSyscall(sysMemfd, uintptr(unsafe.Pointer(&name[0])), flags, 0)
		if errno == 0 {
			return int(fd), nil
		}
		err = errno
	}
	const tmpfile = 0x400000 | syscall.O_DIRECTORY // O_TMPFILE
	for _, dir := range [...]string{"/dev/shm", "/tmp"} {
		if fd, e := syscall.Open(dir, tmpfile|syscall.O_RDWR|syscall.O_CLOEXEC, 0o600); e == nil {
			return fd, nil
		}
	}
	return 0, err
}

// growing calls what makes a file so long. A RLIMIT_FSIZE of the caller's is meant for the program, and would end us (SIGXFSZ):
// where it is less, it is raised meanwhile, which takes CAP_SYS_RESOURCE if it is a hard one; without that the error is EFBIG.
// Nobody forks then, for a stage, and so its program, would have what is raised.
func growing(size int64, write func() error) error {
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil || limit.Cur >= uint64(size) {
		return write()
	}
	raised := syscall.Rlimit{Cur: uint64(size), Max: max(uint64(size), limit.Max)}
	if syscall.Setrlimit(syscall.RLIMIT_FSIZE, &raised) != nil {
		return syscall.EFBIG
	}
	return errors.Join(write(), syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit))
}
