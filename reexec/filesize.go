package reexec

import "syscall"

const rlimitFsize = 1 // RLIMIT_FSIZE, the same number on every architecture

// growing calls what makes a file so long. A RLIMIT_FSIZE of the caller's is meant for the program, and would end us (SIGXFSZ):
// where it is less, it is raised meanwhile, which takes CAP_SYS_RESOURCE if it is a hard one; without that the error is EFBIG.
// Nobody forks then, for a stage, and so its program, would have what is raised.
func growing(size int64, write func() error) error {
	syscall.ForkLock.RLock()
	limit, enough := roomFor(size)
	if enough {
		defer syscall.ForkLock.RUnlock()
		return write()
	}
	syscall.ForkLock.RUnlock()
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
	raised := syscall.Rlimit{Cur: uint64(size), Max: max(uint64(size), limit.Max)}
	if syscall.Setrlimit(rlimitFsize, &raised) != nil {
		return syscall.EFBIG
	}
	err := write()
	if e := syscall.Setrlimit(rlimitFsize, &limit); err == nil {
		err = e
	}
	return err
}

// roomFor says whether this process may make a file so long.
func roomFor(size int64) (limit syscall.Rlimit, enough bool) {
	err := syscall.Getrlimit(rlimitFsize, &limit)
	return limit, err != nil || limit.Cur >= uint64(size)
}
