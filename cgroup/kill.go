package cgroup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Kill kills every process of the group and of groups below it, frozen, stopped and forking ones too,
// and returns when none is left (a zombie counts as gone: its parent has to wait for it). A process in
// an uninterruptible sleep can outlast ctx: that is ErrNotEmpty.
//
// It is the end of the group: on a host without cgroup.kill its process limit stays at 0.
func (g *Group) Kill(ctx context.Context) error {
	late := Error{Op: "kill", Path: g.dirs[0], Err: ErrNotEmpty}
	again := false
	return settle(ctx, late, func() (bool, error) {
		// Each time: something may have been born in between.
		if err := g.h.signalAll(ctx); err != nil {
			return false, err
		}
		populated, err := g.Populated()
		if again && err == nil {
			err = g.rescueFrozen()
		}
		if err != nil || populated {
			if err == nil && again && unix.Access(g.dirs[0]+"/"+killFile, unix.F_OK) == nil {
				// That file signals the first thread of each process: if it has ended, the others live on.
				_, err = killMembers(g.dirs[0])
				if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
					err = nil // most are dying, and then it takes no descriptors to see that
				}
			}
			again = true
			return false, err
		}
		// Those that have moved out of the directory in which processes are looked up, as root can, and not out of the
		// group's others, of which v1 has several.
		none, err := killMembers(g.dirs[1:]...)
		again = again || !none
		return none, err
	})
}

// killMembers kills the processes of directories one by one. It says whether there were none.
func killMembers(dirs ...string) (none bool, err error) {
	none = true
	for _, dir := range dirs {
		pids, err := procs(dir)
		if err != nil {
			return false, err
		}
		for some := range slices.Chunk(pids, killAtOnce) {
			none = false
			if err := killIfMembers(dir, some); err != nil {
				return false, err
			}
		}
	}
	return none, nil
}

// killAtOnce is for how many processes descriptors are open at the same time, or fewer if there are no more to be had.
const killAtOnce = 64

// listDescriptors is how many it takes to list the processes of a group, and of those below.
const listDescriptors = 3

// killIfMembers kills those that are in the group by the time that there is a descriptor of each, so that no pid
// can have become somebody else's.
func killIfMembers(dir string, pids []int) error {
	var held []handle
	defer func() {
		for _, h := range held {
			if h.fd >= 0 {
				unix.Close(h.fd)
			}
		}
	}()
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if len(held) > 1 && (errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE)) {
			for range min(listDescriptors, len(held)-1) {
				last := len(held) - 1
				unix.Close(held[last].fd)
				held = held[:last]
			}
			break // the others are for the next time
		}
		switch {
		case err == nil:
			held = append(held, handle{pid, fd})
		case errors.Is(err, unix.ESRCH):
		case pid > 0 && (errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT)):
			// A thread, of a threaded group (v2): its process is listed in a group above.
		case pid > 0: // before Linux 5.3, or a seccomp filter refuses the call
			held = append(held, handle{pid, -1})
		default:
			return &Error{Op: "kill", Path: dir, Err: err}
		}
	}
	members, err := procs(dir)
	if err != nil {
		return err
	}
	for _, h := range held {
		if !slices.Contains(members, h.pid) {
			continue
		}
		if err := h.kill(); err != nil && !errors.Is(err, unix.ESRCH) {
			return &Error{Op: "kill", Path: dir, Err: err}
		}
	}
	return nil
}

// A handle is a process to be killed.
type handle struct {
	pid int
	fd  int // its pidfd; -1 where the call is refused
}

// kill kills by the pid where there is no other way. It was in the group a moment ago.
func (h handle) kill() error {
	if h.fd >= 0 {
		err := unix.PidfdSendSignal(h.fd, unix.SIGKILL, nil, 0)
		if err == nil || errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return unix.Kill(h.pid, unix.SIGKILL)
}

// killFrozen sends SIGKILL to every process while all are frozen: a frozen process can't exit, so no pid
// can have become somebody else's between reading the list and the signal. SIGKILL works when they thaw.
//
// A group that did not freeze in time is killed all the same: what matters is whether it is empty in the
// end, and Kill sees to that.
func killFrozen(ctx context.Context, dir string, freeze func(context.Context, bool) error) error {
	freezing, cancel := context.WithTimeout(ctx, freezeTimeout)
	defer cancel()
	_ = freeze(freezing, true)
	pids, err := procs(dir)
	for _, pid := range pids {
		if pid <= 0 {
			// One outside of our pid namespace reads as 0, which to kill(2) is our own process group.
			err = errors.Join(err, &Error{Op: "kill", Path: dir, Err: unix.EPERM})
			continue
		}
		if killErr := unix.Kill(pid, unix.SIGKILL); killErr != nil && !errors.Is(killErr, unix.ESRCH) {
			err = errors.Join(err, &Error{Op: "kill", Path: dir, Err: killErr})
		}
	}
	// Even if ctx is over: a frozen group does not die.
	thawing, cancel := context.WithTimeout(context.WithoutCancel(ctx), freezeTimeout)
	defer cancel()
	thawErr := freeze(thawing, false)
	if missing(thawErr) || errors.Is(thawErr, ErrNoController) {
		thawErr = nil // removed by now; or there is no freezer, and nothing to thaw
	}
	return errors.Join(err, thawErr)
}

// freezeTimeout is for one attempt at freezing or thawing. v1 can take long over many processes that fork;
// below a frozen parent a thaw never ends.
const freezeTimeout = 500 * time.Millisecond

const killFile = "cgroup.kill" // since Linux 5.14

// writeKill kills through cgroup.kill; false if the kernel has none.
func writeKill(dir string) (bool, error) {
	err := writeFile(dir+"/"+killFile, "1")
	if missing(err) {
		return false, nil
	}
	return true, err
}

// freezeV2 freezes through cgroup.freeze (since Linux 5.2) and waits until cgroup.events says so.
func freezeV2(ctx context.Context, dir string, frozen bool) error {
	value, want := "0", uint64(0)
	if frozen {
		value, want = "1", 1
	}
	return settle(ctx, Error{Op: "freeze", Path: dir}, func() (bool, error) {
		if err := writeFile(dir+"/cgroup.freeze", value); err != nil {
			return false, err
		}
		content, err := readFile(dir + "/cgroup.events")
		if err != nil {
			return false, err
		}
		state, ok := keyed(content, "frozen")
		return !ok || state == want, nil
	})
}

// settle repeats an attempt, with growing pauses, until it succeeds or fails. An attempt asks for the wanted
// state each time: somebody else may have asked for the other one in between. When ctx is over, late is the
// error, with the context's joined to it.
func settle(ctx context.Context, late Error, attempt func() (done bool, err error)) error {
	for delay := 50 * time.Microsecond; ; delay = min(2*delay, 20*time.Millisecond) {
		done, err := attempt()
		if err != nil || done {
			return err
		}
		select {
		case <-ctx.Done():
			if late.Err != nil {
				late.Err = fmt.Errorf("%w: %w", late.Err, ctx.Err())
			} else {
				late.Err = ctx.Err()
			}
			return &late
		case <-time.After(delay):
		}
	}
}
