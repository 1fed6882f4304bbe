package cgroup

import "golang.org/x/sys/unix"

// A Join holds open descriptors through which a process enters the group by itself, before execve.
type Join struct {
	// Dir and Procs are the cgroup2 directory, for CLONE_INTO_CGROUP, and its cgroup.procs, for kernels
	// without; 0 if the group has no cgroup2 directory.
	Dir, Procs int
	// Tasks are the v1 tasks files, open for writing. The literal "0", written by a single-threaded
	// process itself, is the one form that does not wait for an RCU grace period.
	Tasks []int
	// Paths names Procs, if it is there, and then each of Tasks, for error messages.
	Paths []string
}

// Close closes the descriptors.
func (j *Join) Close() {
	for _, fd := range append([]int{j.Dir, j.Procs}, j.Tasks...) {
		if fd != 0 {
			unix.Close(fd)
		}
	}
	*j = Join{}
}

// openUnified opens the two descriptors of a cgroup2 directory.
func (j *Join) openUnified(dir string) (err error) {
	if j.Dir, err = openFile(dir, unix.O_RDONLY|unix.O_DIRECTORY); err != nil {
		return err
	}
	j.Procs, err = openFile(dir+"/cgroup.procs", unix.O_WRONLY)
	j.Paths = append(j.Paths, dir+"/cgroup.procs")
	return err
}
