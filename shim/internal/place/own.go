package place

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
)

// Hierarchy is the one in which a process's group is looked up: on v1 memory's, or else the first that there is.
func Hierarchy(host *cgroup.Host) cgroup.Mount {
	mounts := slices.DeleteFunc(host.Mounts(), func(m cgroup.Mount) bool { return m.Version != host.Version() })
	for _, m := range mounts {
		if slices.Contains(m.Controllers, cgroup.Memory) {
			return m
		}
	}
	return mounts[0]
}

// Own is the group of this process, as a path below the mount points. The error is cgroup.ErrNotMounted if the mount does not show
// it, as in a container whose hierarchy is mounted from somewhere else.
func Own(host *cgroup.Host) (string, error) {
	return groupOf(Hierarchy(host), "/proc/self/cgroup")
}

// GroupOf is Own for another process.
func GroupOf(host *cgroup.Host, pid int) (string, error) {
	return groupOf(Hierarchy(host), "/proc/"+strconv.Itoa(pid)+"/cgroup")
}

// groupOf reads a file as in cgroups(7): lines of "hierarchy-ID:controllers:path", with no controllers on v2.
func groupOf(m cgroup.Mount, file string) (string, error) {
	controller := ""
	if m.Version == cgroup.V1 {
		controller = v1Name(m.Controllers[0])
	}
	content, err := read(file)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(content) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(fields) < 3 || !slices.Contains(strings.Split(fields[1], ","), controller) {
			continue
		}
		if path, ok := below(fields[2], m.Root); ok {
			return path, nil
		}
	}
	return "", &cgroup.Error{Op: "find", Path: file, Err: cgroup.ErrNotMounted}
}

func v1Name(c cgroup.Controller) string {
	if c == cgroup.IO {
		return "blkio"
	}
	return string(c)
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

// IsRoot reports whether the mount shows the hierarchy from its root, and not a part of it, as a container's may.
func IsRoot(host *cgroup.Host) bool {
	m := Hierarchy(host)
	if m.Version == cgroup.V1 {
		return m.Root == "/"
	}
	return unix.Access(m.Dir+"/cgroup.type", unix.F_OK) != nil // which every other group has
}

// Manageable is nil if this process may make groups in the one at path, limit them, and move its processes there, and else
// an error that tells what forbids it. Only v2 is asked about the last two.
func Manageable(host *cgroup.Host, path string) error {
	v1 := host.Version() == cgroup.V1
	files := []string{""}
	if !v1 {
		files = []string{"", "/cgroup.procs", "/cgroup.subtree_control"}
	}
	for _, m := range host.Mounts() {
		if v1 && m.Version == cgroup.V2 {
			continue // a help, not a need
		}
		for _, file := range files {
			name := filepath.Join(m.Dir, path) + file
			err := unix.Faccessat(unix.AT_FDCWD, name, unix.W_OK, unix.AT_EACCESS)
			if v1 && missing(err) {
				continue // a v1 group is not in every hierarchy
			}
			if err != nil {
				return &cgroup.Error{Op: "access", Path: name, Err: err}
			}
		}
	}
	return nil
}

// delegateMarks is what systemd (since 251) sets to "1" on the group of a unit with Delegate=.
var delegateMarks = []string{"trusted.delegate", "user.delegate"}

// Delegated reports whether systemd has handed the group at path over, with all that is below.
func Delegated(host *cgroup.Host, path string) bool {
	if host.Version() != cgroup.V2 {
		return false
	}
	dir := filepath.Join(Hierarchy(host).Dir, path)
	for _, name := range delegateMarks {
		var value [8]byte
		if n, err := unix.Getxattr(dir, name, value[:]); err == nil {
			return string(value[:n]) == "1"
		}
	}
	return false
}

// Exists reports whether there is a group at path in some of the mounts.
func Exists(mounts []cgroup.Mount, path string) bool {
	return slices.ContainsFunc(mounts, func(m cgroup.Mount) bool { return unix.Access(m.Dir+path, unix.F_OK) == nil })
}

// OwnerOf is the owner of the group at path, as cgroup.Owner has it, in some of the mounts; "" if it has none.
func OwnerOf(mounts []cgroup.Mount, path string) string {
	for _, m := range mounts {
		if owner := cgroup.Owner(filepath.Join(m.Dir, path)); owner != "" {
			return owner
		}
	}
	return ""
}

// CanKill reports whether the group at path has a cgroup.kill (since Linux 5.14).
func CanKill(host *cgroup.Host, path string) bool {
	first := host.Mounts()[0]
	return first.Version == cgroup.V2 && unix.Access(filepath.Join(first.Dir, path, "cgroup.kill"), unix.W_OK) == nil
}

// Members lists the processes of a v2 group itself, without those of groups below it. 0 is one that is outside of
// this pid namespace.
func Members(host *cgroup.Host, path string) ([]int, error) {
	return members(filepath.Join(Hierarchy(host).Dir, path))
}

func members(dir string) ([]int, error) {
	pids, err := cgroups.GetPids(dir)
	if err != nil {
		return nil, &cgroup.Error{Op: "read", Path: dir, Err: err}
	}
	return pids, nil
}
