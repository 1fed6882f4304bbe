package deliver

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// What a file is counts, and not its number, nor how it was opened.
func TestChannels(t *testing.T) {
	open := func(path string, flags int) int {
		fd, err := unix.Open(path, flags|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOCTTY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		return fd
	}
	dup := func(fd int) int {
		other, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 100)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(other) })
		return other
	}
	var pipe, other [2]int
	socks, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil || unix.Pipe2(pipe[:], unix.O_CLOEXEC) != nil || unix.Pipe2(other[:], unix.O_CLOEXEC) != nil {
		t.Fatal(err)
	}
	path := t.TempDir() + "/file"
	file, null, terminal := open(path, unix.O_WRONLY), open(os.DevNull, unix.O_RDWR), open("/dev/ptmx", unix.O_RDWR)
	for _, test := range []struct {
		name         string
		result, prog int
		shared       bool
	}{
		{"a pipe", pipe[1], dup(pipe[1]), true},
		{"the other end of a pipe", pipe[1], pipe[0], true},
		{"two pipes", pipe[1], other[1], false},
		{"a socket", socks[0], dup(socks[0]), true},
		{"two sockets", socks[0], socks[1], false},
		{"a file", file, dup(file), true},
		{"a file, opened twice", file, open(path, unix.O_RDWR), true},
		{"two files", file, open(path+"2", unix.O_WRONLY), false},
		{"/dev/null", null, dup(null), false},
		{"a terminal", terminal, dup(terminal), false},
		{"a descriptor that is closed", pipe[1], 1 << 20, false},
		{"a result descriptor that is closed", 1 << 20, pipe[1], false},
	} {
		if err := (Channels{}).Add(test.result, "x").CheckFD(test.prog); (err != nil) != test.shared {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}
