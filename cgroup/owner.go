package cgroup

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// ownerMarks hold Options.Owner; of each other as in marks.
var ownerMarks = []string{"user.cgshim.owner", "trusted.cgshim.owner"}

// An Entry is a group that Host.Groups has found.
type Entry struct {
	Path  string
	Owner string // see Options.Owner; empty without
	UID   int    // the user who the directory belongs to that says so, and who can have it say anything
}

// readOwner reads what Create has set, and whose the directory is, of one and the same directory.
func readOwner(dir string) (owner string, uid int) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", 0 // gone, or not for us to read
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return "", 0
	}
	owner = firstMark(ownerMarks, func(name string, value []byte) (int, error) { return unix.Fgetxattr(fd, name, value) })
	return owner, int(st.Uid)
}

// Groups lists the groups right below a path whose names begin with a prefix, in whichever hierarchy they are. No such path is no
// error.
func (h *Host) Groups(path, prefix string) ([]Entry, error) {
	var list []Entry
	for _, root := range h.roots() {
		names, err := subdirectories(root+path, prefix)
		if err != nil && !missing(err) {
			return nil, &Error{Op: "read", Path: root + path, Err: err}
		}
		for _, name := range names {
			entry := Entry{Path: strings.TrimSuffix(path, "/") + "/" + name}
			entry.Owner, entry.UID = readOwner(root + path + "/" + name)
			i := slices.IndexFunc(list, func(e Entry) bool { return e.Path == entry.Path })
			switch {
			case i < 0:
				list = append(list, entry)
			case list[i].Owner == "":
				list[i] = entry
			}
		}
	}
	return list, nil
}

// Others is how many groups there are right below its parent beside this one, in the hierarchy with the most of them, of
// those in which it is itself. That is a look at a number; Groups makes a list. What can't be seen is a lot.
func (g *Group) Others() int {
	most := 0
	for _, dir := range g.dirs {
		var st unix.Stat_t
		const itself = 3 // links of a directory with one in it, see inode(7)
		if unix.Stat(filepath.Dir(dir), &st) != nil || st.Nlink < itself {
			return math.MaxInt
		}
		most = max(most, int(st.Nlink)-itself)
	}
	return most
}

// Some is Groups for some few of them, by chance, and of one hierarchy, by chance as well.
func (h *Host) Some(path, prefix string, count int) ([]Entry, error) {
	var dir string
	var names []string
	roots := h.roots()
	for _, i := range rand.Perm(len(roots)) { // the first in which there are any
		var err error
		dir = roots[i] + path
		if names, err = subdirectories(dir, prefix); err != nil && !missing(err) {
			return nil, &Error{Op: "read", Path: dir, Err: err}
		}
		if len(names) > 0 {
			break
		}
	}
	rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	var list []Entry
	for _, name := range names[:min(len(names), count)] {
		entry := Entry{Path: strings.TrimSuffix(path, "/") + "/" + name}
		entry.Owner, entry.UID = readOwner(dir + "/" + name)
		list = append(list, entry)
	}
	return list, nil
}

func subdirectories(dir, prefix string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	for _, entry := range entries {
		if entry.IsDir() && strings.HasPrefix(entry.Name(), prefix) {
			names = append(names, entry.Name())
		}
	}
	return names, err
}

// MissingParents lists the directories above path that are not there, and that Create would have to make.
func (h *Host) MissingParents(path string) []string {
	var list []string
	for _, root := range h.roots() {
		for i := 1; i < len(path); i++ {
			if path[i] == '/' && unix.Access(root+path[:i], unix.F_OK) != nil {
				list = append(list, root+path[:i])
			}
		}
	}
	return list
}

// Exists says whether there is a group at path in any hierarchy.
func (h *Host) Exists(path string) bool {
	return slices.ContainsFunc(h.roots(), func(root string) bool { return unix.Access(root+path, unix.F_OK) == nil })
}

// Clean kills and removes whatever there is of an owner's group, in each hierarchy, also if its Create or
// Remove was interrupted half-way; and its parents as Remove does. A group that is another owner's by
// Options.Owner stays. missing is what MissingParents said before Create. Nothing there is no error.
func (h *Host) Clean(ctx context.Context, path, owner string, missing []string) error {
	if err := checkPath(path); err != nil {
		return err
	}
	h.markParents(missing)
	g, err := h.Open(path)
	switch {
	case errors.Is(err, unix.ENOENT):
	case err != nil:
		return err
	case slices.ContainsFunc(g.dirs, func(dir string) bool {
		mark := readMark(dir, ownerMarks)
		return mark != "" && mark != owner
	}):
		return nil
	default:
		if err := g.Kill(ctx); err != nil {
			return err
		}
		if err := g.Remove(); err != nil {
			return err
		}
	}
	h.RemoveParents(path, nil)
	return nil
}

// RemoveParents removes what is above path as Remove does: made by a Create, and empty. There need be nothing at path.
func (h *Host) RemoveParents(path string, missing []string) {
	h.markParents(missing)
	mounts := h.roots()
	for _, root := range mounts {
		removeMade(root+path, mounts, nil)
	}
}

// markParents is for a Create that may have come no further than mkdir.
func (h *Host) markParents(missing []string) {
	for _, dir := range missing {
		setMark(dir, marks, madeMark)
	}
}

// roots are the mount points in which a group may have a directory.
func (h *Host) roots() []string {
	var list []string
	if h.unified != "" {
		list = append(list, h.unified)
	}
	for _, c := range h.controllers {
		if mount := h.mounts[c]; mount != "" && !slices.Contains(list, mount) {
			list = append(list, mount)
		}
	}
	return list
}
