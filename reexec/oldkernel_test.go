package reexec

import (
	"errors"
	"os"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// oldKernel makes clone3 and close_range fail with ENOSYS in this thread and in all that it starts, by a
// seccomp filter, as before Linux 5.3 and in many a container. A filter can't be taken off: the thread
// is never unlocked, and ends with the test's goroutine.
func oldKernel(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	err := becomeOld()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EACCES) { // not in the kernel; not root
		t.Skip("requires seccomp")
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.CloseRange(1<<20, 1<<20, 0); !errors.Is(err, unix.ENOSYS) {
		t.Fatalf("close_range under the filter: %v, want ENOSYS", err)
	}
}

// Without close_range, what has to be closed is all up to the last descriptor that there is.
func TestOpenDescriptors(t *testing.T) {
	if err := unix.CloseRange(1<<20, 1<<20, 0); err == nil {
		if end := openDescriptors(); end != 0 {
			t.Errorf("%d, with close_range", end)
		}
	}
	oldKernel(t)
	for _, number := range []int{900, 950} {
		fd, err := unix.FcntlInt(1, unix.F_DUPFD_CLOEXEC, number)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if end := openDescriptors(); end != uintptr(fd+1) {
			t.Errorf("%d, and %d is open", end, fd)
		}
	}
}

// oldKernelEnv makes the kernel an old one for a helper.
const oldKernelEnv = "REEXEC_TEST_OLD_KERNEL"

func init() {
	if os.Getenv(oldKernelEnv) != "" {
		runtime.LockOSThread() // the filter is this thread's
		if err := becomeOld(); err != nil {
			fatalf("seccomp: %v", err)
		}
	}
}

// becomeOld is oldKernel for a helper.
func becomeOld() error {
	const sysCloseRange = 436 // the same number on every architecture, as clone3's
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // seccomp_data.nr
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: sysClone3, Jt: 2},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: sysCloseRange, Jt: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
}
