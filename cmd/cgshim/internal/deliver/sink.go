package deliver

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cmd/cgshim/internal/flags"
)

// A sink is the place for the result: a descriptor, or a file, see checkFile.
type sink struct {
	fd   int
	path string // of a file, for messages; "" for a descriptor
	name string // of a file in the directory fd; "" if fd is the device or FIFO itself
}

// stderr is the default. The result goes there, too, if the sink that was asked for can't be used.
var stderr = sink{fd: 2}

func (s sink) isStderr() bool { return s == stderr }

// openSink checks the sink that the flags name.
func openSink(flag flags.Reader) (sink, error) {
	if path, ok := flag("output"); ok {
		return checkFile(path)
	}
	origin := "--fd"
	value, ok := flag("fd")
	if !ok {
		origin = "$" + flags.FDVariable
		if value, ok = os.LookupEnv(flags.FDVariable); !ok {
			if err := CheckWritable(stderr.fd); err != nil {
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
		return stderr, flags.WithHint(fmt.Errorf("%s %q: %w", origin, value, err), hint)
	}
	return sink{fd: fd}, nil
}

// checkFD makes sure that a descriptor was inherited and can be written, and that the program will not
// inherit it, because the program could forge results there. The program shares the standard ones. One of those that the
// caller has closed looks like /dev/null, because the Go runtime has opened that in its place.
func checkFD(fd int) error {
	if fd <= 2 {
		return CheckWritable(fd)
	}
	have, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	// A descriptor that was inherited lacks the flag. One with the flag was opened by the Go runtime.
	if err != nil || have&unix.FD_CLOEXEC != 0 {
		return flags.ErrNotOpen
	}
	if err := CheckWritable(fd); err != nil {
		return err
	}
	unix.CloseOnExec(fd)
	return nil
}

// CheckWritable returns an error if a descriptor is not open, or not for writing.
func CheckWritable(fd int) error {
	have, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	switch {
	case err != nil:
		return flags.ErrNotOpen
	case have&unix.O_ACCMODE == unix.O_RDONLY || have&unix.O_PATH != 0:
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
