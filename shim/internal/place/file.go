package place

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/shim/internal/sys"
)

// read reads a whole file of the kernel's, which hands out at most a page at a time.
func read(path string) (string, error) {
	fd, err := sys.IgnoringEINTR(func() (int, error) { return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return "", &cgroup.Error{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var page [4096]byte
	var content strings.Builder
	for {
		n, err := sys.IgnoringEINTR(func() (int, error) { return unix.Read(fd, page[:]) })
		if err != nil {
			return "", &cgroup.Error{Op: "read", Path: path, Err: err}
		}
		if n == 0 {
			return content.String(), nil
		}
		content.Write(page[:n])
	}
}

// write writes a value in one call, as cgroup files want it.
func write(path, value string) error {
	fd, err := sys.IgnoringEINTR(func() (int, error) { return unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0) })
	if err == nil {
		defer unix.Close(fd)
		_, err = sys.IgnoringEINTR(func() (int, error) { return unix.Write(fd, []byte(value)) })
	}
	if err != nil {
		return &cgroup.Error{Op: "write", Path: path, Value: value, Err: err}
	}
	return nil
}

// missing reports whether a file is not there, or (ENODEV, on a descriptor opened before) not any more.
func missing(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) }
