package cgroup

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

// A Group is one control group: a directory on v2, one per hierarchy on v1. Its methods are safe for
// concurrent use, and idempotent where that makes sense.
type Group struct {
	path string
	h    hierarchy
	dirs []string // the group's own directories; processes are looked up in the first

	mounts    []string // see Host.roots
	parents   []string // directories above the group that its Create made
	elsewhere []string // v1: where it has no directory, but runs inside of it may have made one
	hidden    []string // see Host.Without
	freezer   string   // v1: where the freezer's hierarchy is mounted; "" if it is not
	shown     string   // its Mount.Root
	whole     bool     // see Host

	warm warm

	setting     sync.Mutex // v1 takes RAM and RAM+swap in two writes, in an order that depends on both
	removing    sync.Mutex
	keepParents bool // see Tuning
}

// hierarchy is what differs between v1 and v2.
type hierarchy interface {
	// set applies the limits that are not zero.
	set(*Limits) error
	// stats reads the figures of some parts.
	stats(*Stats, *reader, Part)
	// freeze stops or continues every process, and waits until that is so.
	freeze(ctx context.Context, frozen bool) error
	// signalAll makes every process die, in whatever state; not necessarily at once.
	signalAll(ctx context.Context) error
	// join opens what a process needs to enter by itself.
	join() (*Join, error)
	// watchOOM is WatchOOM, of a group that is below the root of its hierarchy, which has no limit, or below another.
	watchOOM(belowRoot bool) (*OOMWatch, error)
}

// Path is the group's path below each mount point.
func (g *Group) Path() string { return g.path }

// Dirs lists the group's directories: on v2 the one, on v1 one in each hierarchy that the group is in, cgroup2's first. They are for
// kernel files that this package does not know. The caller may keep and change the slice.
func (g *Group) Dirs() []string { return slices.Clone(g.dirs) }

// Set applies limits, also to a group with processes in it. Nothing is skipped silently: a limit that no kernel accepts is
// ErrInvalid; one whose controller the group was not created with ErrNoController; a swap limit that the kernel does not account
// ErrSwapAccounting; CPUs that the parent does not have ErrNotEnforced. Limits that were set before the failure stay.
func (g *Group) Set(limits Limits) error {
	if err := limits.Validate(); err != nil {
		return err
	}
	g.setting.Lock()
	defer g.setting.Unlock()
	return g.h.set(&limits)
}

// Add moves a running process, with all its threads, into the group. Its memory stays charged to where
// it was. The kernel takes several milliseconds over it.
func (g *Group) Add(pid int) error {
	if pid <= 0 { // 0 would be the caller itself, -1 a process that was released
		return &Error{Op: "add", Value: strconv.Itoa(pid), Err: ErrInvalid}
	}
	for _, dir := range g.dirs {
		if err := cgroups.WriteCgroupProc(dir, pid); err != nil {
			return &Error{Op: "add", Path: dir, Err: err}
		}
	}
	return nil
}

// Join opens what a process needs to enter the group by itself. The caller closes it. Where the freezer is the only way to kill, a
// group below a frozen one is ErrFrozen: what enters it could not be killed.
func (g *Group) Join() (*Join, error) { return g.h.join() }

// Procs lists the processes of the group and of groups below it (cgroup.procs). On v2, 0 is a process that is outside of
// this pid namespace. A group that is gone has none.
func (g *Group) Procs() ([]int, error) { return procs(g.dirs[0]) }

// hides reports whether a file is not to be used, see Host.Without.
func (g *Group) hides(file string) bool { return slices.Contains(g.hidden, file) }

// Populated reports whether a process is alive in the group or below it (cgroup.events; without that file, cgroup.procs). A zombie
// is not alive.
func (g *Group) Populated() (bool, error) {
	if !g.hides(eventsFile) {
		content, err := g.warm.value(g.dirs[0] + "/" + eventsFile)
		if err == nil {
			n, _ := keyed(content, "populated")
			return n != 0, nil
		}
		if !missing(err) {
			return false, err
		}
	}
	pids, err := g.Procs()
	return len(pids) > 0, err
}

