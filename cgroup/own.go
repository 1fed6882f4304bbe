package cgroup

import (
	"errors"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

// Own is the group of this process, as a path below the mount points: on v1 in the memory hierarchy, or else the
// first that there is. ErrNotMounted if the mount does not show it, as in a container whose hierarchy is mounted from
// somewhere else.
func (h *Host) Own() (string, error) {
	return h.groupOf("/proc/self/cgroup")
}

// GroupOf is Own for another process.
func (h *Host) GroupOf(pid int) (string, error) {
	return h.groupOf("/proc/" + strconv.Itoa(pid) + "/cgroup")
}

// groupOf reads a file as in cgroups(7): lines of "hierarchy-ID:controllers:path", with no controllers on v2.
func (h *Host) groupOf(file string) (string, error) {
	controller := ""
	if h.version == V1 {
		controller = h.ownController().v1Name()
	}
	content, err := readFile(file)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(content) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(fields) < 3 || !slices.Contains(strings.Split(fields[1], ","), controller) {
			continue
		}
		if path, ok := below(fields[2], h.mountRoot); ok {
			return path, nil
		}
	}
	return "", &Error{Op: "find", Path: file, Err: ErrNotMounted}
}

// OfOwn is a host with no hierarchy but the one that Own is about.
func (h *Host) OfOwn() *Host {
	if h.version == V2 {
		return h
	}
	only := *h
	only.unified = ""
	only.controllers = []Controller{h.ownController()}
	return &only
}

// ownController is one of the hierarchy on v1 that Own is about.
func (h *Host) ownController() Controller {
	if h.Has(Memory) {
		return Memory
	}
	return h.controllers[0]
}

// below is a path as seen from a root that it is below: "/" is the root itself.
func below(path, root string) (string, bool) {
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(root, "/"))
	switch {
	case !ok || rest != "" && rest[0] != '/' || strings.HasPrefix(rest, "/.."): // outside of the cgroup namespace
		return "", false
	case rest == "":
		return "/", true
	}
	return rest, true
}

// IsRoot says whether the mount shows the hierarchy from its root, and not a part of it, as a container's may.
func (h *Host) IsRoot() bool {
	if h.version == V1 {
		return h.mountRoot == "/"
	}
	return unix.Access(h.unified+"/cgroup.type", unix.F_OK) != nil // which every other group has
}

// Manageable says whether this process may make groups in the one at path, limit them, and move its processes
// there: nil, or what forbids it. Only v2 is asked about the last two.
func (h *Host) Manageable(path string) error {
	files := []string{""}
	if h.version == V2 {
		files = []string{"", "/cgroup.procs", "/cgroup.subtree_control"}
	}
	for _, root := range h.roots() {
		if h.version == V1 && root == h.unified {
			continue // a help, not a need
		}
		for _, file := range files {
			name := filepath.Join(root, path) + file
			err := unix.Faccessat(unix.AT_FDCWD, name, unix.W_OK, unix.AT_EACCESS)
			if h.version == V1 && missing(err) {
				continue // a v1 group is not in every hierarchy
			}
			if err != nil {
				return &Error{Op: "access", Path: name, Err: err}
			}
		}
	}
	return nil
}

// delegateMarks is what systemd (since 251) sets to "1" on the group of a unit with Delegate=.
var delegateMarks = []string{"trusted.delegate", "user.delegate"}

// Delegated says whether systemd has handed the group at path over, with all that is below.
func (h *Host) Delegated(path string) bool {
	return h.version == V2 && readMark(filepath.Join(h.unified, path), delegateMarks) == "1"
}

// Owner is what Options.Owner has set on the group at path; "" without.
func (h *Host) Owner(path string) string {
	for _, root := range h.roots() {
		if owner := readMark(filepath.Join(root, path), ownerMarks); owner != "" {
			return owner
		}
	}
	return ""
}

// Match lists the groups whose paths match a pattern, as path/filepath.Match has it, in whichever hierarchy they are.
func (h *Host) Match(pattern string) (paths []string) {
	for _, root := range h.roots() {
		dirs, _ := filepath.Glob(root + pattern) // no error but that of a bad pattern
		for _, dir := range dirs {
			if path := strings.TrimPrefix(dir, root); !slices.Contains(paths, path) {
				paths = append(paths, path)
			}
		}
	}
	return paths
}

// CanKill says whether the group at path has a cgroup.kill (since Linux 5.14).
func (h *Host) CanKill(path string) bool {
	return h.unified != "" && !slices.Contains(h.hidden, killFile) && unix.Access(filepath.Join(h.unified, path, killFile), unix.W_OK) == nil
}

// Members lists the processes of a v2 group itself, without those of groups below it. 0 is one that is outside of
// this pid namespace.
func (h *Host) Members(path string) ([]int, error) {
	dir := filepath.Join(h.unified, path)
	pids, err := cgroups.GetPids(dir)
	if err != nil {
		return nil, &Error{Op: "read", Path: dir, Err: err}
	}
	return pids, nil
}

// nestTries bounds how often Nest looks for processes that were born while it moved others.
const nestTries = 100

// Nest moves processes of a v2 group into a group below it, which is made if it is missing: only a group without
// processes can have controllers for its children. Without pids it moves all, until none is left.
func (h *Host) Nest(path, child string, pids ...int) error {
	from, to := filepath.Join(h.unified, path), filepath.Join(h.unified, path, child)
	if err := unix.Mkdir(to, 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
		return &Error{Op: "create", Path: to, Err: err}
	}
	all := len(pids) == 0
	for range nestTries {
		if all {
			var err error
			if pids, err = h.Members(path); err != nil || len(pids) == 0 {
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
	return &Error{Op: "nest", Path: from, Err: unix.EAGAIN}
}

// move moves a process, if it is still there, into a v2 directory.
func move(dir string, pid int) error {
	if pid <= 0 { // to the kernel, 0 would be this process
		return &Error{Op: "add", Value: strconv.Itoa(pid), Path: dir, Err: unix.EPERM}
	}
	err := writeFile(dir+"/cgroup.procs", strconv.Itoa(pid))
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// Unnest takes back what Nest has done for the calling process: it takes the controllers off path's children again,
// moves the process back, and removes child. Others that have come to need either make it fail.
func (h *Host) Unnest(path, child string, pid int) error {
	dir := filepath.Join(h.unified, path)
	enabled, err := readFile(dir + "/cgroup.subtree_control")
	if err != nil {
		return err
	}
	if on := strings.Fields(enabled); len(on) > 0 {
		if err := writeFile(dir+"/cgroup.subtree_control", "-"+strings.Join(on, " -")); err != nil {
			return err
		}
	}
	if err := move(dir, pid); err != nil {
		return err
	}
	return h.RemoveEmpty(path + "/" + child)
}

// RemoveEmpty removes one v2 group that nobody is in. None there is no error.
func (h *Host) RemoveEmpty(path string) error {
	dir := filepath.Join(h.unified, path)
	if err := unix.Rmdir(dir); err != nil && !missing(err) {
		return &Error{Op: "remove", Path: dir, Err: err}
	}
	return nil
}
