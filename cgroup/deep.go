package cgroup

import (
	"errors"
	"os"
	"strconv"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

// What a program makes below its group may be deeper than a path can be long (PATH_MAX, 4096 bytes). There the
// cgroups library fails, and we go from each directory to the next.

// procs lists the processes of a directory, and of those below. No such directory has none.
func procs(dir string) ([]int, error) {
	pids, err := cgroups.GetAllPids(dir)
	if errors.Is(err, unix.ENAMETOOLONG) {
		if pids, err = cgroups.GetPids(dir); err == nil {
			err = eachBelow(dir, func(parent int, name string) error {
				below, err := cgroups.GetPids(fdPath(parent) + "/" + name)
				pids = append(pids, below...)
				return err
			})
		}
	}
	if err != nil && !missing(err) {
		return nil, &Error{Op: "read", Path: dir, Err: err}
	}
	return pids, nil
}

// removeAll removes a directory and those below. For processes that are about to be gone it waits a second.
func removeAll(dir string) error {
	err := cgroups.RemovePath(dir)
	if errors.Is(err, unix.ENAMETOOLONG) {
		if err = eachBelow(dir, func(parent int, name string) error { return unix.Unlinkat(parent, name, unix.AT_REMOVEDIR) }); err == nil {
			err = cgroups.RemovePath(dir)
		}
	}
	return err
}

// eachBelow calls each for the directories below one, the deepest first, by their names in a directory that is open.
// What has gone meanwhile is left out.
func eachBelow(dir string, each func(parent int, name string) error) error {
	fd, err := unix.Open(dir, openDir, 0)
	if err != nil {
		return err
	}
	defer func() { unix.Close(fd) }()
	type level struct {
		name     string
		children []string // which are still to come
	}
	for way := []level{{children: directories(fd)}}; ; {
		here := &way[len(way)-1]
		next, name := "..", here.name
		if last := len(here.children) - 1; last >= 0 {
			next, here.children = here.children[last], here.children[:last]
		} else if len(way) == 1 {
			return nil
		}
		to, err := openAt(fd, next)
		if missing(err) && next != ".." {
			continue
		}
		if err != nil {
			return err
		}
		unix.Close(fd)
		fd = to
		if next != ".." {
			way = append(way, level{next, directories(fd)})
			continue
		}
		way = way[:len(way)-1]
		if err := each(fd, name); err != nil && !missing(err) {
			return err
		}
	}
}

const openDir = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC

func openAt(parent int, name string) (fd int, err error) {
	fd, err = unix.Openat(parent, name, openDir, 0)
	if errors.Is(err, unix.EACCES) {
		_ = unix.Fchmodat(parent, name, 0o700, 0) // the user whose it is may have forbidden it to himself
		fd, err = unix.Openat(parent, name, openDir, 0)
	}
	return fd, err
}

// directories lists those in an open one; none if it has been removed.
func directories(fd int) (names []string) {
	entries, _ := os.ReadDir(fdPath(fd))
	for _, entry := range entries {
		if entry.IsDir() {
			names = append(names, entry.Name())
		}
	}
	return names
}

// fdPath is a short path to an open directory.
func fdPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
