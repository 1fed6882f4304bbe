package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cmd/cgshim/internal/flags"
	"github.com/cgshim/cgshim/shim"
)

// Who kills cgshim's caller with SIGKILL does not kill cgshim. Two flags have it notice that, by files whose end it watches: see
// shim.Config's Alive.

// callerFiles returns the files whose end is the caller's, for --alive-fd and --die-with-caller.
func callerFiles(v flags.Values) (files []*os.File, err error) {
	if v.IsSet("alive-fd") {
		file, err := inheritedPipe(v.String("alive-fd"))
		if err != nil {
			return nil, fmt.Errorf("--alive-fd %q: %w", v.String("alive-fd"), err)
		}
		files = append(files, file)
	}
	if v.Bool("die-with-caller") {
		file, err := parentProcess()
		if err != nil {
			return nil, fmt.Errorf("--die-with-caller: %w", err)
		}
		files = append(files, file)
	}
	return files, nil
}

// inheritedPipe returns the file of a descriptor that the caller has opened. The program does not get it.
func inheritedPipe(value string) (*os.File, error) {
	fd, err := strconv.ParseInt(value, 10, 32)
	if err != nil || fd < 3 {
		return nil, errors.New("want the number of an open descriptor, from 3 up")
	}
	// One that is close-on-exec was not inherited: the Go runtime has opened it.
	if have, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || have&unix.FD_CLOEXEC != 0 {
		return nil, flags.WithHint(flags.ErrNotOpen, fmt.Sprintf("it is the end of a pipe that is read from: pass_fds=[%d] in Python", fd))
	}
	if err := shim.CheckAlive(int(fd)); err != nil {
		return nil, err
	}
	if other, has := otherEnd(int(fd)); has {
		return nil, flags.WithHint(fmt.Errorf("cgshim has the other end, too, as descriptor %d, and so it would never be closed", other),
			fmt.Sprintf("let it be the caller's alone: %d>&- in a shell, close_fds=True in Python", other))
	}
	return os.NewFile(uintptr(fd), "--alive-fd "+value), nil
}

// otherEnd finds a descriptor of this process that is the end to write to of a pipe.
func otherEnd(pipe int) (fd int, has bool) {
	var file, other unix.Stat_t
	if unix.Fstat(pipe, &file) != nil || file.Mode&unix.S_IFMT != unix.S_IFIFO {
		return 0, false
	}
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, entry := range entries {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil || unix.Fstat(fd, &other) != nil || other.Dev != file.Dev || other.Ino != file.Ino {
			continue
		}
		if have, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err == nil && have&unix.O_ACCMODE != unix.O_RDONLY {
			return fd, true
		}
	}
	return 0, false
}

// parentProcess returns a file that ends with the process that has started this one.
func parentProcess() (*os.File, error) {
	parent := os.Getppid()
	if parent == 0 {
		return nil, flags.WithHint(errors.New("the parent is in another pid namespace, where its end can't be seen"),
			"give cgshim a pipe that ends with the caller: --alive-fd N")
	}
	fd, err := unix.PidfdOpen(parent, 0)
	switch {
	case err == nil && os.Getppid() == parent: // else it may be another's number by now
		return os.NewFile(uintptr(fd), "the parent's pidfd"), nil
	case err == nil:
		_ = unix.Close(fd)
	}
	return pollParent(parent)
}

// parentInterval is how often the parent is looked at where there are no pidfds: before Linux 5.3, and where a filter of system calls
// does not know them.
const parentInterval = 100 * time.Millisecond

// pollParent returns a pipe that ends some time after the parent.
func pollParent(parent int) (*os.File, error) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	if os.Getppid() != parent {
		_ = unix.Close(pipe[1])
	} else {
		go func() {
			for os.Getppid() == parent {
				time.Sleep(parentInterval)
			}
			_ = unix.Close(pipe[1])
		}()
	}
	return os.NewFile(uintptr(pipe[0]), "a pipe that ends with the parent"), nil
}
