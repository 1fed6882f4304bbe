package place

import (
	"errors"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
)

// nestTries bounds how often Nest looks for processes that were born while it moved others.
const nestTries = 100

// Nest moves processes of a v2 group into a group below it, which is made if it is missing: only a group without
// processes can have controllers for its children. Without pids it moves all, until none is left.
func Nest(host *cgroup.Host, path, child string, pids ...int) error {
	from := filepath.Join(Hierarchy(host).Dir, path)
	to := filepath.Join(from, child)
	if err := unix.Mkdir(to, 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
		return &cgroup.Error{Op: "create", Path: to, Err: err}
	}
	all := len(pids) == 0
	for range nestTries {
		if all {
			var err error
			if pids, err = members(from); err != nil || len(pids) == 0 {
				return err
			}
		}
		for _, pid := range pids {
			if err := move(to, pid); err != nil {
				return err
			}
		}
		if !all {
			return nil
		}
	}
	return &cgroup.Error{Op: "nest", Path: from, Err: unix.EAGAIN}
}

// move moves a process, if it is still there, into a v2 directory.
func move(dir string, pid int) error {
	if pid <= 0 { // to the kernel, 0 would be this process
		return &cgroup.Error{Op: "add", Value: strconv.Itoa(pid), Path: dir, Err: unix.EPERM}
	}
	err := write(dir+"/cgroup.procs", strconv.Itoa(pid))
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// Unnest takes back what Nest has done for the calling process: it takes the controllers off path's children again,
// moves the process back, and removes child. Others that have come to need either make it fail.
func Unnest(host *cgroup.Host, path, child string, pid int) error {
	dir := filepath.Join(Hierarchy(host).Dir, path)
	enabled, err := read(dir + "/cgroup.subtree_control")
	if err != nil {
		return err
	}
	if on := strings.Fields(enabled); len(on) > 0 {
		if err := write(dir+"/cgroup.subtree_control", "-"+strings.Join(on, " -")); err != nil {
			return err
		}
	}
	if err := move(dir, pid); err != nil {
		return err
	}
	return removeEmpty(filepath.Join(dir, child))
}

// removeEmpty removes one v2 group that nobody is in. None there is no error.
func removeEmpty(dir string) error {
	if err := unix.Rmdir(dir); err != nil && !missing(err) {
		return &cgroup.Error{Op: "remove", Path: dir, Err: err}
	}
	return nil
}
