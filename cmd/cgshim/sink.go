package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// fdVariable names the default result descriptor in the environment.
const fdVariable = "CGSHIM_FD"

// A sink is where the result goes: a descriptor, or a file that is written whole or not at all.
type sink struct {
	fd   int
	path string // "" for a descriptor
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
		return stderr, fmt.Errorf("%s %q: %w", origin, value, err)
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

// checkFile makes sure, as far as that can be known before, that the file can be written at the end.
func checkFile(path string) (sink, error) {
	fail := func(err error) (sink, error) { return stderr, fmt.Errorf("--output %q: %w", path, err) }
	info, err := os.Stat(path)
	link, _ := os.Readlink(path)
	switch {
	case path == "":
		return fail(errors.New("the name is empty"))
	case link != "" && errors.Is(err, fs.ErrNotExist):
		return fail(errors.New("a symbolic link to nothing"))
	case err == nil && info.IsDir():
		return fail(unix.EISDIR)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fail(errors.Unwrap(err))
	case err == nil && !info.Mode().IsRegular():
		err = unix.Access(path, unix.W_OK)
	default:
		err = unix.Access(filepath.Dir(path), unix.W_OK|unix.X_OK)
	}
	if err != nil {
		return fail(err)
	}
	return sink{path: path}, nil
}

func (s sink) write(line []byte) error {
	if s.path != "" {
		if err := writePath(s.path, line); err != nil {
			return fmt.Errorf("writing the result: %w", err)
		}
		return nil
	}
	if err := writeFD(s.fd, line); err != nil {
		return fmt.Errorf("writing the result to descriptor %d: %w", s.fd, err)
	}
	return nil
}

func writePath(path string, line []byte) error {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		return writeSpecial(path, line)
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real // the link stays
	}
	return writeWhole(path, line)
}

// writeWhole writes beside the file and renames.
func writeWhole(path string, line []byte) error {
	temporary := filepath.Join(filepath.Dir(path), fmt.Sprintf(".cgshim-%d-%08x", os.Getpid(), rand.Uint32()))
	file, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_, err = file.Write(line)
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		_ = os.Remove(temporary)
	}
	return err
}

// writeSpecial writes to a device or a FIFO. A FIFO without a reader can't be opened (ENXIO, fifo(7)):
// it gets as much time as a reader of a full one.
func writeSpecial(path string, line []byte) error {
	for deadline := time.Now().Add(deliveryTimeout); ; time.Sleep(10 * time.Millisecond) {
		fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
		if err == nil {
			err = writeFD(fd, line)
			return errors.Join(err, unix.Close(fd))
		}
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ENXIO) || time.Now().After(deadline) {
			return &fs.PathError{Op: "open", Path: path, Err: err}
		}
	}
}

const (
	// deliveryTimeout is how long a reader of a full pipe may make no progress.
	deliveryTimeout = 5 * time.Second
	// pipeBuf is PIPE_BUF: a write of at most that goes into a pipe that poll calls writable at once,
	// and in one piece. O_NONBLOCK would do as well, but the caller shares that flag.
	pipeBuf = 4096
)

// errStalled says that nobody reads.
var errStalled = errors.New("nobody reads it")

// writeFD writes to a descriptor that may be a full pipe or a socket, and gives up when nobody reads it.
// (Another writer can fill a pipe between poll and write; then it waits for a reader, as any writer does.)
func writeFD(fd int, line []byte) error {
	for len(line) > 0 {
		ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		n, err := unix.Poll(ready, int(deliveryTimeout.Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case n == 0:
			return errStalled
		}
		written, err := unix.SendmsgN(fd, line, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if errors.Is(err, unix.ENOTSOCK) {
			written, err = unix.Write(fd, line[:min(len(line), roomFor(fd))])
		}
		if err != nil && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return err
		}
		line = line[max(written, 0):]
	}
	return nil
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
