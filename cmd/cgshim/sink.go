package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
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

// openSink finds the sink in the arguments and checks it. It reads them by itself, not through the flag
// parser, because a usage error has to reach the sink too, and the parser stops at the first one.
func openSink(args []string) (sink, error) {
	if path, ok := flagValue(args, "output"); ok {
		return checkFile(path)
	}
	origin := "--fd"
	value, ok := flagValue(args, "fd")
	if !ok {
		origin = "$" + fdVariable
		if value, ok = os.LookupEnv(fdVariable); !ok {
			return stderr, nil
		}
	}
	fd, err := strconv.Atoi(value)
	if err != nil || fd < 0 {
		return stderr, fmt.Errorf("%s %q: want the number of an open descriptor", origin, value)
	}
	if err := checkFD(fd); err != nil {
		return stderr, fmt.Errorf("%s %q: %w", origin, value, err)
	}
	return sink{fd: fd}, nil
}

// flagValue finds the last "--name value" or "--name=value" before the program's own arguments.
func flagValue(args []string, name string) (value string, found bool) {
	for i := 0; i < len(args) && args[i] != "--"; i++ {
		flag := strings.TrimPrefix(args[i], "-")
		if flag = strings.TrimPrefix(flag, "-"); flag == args[i] {
			continue
		}
		if v, ok := strings.CutPrefix(flag, name+"="); ok {
			value, found = v, true
		} else if flag == name && i+1 < len(args) {
			i++
			value, found = args[i], true
		}
	}
	return value, found
}

// checkFD makes sure that a descriptor was inherited and can be written, and that the program will not
// inherit it: what it can't reach it can't forge. The standard ones it shares.
func checkFD(fd int) error {
	if fd <= 2 {
		return checkWritable(fd)
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	// What was inherited lacks the flag; what has it is the Go runtime's own.
	if err != nil || flags&unix.FD_CLOEXEC != 0 {
		return errors.New("the descriptor is not open")
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
		return errors.New("the descriptor is not open")
	case flags&unix.O_ACCMODE == unix.O_RDONLY || flags&unix.O_PATH != 0:
		return errors.New("the descriptor is not open for writing")
	}
	return nil
}

// checkFile makes sure, as far as that can be known before, that the file can be written at the end.
func checkFile(path string) (sink, error) {
	fail := func(err error) (sink, error) { return stderr, fmt.Errorf("--output %q: %w", path, err) }
	info, err := os.Stat(path)
	switch {
	case path == "":
		return fail(errors.New("the name is empty"))
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
		if err := writeWhole(s.path, line); err != nil {
			return fmt.Errorf("writing the result: %w", err)
		}
		return nil
	}
	if err := writeFD(s.fd, line); err != nil {
		return fmt.Errorf("writing the result to descriptor %d: %w", s.fd, err)
	}
	return nil
}

// writeWhole writes beside the file and renames. A device or a pipe is written to directly.
func writeWhole(path string, line []byte) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return writeTo(path, os.O_WRONLY, line)
	}
	temporary := fmt.Sprintf("%s.%d-%08x.tmp", path, os.Getpid(), rand.Uint32())
	err := writeTo(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, line)
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		_ = os.Remove(temporary)
	}
	return err
}

func writeTo(path string, flags int, line []byte) error {
	file, err := os.OpenFile(path, flags, 0o666)
	if err != nil {
		return err
	}
	_, err = file.Write(line)
	return errors.Join(err, file.Close())
}

const (
	// deliveryTimeout is how long a reader of a full pipe may make no progress.
	deliveryTimeout = 5 * time.Second
	// pipeBuf is PIPE_BUF: a write of at most that goes into a pipe that poll calls writable at once,
	// and in one piece. O_NONBLOCK would do as well, but the caller shares that flag.
	pipeBuf = 4096
)

// writeFD writes to a descriptor that may be a full pipe or a socket, without ever blocking for good.
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
			return errors.New("nobody reads it")
		}
		chunk := line[:min(len(line), pipeBuf)]
		written, err := unix.SendmsgN(fd, chunk, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if errors.Is(err, unix.ENOTSOCK) {
			written, err = unix.Write(fd, chunk)
		}
		if err != nil && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return err
		}
		line = line[max(written, 0):]
	}
	return nil
}
