package deliver

import (
	"errors"
	"math"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// deliveryTimeout is how long the reader of a full pipe may read nothing.
	deliveryTimeout = 5 * time.Second
	// pipeBuf is PIPE_BUF: a write of at most that goes into a pipe that poll calls writable at once,
	// and in one piece, also if it can't be reopened.
	pipeBuf = 4096
)

// errStalled is the error of a write that has been given up.
var errStalled = errors.New("nobody reads it")

// writeFD writes to a descriptor that may be a full pipe or a socket, and gives up when nobody reads it.
func writeFD(fd int, line []byte) error {
	w := newWriter(fd)
	defer w.close()
	return w.write(line, -1)
}

// A writer writes to a descriptor. It never waits in a write, which nothing could end, but only in a poll.
type writer struct {
	fd     int
	own    bool   // fd was opened here, and does not wait
	format uint32 // the type of the file, as in st_mode
}

func newWriter(fd int) *writer {
	w := &writer{fd: fd}
	var st unix.Stat_t
	if unix.Fstat(fd, &st) == nil {
		w.format = st.Mode & unix.S_IFMT
	}
	open := reopenPipe
	if w.format == unix.S_IFCHR {
		open = reopenTerminal
	}
	if own, err := open(fd); err == nil {
		w.fd, w.own = own, true
	}
	return w
}

func (w *writer) close() {
	if w.own {
		_ = unix.Close(w.fd)
	}
}

// write writes the whole line, or gives up when nobody has read for deliveryTimeout. Until the descriptor hurry is readable, a reader
// may take any time; if hurry is -1, no reader may.
func (w *writer) write(line []byte, hurry int) error {
	for progress := time.Now(); len(line) > 0; {
		timeout := int(deliveryTimeout.Milliseconds())
		if hurry >= 0 {
			timeout = -1
		}
		ready := []unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLOUT}, {Fd: int32(hurry), Events: unix.POLLIN}} // -1 is ignored
		n, err := unix.Poll(ready, timeout)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case ready[1].Revents != 0:
			hurry, progress = -1, time.Now()
			continue
		case hurry < 0 && (n == 0 || time.Since(progress) > deliveryTimeout):
			return errStalled
		}
		written, err := w.some(line)
		if err != nil && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return err
		}
		if written > 0 {
			line, progress = line[written:], time.Now()
		}
	}
	return nil
}

// some writes as much as is possible without waiting.
func (w *writer) some(line []byte) (int, error) {
	switch {
	case w.format == unix.S_IFSOCK:
		return unix.SendmsgN(w.fd, line, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	case w.format == unix.S_IFIFO && !w.own:
		return spliceSome(w.fd, line)
	}
	return unix.Write(w.fd, line[:min(len(line), roomFor(w.fd))])
}

// spliceSome writes to a pipe that can't be reopened. Other processes may have filled it since poll, and only splice can be told not
// to wait then.
func spliceSome(fd int, line []byte) (int, error) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return 0, os.NewSyscallError("pipe2", err)
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	n, err := unix.Write(pipe[1], line[:min(len(line), roomFor(fd))])
	if err != nil {
		return 0, err
	}
	moved, err := unix.Splice(pipe[0], nil, fd, nil, n, unix.SPLICE_F_NONBLOCK)
	return int(max(moved, 0)), err
}

// reopenTerminal is reopenPipe for a terminal. A user may stop its output (Ctrl-S).
func reopenTerminal(fd int) (int, error) {
	if _, err := unix.IoctlGetTermios(fd, unix.TCGETS); err != nil {
		return -1, err
	}
	return reopen(fd)
}

// reopenPipe opens a pipe once more, so that its flags are not shared with the caller and the program. Without O_NONBLOCK, a
// write would wait for a reader if another process fills the pipe between poll and write; with O_DIRECT, one read would get only a part
// of a line. The kernel refuses it (EACCES) if another user has made the pipe.
func reopenPipe(fd int) (int, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return -1, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return -1, unix.ESPIPE
	}
	return reopen(fd)
}

// reopen opens a descriptor's file once more, for writing without waiting.
func reopen(fd int) (int, error) {
	return unix.Open("/proc/self/fd/"+strconv.Itoa(fd), unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
}

// roomFor returns how much a single write can take without waiting for a reader. It is as much as possible, so that a line arrives in
// one piece.
func roomFor(fd int) int {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return pipeBuf
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return math.MaxInt32
	case unix.S_IFIFO:
		// If the pipe is not empty, its room can't be computed from the number of bytes in it, because a page may hold a
		// single one.
		size, err := unix.FcntlInt(uintptr(fd), unix.F_GETPIPE_SZ, 0)
		if used, usedErr := unix.IoctlGetInt(fd, unix.TIOCINQ); err == nil && usedErr == nil && used == 0 {
			return max(size, pipeBuf)
		}
	}
	return pipeBuf
}
