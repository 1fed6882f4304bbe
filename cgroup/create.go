package cgroup

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Create makes a new group at an absolute path below the mount points, such as "/judge/run-1", with the
// controllers named, or with every one that the host has if none is named. Parents that are missing are
// made, and removed with the group if nobody else uses them by then.
//
// A group that is already there is refused (fs.ErrExist): its processes and counters are somebody
// else's. On error nothing is left behind.
func (h *Host) Create(path string, controllers ...Controller) (*Group, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	if len(controllers) == 0 {
		controllers = h.controllers
	}
	for _, c := range controllers {
		if !h.Has(c) {
			return nil, &Error{Op: "create", Value: string(c), Path: path, Err: ErrNoController}
		}
	}
	var m maker
	g := &Group{path: path}
	var err error
	if h.version == V2 {
		g.h, err = createV2(h, &m, path, controllers)
	} else {
		g.h, err = createV1(h, &m, path, controllers)
	}
	if err != nil {
		m.undo()
		return nil, err
	}
	g.dirs, g.parents = m.leaves, m.parents
	return g, nil
}

// Open is a group that exists, with the controllers that it has. Removing it removes only itself.
func (h *Host) Open(path string) (*Group, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	g := &Group{path: path}
	var err error
	if h.version == V2 {
		g.h, g.dirs, err = openV2(h, path)
	} else {
		g.h, g.dirs, err = openV1(h, path)
	}
	if err != nil {
		return nil, err
	}
	return g, nil
}

func checkPath(p string) error {
	if !strings.HasPrefix(p, "/") || path.Clean(p) != p || p == "/" || strings.ContainsAny(p, "\x00\n") {
		return &Error{Op: "open", Path: p, Err: ErrInvalid}
	}
	for element := range strings.SplitSeq(p, "/") {
		if len(element) > unix.NAME_MAX {
			return &Error{Op: "open", Path: p, Err: unix.ENAMETOOLONG}
		}
	}
	return nil
}

// removeAll removes directories, innermost first, that nobody else uses. Who does removes them later.
func removeAll(dirs []string) {
	for i := len(dirs) - 1; i >= 0; i-- {
		_ = unix.Rmdir(dirs[i])
	}
}

// A maker makes directories and remembers them, so that a failure half-way leaves nothing behind.
type maker struct{ parents, leaves []string }

func (m *maker) undo() {
	removeAll(m.leaves)
	removeAll(m.parents)
}

// mkdir makes mount+path, which must not exist, and what is missing above it. A parent may vanish at
// any moment, when the last of the other runs that share it removes it: then it is made again.
func (m *maker) mkdir(mount, path string) error {
	leaf := mount + path
	for range mkdirTries {
		err := unix.Mkdir(leaf, 0o755)
		if err == nil {
			m.leaves = append(m.leaves, leaf)
			return nil
		}
		if !missing(err) {
			return &Error{Op: "create", Path: leaf, Err: err}
		}
		if err := m.mkdirParents(mount, path); err != nil {
			return err
		}
	}
	return &Error{Op: "create", Path: leaf, Err: unix.ENOENT}
}

// mkdirTries bounds a race that each try is likely to win.
const mkdirTries = 1000

func (m *maker) mkdirParents(mount, path string) error {
	for i := 1; i < len(path); i++ {
		if path[i] != '/' {
			continue
		}
		switch err := unix.Mkdir(mount+path[:i], 0o755); err { //nolint:errorlint // a bare Errno
		case nil:
			m.parents = append(m.parents, mount+path[:i])
		case unix.EEXIST, unix.ENOENT:
		default:
			return &Error{Op: "create", Path: mount + path[:i], Err: err}
		}
	}
	return nil
}
