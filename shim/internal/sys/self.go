package sys

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// ThisProcess is what /proc tells of this process. It is read once: use what does not change.
var ThisProcess = sync.OnceValues(func() (Process, error) { return ReadProcess(os.Getpid()) })

// OnTerminal reports whether this process has a controlling terminal.
func OnTerminal() bool {
	self, err := ThisProcess()
	return err == nil && self.Terminal
}

// CollectDescriptors has the kernel close descriptors that are on their way through sockets which are on their way
// themselves: it looks for such when a socket is closed.
func CollectDescriptors() {
	if socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err == nil {
		_ = unix.Close(socket)
	}
}

// SystemdBooted reports whether systemd is this system's manager, see sd_booted(3).
func SystemdBooted() bool {
	var st unix.Stat_t
	return unix.Lstat("/run/systemd/system", &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}
