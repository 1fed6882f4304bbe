package cgroup

import (
	"errors"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// readFile reads a cgroup file, all of it: the kernel hands out at most a page per read, but some files
// are longer.
func readFile(path string) (string, error) {
	fd, err := openFile(path, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var page [4096]byte
	var content strings.Builder
	for {
		n, err := retry(func() (int, error) { return unix.Read(fd, page[:]) })
		if err != nil {
			return "", &Error{Op: "read", Path: path, Err: err}
		}
		if n == 0 {
			return content.String(), nil
		}
		content.Write(page[:n])
	}
}

// readValue is readFile for what the kernel hands out in one piece if it fits into a page: all cgroup files but
// lists of processes.
func readValue(path string) (string, error) {
	fd, err := openFile(path, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var page [4096]byte
	n, err := retry(func() (int, error) { return unix.Read(fd, page[:]) })
	if err != nil {
		return "", &Error{Op: "read", Path: path, Err: err}
	}
	if n == len(page) {
		return readFile(path)
	}
	return string(page[:n]), nil
}

// writeFile writes a value in one call, as cgroup files want it.
func writeFile(path, value string) error {
	fd, err := retry(func() (int, error) { return unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return &Error{Op: "write", Path: path, Value: value, Err: err}
	}
	defer unix.Close(fd)
	if _, err := retry(func() (int, error) { return unix.Write(fd, []byte(value)) }); err != nil {
		return &Error{Op: "write", Path: path, Value: value, Err: err}
	}
	return nil
}

func openFile(path string, flags int) (int, error) {
	fd, err := retry(func() (int, error) { return unix.Open(path, flags|unix.O_CLOEXEC, 0) })
	if err != nil {
		return 0, &Error{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

// retry repeats a system call that a signal interrupted.
func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// parseUint parses one number of a cgroup file. "max" is unlimited, which is no number: false.
func parseUint(s string) (uint64, bool) {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 64)
	return n, err == nil
}

// keyed looks a key up in a flat keyed file ("key value\n"…). False if it is not there or no number.
func keyed(content, key string) (uint64, bool) {
	for line := range strings.Lines(content) {
		if k, v, ok := strings.Cut(line, " "); ok && k == key {
			return parseUint(v)
		}
	}
	return 0, false
}

func readUint(file string) (uint64, bool) {
	content, err := readFile(file)
	if err != nil {
		return 0, false
	}
	return parseUint(content)
}

// missing reports whether a file is not there, or (ENODEV, on a descriptor opened before) not any more.
func missing(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) }

func isGroup(dir string) bool { return unix.Access(dir+"/cgroup.procs", unix.F_OK) == nil }
