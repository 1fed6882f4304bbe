// Package lifeline watches files whose end says that nobody wants a run any more: of a pipe, a FIFO or a socket that somebody else holds the
// other end of, which the kernel closes however that process ends; or a pidfd, of the process itself.
package lifeline

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/shim/internal/sys"
)

// Most is how many files there may be.
const Most = 4

// Files are watched together: the first that ends counts. Nil watches nothing. It is not safe for concurrent use.
type Files struct {
	list  []watched
	ended bool // one of them has
	told  bool // End has said so
}

type watched struct {
	file   *os.File // which would be closed when nobody else has it any more
	fd     int
	events int16 // what poll is asked for
	pidfd  bool
	socket bool
	stream bool // a socket that has no messages, which may be empty
}

// Watch begins to watch files that Check finds nothing wrong with.
func Watch(files []*os.File) *Files {
	if len(files) == 0 {
		return nil
	}
	w := new(Files)
	for _, file := range files {
		fd := int(file.Fd())
		f := watched{file: file, fd: fd, events: unix.POLLIN | unix.POLLRDHUP}
		switch format(fd) {
		case unix.S_IFIFO:
		case unix.S_IFSOCK:
			kind, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
			f.socket, f.stream = true, kind == unix.SOCK_STREAM
		default:
			f.pidfd = true
		}
		w.list = append(w.list, f)
	}
	return w
}

// Check says why a descriptor's file has no end to be seen.
func Check(fd int) error {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return errors.New("the descriptor is not open")
	}
	switch format(fd) {
	case unix.S_IFIFO:
		switch flags & unix.O_ACCMODE {
		case unix.O_WRONLY:
			return errors.New("this is the end of the pipe that is written to: the caller keeps that one, and cgshim has to get the other")
		case unix.O_RDWR:
			return errors.New("a FIFO that is open for reading and writing never ends")
		}
		return nil
	case unix.S_IFSOCK:
		return checkSocket(fd)
	}
	if isPidfd(fd) {
		return nil
	}
	return errors.New("it is neither a pipe nor a FIFO nor a socket, and has no other end that could be closed")
}

func checkSocket(fd int) error {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || kind != unix.SOCK_STREAM && kind != unix.SOCK_SEQPACKET {
		return errors.New("a socket without a connection has no end")
	}
	if listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err == nil && listens != 0 {
		return errors.New("a socket that listens has no end")
	}
	return nil
}

func format(fd int) uint32 {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return 0
	}
	return st.Mode & unix.S_IFMT
}

// isPidfd goes by the name that the kernel gives such a file: "anon_inode:[pidfd]", and since Linux 6.9 "pidfd:[4711]".
func isPidfd(fd int) bool {
	name, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	return err == nil && (name == "anon_inode:[pidfd]" || strings.HasPrefix(name, "pidfd:["))
}

// PollFds adds what poll(2) has to look at. Polled takes it back.
func (w *Files) PollFds(fds []unix.PollFd) []unix.PollFd {
	if w == nil || w.ended {
		return fds
	}
	for i := range w.list {
		fds = append(fds, unix.PollFd{Fd: int32(w.list[i].fd), Events: w.list[i].events})
	}
	return fds
}

// Polled looks at what poll has found. Bytes that have come are thrown away, so that poll does not tell of them again, and whoever
// writes them is not held up by a pipe that is full.
func (w *Files) Polled(fds []unix.PollFd) {
	for i := range fds {
		if fds[i].Revents != 0 && w.list[i].hasEnded(fds[i].Revents) {
			w.ended = true
		}
	}
}

// Ended reports whether one of them has ended by now.
func (w *Files) Ended() bool {
	if w == nil {
		return false
	}
	fds := w.PollFds(nil)
	if _, err := sys.IgnoringEINTR(func() (int, error) { return unix.Poll(fds, 0) }); err == nil {
		w.Polled(fds)
	}
	return w.ended
}

// End reports, once, that Polled has seen one of them end.
func (w *Files) End() bool {
	if w == nil || !w.ended || w.told {
		return false
	}
	w.told = true
	return true
}

func (f *watched) hasEnded(found int16) bool {
	const ends = unix.POLLHUP | unix.POLLERR | unix.POLLNVAL | unix.POLLRDHUP
	if f.pidfd || found&ends != 0 {
		return true
	}
	end, err := f.discard()
	if err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
		f.events = unix.POLLRDHUP // the bytes stay where they are, and poll tells of the end alone
	}
	return end
}

// discard reads what there is without waiting, although the file may wait, and other processes may read it, too.
func (f *watched) discard() (end bool, err error) {
	var buf [16 << 10]byte
	if f.socket {
		n, _, err := unix.Recvfrom(f.fd, buf[:], unix.MSG_DONTWAIT)
		return err == nil && n == 0 && f.stream, err
	}
	null, err := unix.Open(os.DevNull, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(null)
	n, err := unix.Splice(f.fd, nil, null, nil, 1<<20, unix.SPLICE_F_NONBLOCK)
	return err == nil && n == 0, err
}

// Context returns a context that ends with ctx, or when one of the files does, for who can't poll. It has a goroutine until stop is
// called, or until it has ended; the Files are that one's until then.
func (w *Files) Context(ctx context.Context) (_ context.Context, stop func()) {
	if w == nil {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	quit, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return ctx, cancel // the end is seen later
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !w.ended {
			fds := w.PollFds([]unix.PollFd{{Fd: int32(quit), Events: unix.POLLIN}})
			if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) || fds[0].Revents != 0 {
				return
			}
			w.Polled(fds[1:])
		}
		cancel()
	}()
	return ctx, func() {
		sys.RaiseEvent(quit)
		<-done
		runtime.KeepAlive(w) // and with it the files
		_ = unix.Close(quit)
		cancel()
	}
}
