package cgroup

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// An OOMWatch tells when a group may have run out of memory. Whether the kernel killed a process, Group.Stats tells, on v1 a
// moment later. Close it.
type OOMWatch struct {
	fd     int
	above  int   // of the group above; -1 is none
	events int16 // those of poll(2) that say that there is something
	read   func(fd int) uint64
}

// WatchOOM begins to watch the group: memory.events on v2, an eventfd for memory.oom_control on v1.
func (g *Group) WatchOOM() (*OOMWatch, error) {
	return g.h.watchOOM(g.whole && strings.Count(g.path, "/") == 1)
}

// PollFd is for poll(2). A nil watch is an entry that poll ignores.
func (w *OOMWatch) PollFd() unix.PollFd {
	if w == nil {
		return unix.PollFd{Fd: -1}
	}
	return unix.PollFd{Fd: int32(w.fd), Events: w.events}
}

// Events is how many events there were since the last call, or since WatchOOM: on v1 the kernel's announcements, on v2 what
// the counters have grown by. It does not block. A nil watch has none.
//
// above is of how many the group above has heard, as far as it can be watched. v1 announces an OOM to the group that has run out,
// and to all below: it is this group's own if the one above hears nothing of it, which is told first. On v2, where OwnOOMKills and
// AboveOOMKills tell them apart, it is 0.
func (w *OOMWatch) Events() (n, above uint64) {
	if w == nil {
		return 0, 0
	}
	if n = w.read(w.fd); n > 0 && w.above >= 0 {
		above = w.read(w.above)
	}
	return n, above
}

// Reset drops the events until now. The group above is read first: an event that comes meanwhile is at worst counted there only.
func (w *OOMWatch) Reset() {
	if w == nil {
		return
	}
	if w.above >= 0 {
		w.read(w.above)
	}
	w.read(w.fd)
}

// Wait returns when there is an event, and takes it, or with the error of ctx.
func (w *OOMWatch) Wait(ctx context.Context) error {
	fd, err := unix.FcntlInt(uintptr(w.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return &Error{Op: "watch", Err: err}
	}
	err = awaitChange(ctx, fd, func() (bool, error) {
		n, _ := w.Events()
		return n > 0, nil
	})
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// Close ends the watch. A nil watch needs none.
func (w *OOMWatch) Close() error {
	if w == nil {
		return nil
	}
	if w.above >= 0 {
		_ = unix.Close(w.above)
	}
	return unix.Close(w.fd)
}

// awaitChange looks now, and again after each change that a descriptor tells of, until look says that it is done, or ctx is
// over. It closes the descriptor, which has to be non-blocking. No thread waits: the descriptor is in the Go runtime's epoll.
//
// A cgroup file is always readable; what tells of a change is EPOLLPRI together with EPOLLERR, which nobody need ask for. The
// kernel forgets the change when look reads that same descriptor.
func awaitChange(ctx context.Context, fd int, look func() (done bool, err error)) error {
	file := os.NewFile(uintptr(fd), "cgroup-events")
	defer file.Close()
	conn, err := file.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var failed error
	err = conn.Read(func(uintptr) (done bool) {
		done, failed = look()
		return done || failed != nil
	})
	return errors.Join(failed, err)
}

// readOpen reads an open cgroup file from its beginning, if it is no longer than a page.
func readOpen(fd int) (string, error) {
	var page [4096]byte
	n, err := retry(func() (int, error) { return unix.Pread(fd, page[:], 0) })
	if err != nil {
		return "", err
	}
	return string(page[:n]), nil
}
