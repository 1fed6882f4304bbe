// Package plain makes a process of tests like one that a shell has started in the foreground, however it was started itself:
// under nohup, in the background of a script, by a program that blocks signals. The programs of the tests inherit what it
// ignores, as those of cgshim do, and would not die of the signals that the tests are about.
//
// It is for TestMain only.
package plain

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// env says that it has been done.
const env = "CGSHIM_TEST_PLAIN"

// Exec executes this program again, with all signals at their defaults and none blocked. It returns in the second one. Go
// can't change that for itself: it takes what it finds for its own default.
func Exec() {
	if os.Getenv(env) != "" {
		_ = os.Unsetenv(env) // not for the programs
		return
	}
	path, err := os.Executable()
	if err != nil {
		panic(err)
	}
	runtime.LockOSThread() // whose mask it is
	var none unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &none, nil); err != nil {
		panic(err)
	}
	for _, sig := range []unix.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGCHLD, unix.SIGPIPE, unix.SIGUSR1, unix.SIGUSR2, unix.SIGTSTP} {
		// What is caught is at its default after execve, but not what is ignored. The kernel's struct sigaction is zero then.
		var byDefault [4]uint64
		if _, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&byDefault)), 0, unsafe.Sizeof(none.Val[0]), 0, 0); errno != 0 {
			panic(errno)
		}
	}
	panic(unix.Exec(path, os.Args, append(os.Environ(), env+"=1")))
}
