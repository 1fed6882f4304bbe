package cgroup

import (
	"errors"
	"os"
	"strconv"
	"strings"

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
				below, err := procsAt(parent, name)
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
	own, err := unix.Openat(fd, ".", openDir, 0)
	if err != nil {
		return nil
	}
	file := os.NewFile(uintptr(own), "")
	defer file.Close()
	entries, _ := file.ReadDir(-1)
	for _, entry := range entries {
		if entry.IsDir() {
			names = append(names, entry.Name())
		}
	}
	return names
}

// procsAt reads the processes of one directory. A threaded one (v2) has none to tell of: its processes are those of a
// directory above.
func procsAt(parent int, name string) (pids []int, err error) {
	fd, err := unix.Openat(parent, name+"/cgroup.procs", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), name)
	defer file.Close()
	var content strings.Builder
	if _, err := file.WriteTo(&content); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return nil, err
	}
	for line := range strings.Lines(content.String()) {
		if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
