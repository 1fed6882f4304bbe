package main

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Some of the caller's resource limits bind cgshim itself. With less than it takes the Go runtime ends the process, with a
// trace and no result. So what can be told before anything is created is told. What is so little that the runtime does not
// get as far as main can't be.

const (
	// leastDescriptors is the least RLIMIT_NOFILE for a run: some twenty are used, and with fewer the Go runtime
	// ends the process.
	leastDescriptors = 32
	// leastTasks is how many threads and processes a run makes at least, besides those that there are.
	leastTasks = 16
	// fewTasks is a RLIMIT_NPROC so low that it is worth counting what there is, which means to read all of /proc.
	fewTasks = 128
	// leastMapped and leastData are how much more may be mapped at least, of all memory and of what can be written to.
	leastMapped, leastData = 20 << 20, 12 << 20
)

// A roomError says which resource limit of the caller's is too low. The step is the result's.
type roomError struct {
	step string
	err  error
}

func (e *roomError) Error() string { return e.err.Error() }

func (e *roomError) Unwrap() error { return e.err }

// checkRoom says whether the caller's resource limits leave enough for so many descriptors and further threads and processes.
func checkRoom(descriptors, tasks uint64) error {
	limit, low := limited(unix.RLIMIT_NOFILE)
	if low && limit < descriptors {
		return tooLow("descriptors", "nofile", limit, descriptors, unix.EMFILE)
	}
	// Root is not bound by it.
	if limit, low = limited(unix.RLIMIT_NPROC); low && limit < fewTasks+tasks && os.Getuid() != 0 && !bearsAnyNumber() {
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

// limited is a limit of this process, if there is one.
func limited(resource int) (uint64, bool) {
	var limit unix.Rlimit
	err := unix.Getrlimit(resource, &limit)
	return limit.Cur, err == nil && limit.Cur != math.MaxUint64
}

func tooLow(step, name string, limit, takes uint64, errno unix.Errno) error {
	return &roomError{step, fmt.Errorf("the caller's resource limit %s is %d, and this takes %d: %w", name, limit, takes, errno)}
}

// bearsAnyNumber says whether we have one of the capabilities that RLIMIT_NPROC does not bind.
func bearsAnyNumber() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&header, &data[0]) == nil && data[0].Effective&(1<<unix.CAP_SYS_RESOURCE|1<<unix.CAP_SYS_ADMIN) != 0
}

// ownTasks is how many threads this user has, as far as that can be seen.
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

// mapped is a field of this process's statm, in bytes.
func mapped(field int) (uint64, bool) {
	statm, err := os.ReadFile("/proc/self/statm")
	fields := bytes.Fields(statm)
	if err != nil || len(fields) <= field {
		return 0, false
	}
	pages, err := strconv.ParseUint(string(fields[field]), 10, 64)
	return pages * uint64(os.Getpagesize()), err == nil
}
