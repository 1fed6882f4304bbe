package main

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cmd/cgshim/internal/deliver"
	"github.com/cgshim/cgshim/internal/capability"
)

// Some of the caller's resource limits bind cgshim itself. If one is too low, the Go runtime ends the process, with a stack trace and
// no result. So they are checked before anything is created. A limit that is so low that the runtime does not reach main can't be
// checked.

const (
	// leastDescriptors is the least RLIMIT_NOFILE for a run. A run uses about twenty, and with fewer the Go runtime
	// ends the process.
	leastDescriptors = 32
	// leastTasks is how many more threads and processes there must be room for.
	leastTasks = 16
	// fewTasks is a RLIMIT_NPROC below which the user's threads are counted, for which all of /proc has to be read.
	fewTasks = 128
	// leastMapped and leastData are how many more bytes it must be possible to map, of all memory and of writable memory.
	leastMapped, leastData = 20 << 20, 12 << 20
)

// checkRoom returns an error if the caller's resource limits are too low for so many descriptors, and so many more threads and processes.
func checkRoom(descriptors, tasks uint64) *deliver.StepError {
	limit, low := limited(unix.RLIMIT_NOFILE)
	if low && limit < descriptors {
		return tooLow("descriptors", "nofile", limit, descriptors, unix.EMFILE)
	}
	// This limit binds neither root nor who has one of two capabilities.
	if limit, low = limited(unix.RLIMIT_NPROC); low && limit < fewTasks+tasks && os.Getuid() != 0 &&
		!capability.Effective(unix.CAP_SYS_RESOURCE, unix.CAP_SYS_ADMIN) {
		if there := ownTasks(); limit < there+tasks {
			return tooLow("threads", "nproc", limit, there+tasks, unix.EAGAIN)
		}
	}
	for _, memory := range []struct {
		resource int
		name     string
		field    int // of proc_pid_statm(5)
		least    uint64
	}{{unix.RLIMIT_AS, "as", 0, leastMapped}, {unix.RLIMIT_DATA, "data", 5, leastData}} {
		if limit, low = limited(memory.resource); !low {
			continue
		}
		if there, known := mapped(memory.field); known && limit < there+memory.least {
			return tooLow("memory", memory.name, limit, there+memory.least, unix.ENOMEM)
		}
	}
	return nil
}

// limited returns a resource limit of this process, and false if it is unlimited.
func limited(resource int) (uint64, bool) {
	var limit unix.Rlimit
	err := unix.Getrlimit(resource, &limit)
	return limit.Cur, err == nil && limit.Cur != math.MaxUint64
}

func tooLow(step, name string, limit, takes uint64, errno unix.Errno) *deliver.StepError {
	return &deliver.StepError{Step: step, Err: fmt.Errorf("the caller's resource limit %s is %d, and this takes %d: %w", name, limit, takes, errno)}
}

// ownTasks counts the threads of this user, as far as /proc shows them.
func ownTasks() (n uint64) {
	uid := uint32(os.Getuid())
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		var st unix.Stat_t
		_, err := strconv.Atoi(entry.Name())
		if err == nil && unix.Stat("/proc/"+entry.Name()+"/task", &st) == nil && st.Uid == uid {
			n += uint64(st.Nlink) - 2 // a directory for each
		}
	}
	return n
}

// mapped returns a field of this process's statm, in bytes.
func mapped(field int) (uint64, bool) {
	statm, err := os.ReadFile("/proc/self/statm")
	fields := bytes.Fields(statm)
	if err != nil || len(fields) <= field {
		return 0, false
	}
	pages, err := strconv.ParseUint(string(fields[field]), 10, 64)
	return pages * uint64(os.Getpagesize()), err == nil
}
