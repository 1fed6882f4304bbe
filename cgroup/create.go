package cgroup

import (
	"errors"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Options say how Host.Create makes a group. The zero Options make one with every controller of the host.
type Options struct {
	// Controllers are for what the group can be limited, and tells figures. None is every one that the host has. On v1, CPUAcct
	// comes with CPU, so that the CPU usage is known as it is on v2.
	Controllers []Controller
	// Owner is noted down on each directory right when it is made: see Owner. "" is nobody. It is an extended
	// attribute, and where cgroup file systems have none (a user's before Linux 5.7) nothing is noted.
	Owner string
	// Within is the path of a group: v2 controllers are enabled only for its children and below, because what is above is
	// somebody else's to change. A controller that it does not have is ErrNoController. "" is the root.
	Within string
	// Frugal makes no cpuacct directory on a hybrid host where the cgroup2 one, which is there anyway, tells the CPU time as well
	// (cpu.stat, since Linux 4.15): a quarter of what it costs to make and remove a group.
	Frugal bool
	// Fresh is for a name that nobody else can have thought of: Create looks whether it is taken only where it makes a directory.
	Fresh bool
	// Like is a group, which may be gone by now, that was used as this one will be: files that were read of it are opened, so that
	// they are read more quickly. Remove closes them. Nil is none.
	Like *Group
}

// Create makes a new group at an absolute path below the mount points, such as "/judge/run-1". Parents that are missing are made,
// and removed with the last group that uses them.
//
// A group that is already there is refused (fs.ErrExist): its processes and counters are somebody
// else's. A controller that the host, or on v2 the parent, does not have is ErrNoController; a v2 parent with processes of its own
// is ErrPopulated. On error nothing is left behind.
func (h *Host) Create(path string, o Options) (*Group, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	if len(o.Controllers) == 0 {
		o.Controllers = h.controllers
	}
	for _, c := range o.Controllers {
		if !h.Has(c) {
			return nil, &Error{Op: "create", Value: string(c), Path: path, Err: ErrNoController}
		}
	}
	m := maker{owner: o.Owner, mounts: h.roots()}
	g := &Group{path: path, hidden: h.hidden, freezer: h.mounts[Freezer], shown: h.shown[h.mounts[Freezer]], whole: h.whole}
	var err error
	if h.version == V2 {
		g.h, err = createV2(h, &m, path, &o)
	} else {
		g.h, err = createV1(h, &m, path, &o)
	}
	if err != nil {
		m.undo()
		return nil, err
	}
	g.dirs, g.parents = m.leaves, m.parents
	g.mounts = m.mounts
	for _, root := range g.mounts {
		dir := root + path
		if slices.Contains(g.dirs, dir) {
			continue
		}
		if !o.Fresh && unix.Access(dir, unix.F_OK) == nil {
			m.undo()
			return nil, &Error{Op: "create", Path: path, Err: unix.EEXIST}
		}
		g.elsewhere = append(g.elsewhere, dir)
	}
	if o.Like != nil {
		g.openLike(o.Like)
	}
	return g, nil
}

// Open is a group that exists, with the controllers that it has.
func (h *Host) Open(path string) (*Group, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	g := &Group{path: path, hidden: h.hidden, mounts: h.roots(), freezer: h.mounts[Freezer], shown: h.shown[h.mounts[Freezer]], whole: h.whole}
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

// A maker makes directories and remembers them, so that a failure half-way leaves nothing behind.
type maker struct {
	owner           string
	mounts          []string // see Host.roots
	parents, leaves []string
}

func (m *maker) undo() {
	for _, leaf := range m.leaves {
		_ = unix.Rmdir(leaf)
		removeMade(leaf, m.mounts, m.parents)
	}
	for _, dir := range slices.Backward(m.parents) { // those that got no leaf
		_ = unix.Rmdir(dir)
	}
}

// The mark of a parent that Create made, so that whoever is the last to use it removes it. user attributes work on
// cgroup file systems since Linux 5.7. Before, there are trusted ones, which take CAP_SYS_ADMIN, also to be seen: to a
// root without that capability, in a user namespace for example, what bears them is unmarked.
var marks = []string{"user.cgshim", "trusted.cgshim"}

const madeMark = "made"

// setMark sets the first of several attributes that the file system takes.
func setMark(dir string, names []string, value string) {
	for _, name := range names {
		if unix.Setxattr(dir, name, []byte(value), 0) == nil {
			return
		}
	}
}

// readMark reads the first of several attributes that there is; "" without.
func readMark(dir string, names []string) string {
	var buf [256]byte
	for _, name := range names {
		n, err := unix.Getxattr(dir, name, buf[:])
		switch {
		case err == nil:
			return string(buf[:n])
		case errors.Is(err, unix.ENODATA) && strings.HasPrefix(name, "user."):
			return "" // cgroup file systems that have these take them, so that nobody had to set another one: see setMark
		}
	}
	return ""
}

func marked(dir string) bool { return readMark(dir, marks) != "" }

// removeMade removes the directories above dir that Create made, by whoever's call, up to the first that
// it did not make, or that somebody else is in: who is removes it later. made are those of one's own, for
// where marks do not work.
func removeMade(dir string, mounts, made []string) {
	for dir = filepath.Dir(dir); !slices.Contains(mounts, dir) && (marked(dir) || slices.Contains(made, dir)); dir = filepath.Dir(dir) {
		err := unix.Rmdir(dir)
		if err != nil {
			err = unix.Rmdir(dir) // an EBUSY may pass, as in Remove
		}
		if err != nil {
			return
		}
	}
}

// mkdir makes mount+path, which must not exist, and what is missing above it. A parent may vanish at
// any moment, when the last of the other runs that share it removes it: then it is made again.
func (m *maker) mkdir(mount, path string) error {
	leaf := mount + path
	for range mkdirTries {
		err := unix.Mkdir(leaf, 0o755)
		if err == nil {
			m.leaves = append(m.leaves, leaf)
			if m.owner != "" {
				setMark(leaf, ownerMarks, m.owner)
			}
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
		switch err := unix.Mkdir(mount+path[:i], 0o755); err {
		case nil:
			setMark(mount+path[:i], marks, madeMark)
			m.parents = append(m.parents, mount+path[:i])
		case unix.EEXIST, unix.ENOENT:
		default:
			return &Error{Op: "create", Path: mount + path[:i], Err: err}
		}
	}
	return nil
}
