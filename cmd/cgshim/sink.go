package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// fdVariable names the default result descriptor in the environment.
const fdVariable = "CGSHIM_FD"

// A sink is where the result goes: a descriptor, or a file, see checkFile.
type sink struct {
	fd   int
	path string // of a file, for messages; "" for a descriptor
	name string // of a file in the directory fd; "" if fd is the device or FIFO itself
}

// stderr is the default, and where the result goes if the sink that was asked for is no good.
var stderr = sink{fd: 2}

func (s sink) isStderr() bool { return s == stderr }

// openSink checks the sink that the flags name.
func openSink(flag flagReader) (sink, error) {
	if path, ok := flag("output"); ok {
		return checkFile(path)
	}
	origin := "--fd"
	value, ok := flag("fd")
	if !ok {
		origin = "$" + fdVariable
		if value, ok = os.LookupEnv(fdVariable); !ok {
			if err := checkWritable(stderr.fd); err != nil {
				return stderr, fmt.Errorf("stderr: %w", err)
			}
			return stderr, nil
		}
	}
	number, err := strconv.ParseInt(value, 10, 32) // the kernel's descriptors are 32 bits, and cut off the rest
	fd := int(number)
	if err != nil || fd < 0 {
		return stderr, fmt.Errorf("%s %q: want the number of an open descriptor", origin, value)
	}
	if err := checkFD(fd); err != nil {
		hint := fmt.Sprintf("open it: %d>result.json in a shell, pass_fds=[%[1]d] in Python", fd)
		return stderr, hinted{fmt.Errorf("%s %q: %w", origin, value, err), hint}
	}
	return sink{fd: fd}, nil
}

// checkFD makes sure that a descriptor was inherited and can be written, and that the program will not
// inherit it: what it can't reach it can't forge. The standard ones it shares; and one of those that is
// closed can't be told from one that is /dev/null, which the Go runtime has put in its place.
func checkFD(fd int) error {
	if fd <= 2 {
		return checkWritable(fd)
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	// What was inherited lacks the flag; what has it is the Go runtime's own.
	if err != nil || flags&unix.FD_CLOEXEC != 0 {
		return errNotOpen
	}
	if err := checkWritable(fd); err != nil {
		return err
	}
	unix.CloseOnExec(fd)
	return nil
}

func checkWritable(fd int) error {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	switch {
	case err != nil:
		return errNotOpen
	case flags&unix.O_ACCMODE == unix.O_RDONLY || flags&unix.O_PATH != 0:
		return errors.New("the descriptor is not open for writing")
	}
	return nil
}

func (s sink) write(line []byte) error {
	if s.path != "" {
		if err := s.writeFile(line); err != nil {
			return fmt.Errorf("writing the result: %w", err)
		}
		return nil
	}
	if s.fd <= 2 {
		_, _ = unix.Seek(s.fd, 0, unix.SEEK_END) // of a file whose position the program shares
	}
	if err := writeFD(s.fd, line); err != nil {
		return fmt.Errorf("writing the result to descriptor %d: %w", s.fd, err)
	}
	return nil
}

const (
	// deliveryTimeout is how long a reader of a full pipe may make no progress.
	deliveryTimeout = 5 * time.Second
	// pipeBuf is PIPE_BUF: a write of at most that goes into a pipe that poll calls writable at once,
	// and in one piece, also if it can't be reopened.
	pipeBuf = 4096
)

// errStalled says that nobody reads.
var errStalled = errors.New("nobody reads it")

// writeFD writes to a descriptor that may be a full pipe or a socket, and gives up when nobody reads it.
func writeFD(fd int, line []byte) error {
	w := newWriter(fd)
	defer w.close()
	return w.write(line, -1)
}

// A writer writes to a descriptor, and never waits in a write, which nothing could end: only in a poll.
type writer struct {
	fd     int
	own    bool   // fd is ours, and does not wait
	format uint32 // what the descriptor is, as in st_mode
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

// write writes the whole line, or gives up when nobody has read for deliveryTimeout. Before the descriptor told is
// readable, a reader may take as long as it likes; -1 is none, and no such reader.
func (w *writer) write(line []byte, told int) error {
	for progress := time.Now(); len(line) > 0; {
		timeout := int(deliveryTimeout.Milliseconds())
		if told >= 0 {
			timeout = -1
		}
		ready := []unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLOUT}, {Fd: int32(told), Events: unix.POLLIN}} // -1 is ignored
		n, err := unix.Poll(ready, timeout)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case ready[1].Revents != 0:
			told, progress = -1, time.Now()
			continue
		case told < 0 && (n == 0 || time.Since(progress) > deliveryTimeout):
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

// some writes what goes out without a wait.
func (w *writer) some(line []byte) (int, error) {
	switch {
	case w.format == unix.S_IFSOCK:
		return unix.SendmsgN(w.fd, line, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	case w.format == unix.S_IFIFO && !w.own:
		return spliceSome(w.fd, line)
	}
	return unix.Write(w.fd, line[:min(len(line), roomFor(w.fd))])
}

// spliceSome writes to a pipe that can't be reopened, and whose room others may have taken since poll: only splice can be
// told not to wait for more.
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

// reopenTerminal is reopenPipe for a terminal, which somebody may stop (Ctrl-S).
func reopenTerminal(fd int) (int, error) {
	if _, err := unix.IoctlGetTermios(fd, unix.TCGETS); err != nil {
		return -1, err
	}
	return reopen(fd)
}

// reopenPipe opens a pipe once more, with flags that the caller and the program do not share: without O_NONBLOCK whoever
// fills it between poll and write has the write wait for a reader, and with O_DIRECT one read gets a part of a line.
// It may be refused (EACCES) where another user has made the pipe.
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

// reopen opens what a descriptor is of once more, to write without a wait.
func reopen(fd int) (int, error) {
	return unix.Open("/proc/self/fd/"+strconv.Itoa(fd), unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
}

// roomFor is how much a single write can hold without waiting for a reader: a line comes in one piece if
// that is possible at all.
func roomFor(fd int) int {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return pipeBuf
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return math.MaxInt32
	case unix.S_IFIFO:
		// How much is left of one that is not empty can't be told from the number of bytes in it: a page
		// may hold a single one.
		size, err := unix.FcntlInt(uintptr(fd), unix.F_GETPIPE_SZ, 0)
		if used, usedErr := unix.IoctlGetInt(fd, unix.TIOCINQ); err == nil && usedErr == nil && used == 0 {
			return max(size, pipeBuf)
		}
	}
	return pipeBuf
}
