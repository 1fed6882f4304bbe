// Package nofile remembers RLIMIT_NOFILE as the process was started with.
//
// Package syscall raises the soft limit to the hard one in its init (go.dev/issue/46279) and keeps the
// original where nobody else can read it. A program started by a raw clone would inherit the raised
// value, and one that sizes a table or closes a million descriptors by it (Java, MySQL, old select
// users) would behave differently under cgshim. So the value has to be read before syscall.init runs.
//
// Package initialisation picks, of the packages whose imports are done, the one that sorts first (Go
// 1.21 release notes). This package imports only unsafe, and its path sorts before "syscall": it runs
// first. TestOriginalLimit fails if that ever changes.
package nofile

import "unsafe"

// Original is RLIMIT_NOFILE (soft, hard) at the start of this process; Known is false, and Original
// zero, if the kernel would not tell.
var (
	Original [2]uint64
	Known    bool
)

const rlimitNofile = 7 // RLIMIT_NOFILE, asm-generic/resource.h

// rawSyscall6 is syscall.RawSyscall6, by name because an import of syscall would run its init first. It
// is stateless assembly, usable before that.
//
//go:linkname rawSyscall6 syscall.RawSyscall6
//go:noescape
func rawSyscall6(trap, a1, a2, a3, a4, a5, a6 uintptr) (r1, r2, errno uintptr)

func init() {
	_, _, errno := rawSyscall6(sysPrlimit64, 0, rlimitNofile, 0, uintptr(unsafe.Pointer(&Original)), 0, 0)
	Known = errno == 0
}
