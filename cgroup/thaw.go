package cgroup

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// rescueFrozen moves processes of the group that are frozen in a v1 freezer group of somebody else's, where they do not die of
// SIGKILL, into one of ours, where they do: the kernel thaws what enters it. The other group stays as it is. If ours is below
// one that is frozen, there is nothing to be done.
//
// That is for root's program, which can move its processes; the group that we run in is not touched.
func (g *Group) rescueFrozen() error {
	if g.freezer == "" {
		return nil
	}
	for _, dir := range g.dirs {
		pids, err := procs(dir)
		if err != nil {
			return err
		}
		for _, pid := range pids {
			if pid <= 0 || !g.frozenElsewhere(pid) {
				continue
			}
			own, err := g.ownFreezer()
			if err != nil || own == "" {
				return err
			}
			if err := move(own, pid); err != nil {
				return err
			}
		}
	}
	return nil
}

// frozenElsewhere reports whether a process is in a freezer group that is not ours, and is not known to be thawed.
func (g *Group) frozenElsewhere(pid int) bool {
	content, err := readFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return false // it is gone
	}
	for line := range strings.Lines(content) {
		_, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		if path, ok := strings.CutPrefix(rest, string(Freezer)+":"); ok {
			path, visible := below(path, g.shown)
			if visible && (path == "/" || path == g.path || strings.HasPrefix(path, g.path+"/")) {
				return false
			}
			state, err := readFile(g.freezer + path + "/freezer.state")
			return !visible || err != nil || strings.TrimSpace(state) != thawed
		}
	}
	return false
}

// ownFreezer is the group's directory in the freezer's hierarchy, which is made if it is not there; "" if it is frozen.
// Remove removes it.
func (g *Group) ownFreezer() (dir string, err error) {
	g.removing.Lock()
	defer g.removing.Unlock()
	m := maker{mounts: g.mounts}
	if err := m.mkdir(g.freezer, g.path); err != nil && !errors.Is(err, unix.EEXIST) {
		return "", err
	}
	dir = g.freezer + g.path
	if !slices.Contains(g.elsewhere, dir) && !slices.Contains(g.dirs, dir) {
		g.elsewhere = append(g.elsewhere, dir)
	}
	g.parents = append(g.parents, m.parents...)
	state, err := readFile(dir + "/freezer.state")
	if err != nil || strings.TrimSpace(state) != thawed {
		return "", err
	}
	return dir, nil
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

// move moves a process, if it is still there, into a directory.
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