// eventsFile is there on v2, also beside v1 on a hybrid host.
const eventsFile = "cgroup.events"

// WaitEmpty returns when no process is alive in the group or below it, or with the error of ctx. Zombies
// are not alive. Where the kernel has no cgroup.events it looks again and again, every 50 ms in the end.
func (g *Group) WaitEmpty(ctx context.Context) error {
	if g.hides(eventsFile) {
		return g.pollEmpty(ctx)
	}
	fd, err := openFile(g.dirs[0]+"/"+eventsFile, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return g.pollEmpty(ctx)
	}
	err = awaitChange(ctx, fd, func() (bool, error) {
		content, err := readOpen(fd)
		if missing(err) {
			return true, nil // the group has been removed
		}
		populated, _ := keyed(content, "populated")
		return populated == 0, err
	})
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return g.pollEmpty(ctx) // the file can't be watched
}

func (g *Group) pollEmpty(ctx context.Context) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		if populated, err := g.Populated(); err != nil || !populated {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// Stats reads what the group has used so far: the parts asked for, or all of them if none is named. A figure that the kernel does not
// tell, or whose controller the group does not have, is the zero Figure, and no error.
func (g *Group) Stats(parts ...Part) (Stats, error) {
	wanted := allParts
	if len(parts) > 0 {
		wanted = 0
	}
	for _, part := range parts {
		wanted |= part
	}
	var s Stats
	r := reader{hidden: g.hidden, warm: &g.warm}
	g.h.stats(&s, &r, wanted)
	return s, r.err
}

// Freeze stops every process of the group, and returns when all are stopped, or with an error that wraps that of ctx. It is
// cgroup.freeze (since Linux 5.2), or v1's freezer; without either the error is ErrNoController.
func (g *Group) Freeze(ctx context.Context) error { return g.h.freeze(ctx, true) }

// Thaw takes Freeze back: the processes continue.
func (g *Group) Thaw(ctx context.Context) error { return g.h.freeze(ctx, false) }

// Frozen reports whether the group is frozen, by itself or because a group above it is.
func (g *Group) Frozen() (bool, error) {
	for _, dir := range g.dirs {
		content, err := readFile(dir + "/" + eventsFile)
		if frozen, ok := keyed(content, "frozen"); ok && frozen != 0 {
			return true, nil
		}
		if missing(err) {
			content, err = readFile(dir + "/freezer.state")
			if err == nil && content != "THAWED\n" {
				return true, nil
			}
		}
		if err != nil && !missing(err) {
			return false, err
		}
	}
	return false, nil
}

// Remove removes the group, groups below it, and of its parents those that Create made, for this group or
// another, and that are empty now. A process that is still in it is an error (EBUSY): see Kill. To remove
// a group that is gone is none.
func (g *Group) Remove() error {
	g.removing.Lock()
	defer g.removing.Unlock()
	dirs, err := g.removeItself()
	if err != nil || g.keepParents {
		return err
	}
	for _, dir := range dirs {
		removeMade(dir, g.mounts, g.parents)
	}
	g.parents = nil // from now on they may be somebody else's
	return nil
}

func (g *Group) removeItself() (dirs []string, err error) {
	g.warm.close()
	var errs []error
	dirs = append(slices.DeleteFunc(slices.Clone(g.elsewhere), func(dir string) bool { return !isGroup(dir) }), g.dirs...)
	for _, dir := range dirs {
		remove := removeAll
		if len(errs) > 0 {
			remove = unix.Rmdir // once is enough
		}
		if err := remove(dir); err != nil && !missing(err) {
			errs = append(errs, &Error{Op: "remove", Path: dir, Err: err})
		}
	}
	return dirs, errors.Join(errs...)
}
