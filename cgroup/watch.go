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
	events int16 // those of poll(2) that say that there is something
	read   func(fd int) uint64
}

// WatchOOM begins to watch the group.
func (g *Group) WatchOOM() (*OOMWatch, error) { return g.h.watchOOM(false) }

// WatchOOMAbove is WatchOOM of the group above. v1 announces an OOM to the group that has run out, and to all below: it is
// this group's own if the one above hears nothing of it, which is told first. There is no such watch, errors.ErrUnsupported,
// on v2, which counts them apart by itself, and below the root of a hierarchy, which has no limit that it could reach.
func (g *Group) WatchOOMAbove() (*OOMWatch, error) {
	if g.whole && strings.Count(g.path, "/") == 1 {
		return nil, &Error{Op: "watch", Path: g.path, Err: errors.ErrUnsupported}
	}
	return g.h.watchOOM(true)
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
func (w *OOMWatch) Events() uint64 {
	if w == nil {
		return 0
	}
	return w.read(w.fd)
}

// Wait returns when there is an event, and takes it, or with the error of ctx.
func (w *OOMWatch) Wait(ctx context.Context) error {
	fd, err := unix.FcntlInt(uintptr(w.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return &Error{Op: "watch", Err: err}
	}
	err = awaitChange(ctx, fd, func() (bool, error) { return w.Events() > 0, nil })
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
