// Package ledger lists groups with their owners, and removes what an owner has left.
package ledger

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
)

// An Entry is a group that Groups has found.
type Entry struct {
	Path  string
	Owner string // see cgroup.Options; empty without
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
	return cgroup.Owner("/proc/self/fd/" + strconv.Itoa(fd)), int(st.Uid)
}

// Groups lists the groups right below a path whose names begin with a prefix, in whichever hierarchy they are. No such path is no
// error.
func Groups(host *cgroup.Host, path, prefix string) ([]Entry, error) {
	var list []Entry
	for _, m := range host.Mounts() {
		dir := m.Dir + path
		names, err := subdirectories(dir, prefix)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			entry := entryOf(dir, path, name)
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

func entryOf(dir, path, name string) Entry {
	entry := Entry{Path: strings.TrimSuffix(path, "/") + "/" + name}
	entry.Owner, entry.UID = readOwner(dir + "/" + name)
	return entry
}

// Some is Groups for some few of them, by chance, and of one hierarchy, by chance as well.
func Some(host *cgroup.Host, path, prefix string, count int) ([]Entry, error) {
	var dir string
	var names []string
	mounts := host.Mounts()
	for _, i := range rand.Perm(len(mounts)) { // the first in which there are any
		var err error
		dir = mounts[i].Dir + path
		if names, err = subdirectories(dir, prefix); err != nil {
			return nil, err
		}
		if len(names) > 0 {
			break
		}
	}
	rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	var list []Entry
	for _, name := range names[:min(len(names), count)] {
		list = append(list, entryOf(dir, path, name))
	}
	return list, nil
}

func subdirectories(dir, prefix string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) {
		return nil, &cgroup.Error{Op: "read", Path: dir, Err: err}
	}
	for _, entry := range entries {
		if entry.IsDir() && strings.HasPrefix(entry.Name(), prefix) {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

// Match lists the groups whose paths match a pattern, as path/filepath.Match has it, in whichever hierarchy they are.
func Match(host *cgroup.Host, pattern string) (paths []string) {
	for _, m := range host.Mounts() {
		dirs, _ := filepath.Glob(m.Dir + pattern) // no error but that of a bad pattern
		for _, dir := range dirs {
			if path := strings.TrimPrefix(dir, m.Dir); !slices.Contains(paths, path) {
				paths = append(paths, path)
			}
		}
	}
	return paths
}

// Others is how many groups there are right below a group's parent beside it, in the hierarchy with the most of them, of
// those in which it is itself. That is a look at a number; Groups makes a list. What can't be seen is a lot.
func Others(group *cgroup.Group) int {
	most := 0
	for _, dir := range group.Dirs() {
		var st unix.Stat_t
		const itself = 3 // links of a directory with one in it, see inode(7)
		if unix.Stat(filepath.Dir(dir), &st) != nil || st.Nlink < itself {
			return math.MaxInt
		}
		most = max(most, int(st.Nlink)-itself)
	}
	return most
}

// MissingParents lists the directories above path that are not there, and that Create would have to make.
func MissingParents(host *cgroup.Host, path string) []string {
	var list []string
	for _, m := range host.Mounts() {
		for i := 1; i < len(path); i++ {
			if path[i] == '/' && unix.Access(m.Dir+path[:i], unix.F_OK) != nil {
				list = append(list, m.Dir+path[:i])
			}
		}
	}
	return list
}

// Clean kills and removes whatever there is of an owner's group, in each hierarchy, also if its Create or
// Remove was interrupted half-way; and its parents as Remove does. A group that is another owner's stays.
// missing is what MissingParents said before Create. Nothing there is no error.
func Clean(ctx context.Context, host *cgroup.Host, path, owner string, missing []string) error {
	g, err := host.Open(path)
	if errors.Is(err, cgroup.ErrInvalid) || errors.Is(err, unix.ENAMETOOLONG) {
		return err // that is no path
	}
	defer host.RemoveParents(path, missing) // which marks those of a Create that came no further than mkdir, also if they are in use
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil
	case err != nil:
		return err
	case slices.ContainsFunc(g.Dirs(), func(dir string) bool {
		mark := cgroup.Owner(dir)
		return mark != "" && mark != owner
	}):
		return nil
	}
	if err := g.Kill(ctx); err != nil {
		return err
	}
	return g.Remove()
}
