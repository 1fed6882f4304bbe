package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"golang.org/x/sys/unix"
)

func TestErrorText(t *testing.T) {
	for want, err := range map[string]*Error{
		`write "max" to "/c/pids.max": invalid argument`:             {Op: "write", Path: "/c/pids.max", Value: "max", Err: unix.EINVAL},
		`remove "/c/run": device or resource busy`:                   {Op: "remove", Path: "/c/run", Err: unix.EBUSY},
		`set "memory": controller is not available`:                  {Op: "set", Value: "memory", Err: ErrNoController},
		`detect: no cgroup hierarchy is mounted`:                     {Op: "detect", Err: ErrNotMounted},
		`open "/a\nb \"c\"": invalid`:                                {Op: "open", Path: "/a\nb \"c\"", Err: ErrInvalid}, // one line, whatever the path
		`write "8:0 rbps=1" to "/c/io.max": operation not permitted`: {Op: "write", Path: "/c/io.max", Value: "8:0 rbps=1", Err: unix.EPERM},
	} {
		if got := err.Error(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestErrorIs(t *testing.T) {
	for _, test := range []struct{ err, is error }{
		{unix.EEXIST, fs.ErrExist},
		{unix.EACCES, fs.ErrPermission},
		{unix.ENOENT, fs.ErrNotExist},
		{unix.EBUSY, unix.EBUSY},
		{fmt.Errorf("%w: %w", ErrPopulated, unix.EBUSY), ErrPopulated},
		{fmt.Errorf("%w: %w", ErrPopulated, unix.EBUSY), unix.EBUSY},
	} {
		err := fmt.Errorf("wrapped: %w", &Error{Op: "create", Path: "/c", Err: test.err})
		if !errors.Is(err, test.is) {
			t.Errorf("%v is not %v", err, test.is)
		}
		var typed *Error
		if !errors.As(err, &typed) || typed.Op != "create" || typed.Path != "/c" {
			t.Errorf("%v is no *Error", err)
		}
		if errors.Is(err, ErrInvalid) {
			t.Errorf("%v is ErrInvalid", err)
		}
	}
}

// A file error names the operation, the file and, for a write, the value.
func TestFileErrors(t *testing.T) {
	dir := t.TempDir()
	_, readErr := readFile(dir + "/gone")
	_, dirErr := readFile(dir)
	for _, test := range []struct {
		err  error
		want Error
	}{
		{readErr, Error{Op: "open", Path: dir + "/gone", Err: unix.ENOENT}},
		{dirErr, Error{Op: "read", Path: dir, Err: unix.EISDIR}},
		// A limit file that the kernel does not have must not come into being.
		{writeFile(dir+"/gone", "1"), Error{Op: "write", Path: dir + "/gone", Value: "1", Err: unix.ENOENT}},
		// /dev/full refuses the value, as a limit file does.
		{writeFile("/dev/full", "99"), Error{Op: "write", Path: "/dev/full", Value: "99", Err: unix.ENOSPC}},
	} {
		var got *Error
		if !errors.As(test.err, &got) || *got != test.want {
			t.Errorf("got %#v, want %#v", test.err, test.want)
		}
	}
}
