// Package relay passes on what a program writes to its standard output and error, up to a limit.
package relay

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/shim/internal/sys"
)

// outputStall is how long nobody may take any output, after the run has ended, before the rest of it is
// given up. While the program runs a reader may take as long as it likes, as it may without cgshim.
const outputStall = 5 * time.Second

// A Relay passes on what the program writes, up to a limit. The program has one pipe for each of
// descriptors 1 and 2, or one for both where these are the same file, so that "2>&1" keeps its order. Each
// pipe has a goroutine that moves what is in it, by splice(2) where the receiver can do that.
type Relay struct {
	streams  []*stream
	stop     int // an eventfd: take what is there, do not wait for more
	left     atomic.Int64
	passed   atomic.Int64
	more     sync.Mutex
	exceeded bool   // there was more than the limit
	notify   func() // who wants to know
	done     sync.WaitGroup
}

type stream struct {
	out      *Relay
	from     int // our end of the pipe
	writer   int // the program's, until it has been started
	to       int
	socket   bool // to is one
	chunk    int  // the most to move at once
	noSplice bool
	gone     int16 // the poll(2) event that says that nobody will read any more; 0 if there is none
	over     bool  // nothing more is passed on
	ending   bool  // the run has ended
	err      error
}

// errNotRead is for what is left of the output when nobody takes it.
var errNotRead = errors.New("nobody reads the program's output: the rest of it is lost")

const (
	// terminalChunk is so small that a slow serial line is not taken for a receiver that has stalled.
	terminalChunk = 4 << 10
	copyChunk     = 64 << 10
)

// New makes the pipes for a limit in bytes; the program gets stdio's second and third descriptor replaced.
func New(limit int64, stdio *[3]int) (*Relay, error) {
	o := &Relay{stop: -1}
	o.left.Store(limit)
	var err error
	if o.stop, err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	same := sameFile(stdio[1], stdio[2])
	for _, fd := range []int{1, 2} {
		if fd == 2 && same {
			stdio[2] = stdio[1]
			break
		}
		var pipe [2]int
		if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
			o.Abandon()
			return nil, os.NewSyscallError("pipe2", err)
		}
		to, err := ownReceiver(stdio[fd])
		if err != nil {
			unix.Close(pipe[0])
			unix.Close(pipe[1])
			o.Abandon()
			return nil, err
		}
		s := &stream{out: o, from: pipe[0], writer: pipe[1], to: to, chunk: math.MaxInt32}
		var st unix.Stat_t
		if unix.Fstat(s.to, &st) == nil {
			s.socket = st.Mode&unix.S_IFMT == unix.S_IFSOCK
			s.noSplice = s.socket // for splice would wait
			if st.Mode&unix.S_IFMT == unix.S_IFCHR {
				s.chunk = terminalChunk
			}
		}
		s.gone = goneEvent(&st, s.from)
		if s.readerGone() { // for good, and the program is to see it with its first write
			s.fail(unix.EPIPE)
		}
		o.streams = append(o.streams, s)
		stdio[fd] = pipe[1]
	}
	return o, nil
}

// ownReceiver is a descriptor of our own of where output goes: whoever is still blocked in a write to it must not write
// to another file that has got the number. A terminal is opened once more, so that no write to it waits; with O_NONBLOCK
// on the caller's open file, everybody's would not.
func ownReceiver(fd int) (int, error) {
	if _, err := unix.IoctlGetTermios(fd, unix.TCGETS); err == nil {
		own, err := unix.Open("/proc/self/fd/"+strconv.Itoa(fd), unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if err == nil {
			return own, nil
		}
	}
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	return own, os.NewSyscallError("fcntl", err)
}

// sameFile says whether two descriptors are one file, whose bytes have one order.
func sameFile(a, b int) bool {
	var x, y unix.Stat_t
	return unix.Fstat(a, &x) == nil && unix.Fstat(b, &y) == nil && x.Dev == y.Dev && x.Ino == y.Ino
}

// goneEvent is the event of a receiver that nobody can come back to read: of a FIFO somebody may open the other end again,
// and of a file nothing is known before a write.
func goneEvent(st *unix.Stat_t, pipe int) int16 {
	var anonymous unix.Stat_t
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFIFO:
		if unix.Fstat(pipe, &anonymous) == nil && anonymous.Dev == st.Dev {
			return unix.POLLERR
		}
	case unix.S_IFSOCK:
		return unix.POLLHUP
	}
	return 0
}

func (s *stream) readerGone() bool {
	receiver := []unix.PollFd{{Fd: int32(s.to)}}
	n, err := unix.Poll(receiver, 0)
	return n > 0 && err == nil && receiver[0].Revents&s.gone != 0
}

// Start begins to pass on. The program has its ends of the pipes by now.
func (o *Relay) Start() {
	o.closeWriters()
	for _, s := range o.streams {
		o.done.Go(s.run)
	}
}

func (o *Relay) closeWriters() {
	for _, s := range o.streams {
		if s.writer >= 0 {
			unix.Close(s.writer)
			s.writer = -1
		}
	}
}

// Abandon closes what no goroutine uses.
func (o *Relay) Abandon() {
	o.closeWriters()
	for _, s := range o.streams {
		unix.Close(s.from)
		unix.Close(s.to)
	}
	unix.Close(o.stop)
}

// Finish passes on what is left in the pipes: everybody who could write to them is dead, or was never
// meant to. A stream gives up by itself when its receiver has taken nothing for outputStall. Only one whose receiver is
// on a file system that does not answer may be blocked in a write. Then its descriptors stay open until it is not.
func (o *Relay) Finish() error {
	sys.RaiseEvent(o.stop)
	finished := make(chan struct{})
	go func() {
		o.done.Wait()
		close(finished)
	}()
	for before := o.passed.Load(); ; {
		select {
		case <-finished:
			o.Abandon()
			return o.failure()
		case <-time.After(outputStall + outputStall/2):
			now := o.passed.Load()
			if now == before {
				go func() {
					<-finished
					o.Abandon()
				}()
				return errNotRead
			}
			before = now
		}
	}
}

// Passed is how many bytes were delivered.
func (o *Relay) Passed() uint64 { return uint64(o.passed.Load()) }

// failure is why output was not delivered.
func (o *Relay) failure() error {
	var errs []error
	for _, s := range o.streams {
		if s.err != nil && !(errors.Is(s.err, errNotRead) && errors.Is(errors.Join(errs...), errNotRead)) {
			errs = append(errs, s.err)
		}
	}
	return errors.Join(errs...)
}

// run moves until there is nothing more to come, or more than there may be.
func (s *stream) run() {
	for !s.over {
		n, err := s.available()
		if n == 0 || err != nil {
			s.fail(err)
			return
		}
		granted := s.out.grant(n)
		for rest := granted; rest > 0; {
			moved, err := s.move(min(rest, s.chunk))
			s.out.passed.Add(int64(moved))
			if err != nil {
				s.fail(err)
				return
			}
			rest -= moved
		}
		if granted < n {
			// The pipe stays open until the program is dead: it must not die of SIGPIPE instead.
			s.out.exceed()
			return
		}
	}
}

func (o *Relay) exceed() {
	o.more.Lock()
	defer o.more.Unlock()
	o.exceeded = true
	if o.notify != nil {
		o.notify()
	}
}

// OnExceeded has somebody told when there is more than the limit, or was already.
func (o *Relay) OnExceeded(notify func()) {
	o.more.Lock()
	defer o.more.Unlock()
	if o.notify = notify; o.exceeded {
		notify()
	}
}

// TooMuch reports whether there was more than the limit.
func (o *Relay) TooMuch() bool {
	o.more.Lock()
	defer o.more.Unlock()
	return o.exceeded
}

// grant takes n bytes, or what there is, off the limit.
func (o *Relay) grant(n int) int {
	for {
		left := o.left.Load()
		granted := min(int64(n), left)
		if o.left.CompareAndSwap(left, left-granted) {
			return int(granted)
		}
	}
}

// fail notes why output could not be delivered, and lets the program see it: a write gets EPIPE, as it
// would if it wrote to a receiver that is gone.
func (s *stream) fail(err error) {
	if err == nil {
		return
	}
	switch {
	case errors.Is(err, errNotRead):
		s.err = err
	case !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET):
		s.err = fmt.Errorf("delivering the program's output: %w", err)
	}
	// Not closed, for the number would be free for others before Abandon.
	_ = unix.Dup3(s.out.stop, s.from, unix.O_CLOEXEC)
	s.over = true
}

// available waits for data and says how much there is; 0 if there will be no more. A reader that goes away meanwhile is an
// EPIPE at once, so that the program's next write is one, too.
func (s *stream) available() (int, error) {
	for ended := false; ; {
		n, err := unix.IoctlGetInt(s.from, unix.TIOCINQ) // FIONREAD
		if n > 0 || err != nil || ended {
			return n, os.NewSyscallError("ioctl", err)
		}
		ready := []unix.PollFd{{Fd: int32(s.from), Events: unix.POLLIN}, {Fd: int32(s.out.stop), Events: unix.POLLIN}, {Fd: -1}}
		if s.gone != 0 {
			ready[2].Fd = int32(s.to)
		}
		if _, err := unix.Poll(ready, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return 0, os.NewSyscallError("poll", err)
		}
		if ready[0].Revents == 0 && ready[2].Revents != 0 {
			if ready[2].Revents&s.gone != 0 {
				return 0, unix.EPIPE
			}
			s.gone = 0 // an error of a socket's, which would end every wait
		}
		ended = ready[0].Revents&unix.POLLHUP != 0 || ready[1].Revents != 0 // but for what has come until now
	}
}

// move moves at most n bytes, which are there. It does not wait for a receiver that is a pipe: that is left to
// waitWritable, which gives up in the end.
func (s *stream) move(n int) (int, error) {
	for !s.noSplice {
		moved, err := unix.Splice(s.from, nil, s.to, nil, n, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			if left, err := unix.IoctlGetInt(s.from, unix.TIOCINQ); err == nil && left == 0 {
				return 0, unix.EIO // somebody else has read our pipe
			}
			if err := s.waitWritable(); err != nil {
				return 0, err
			}
		case errors.Is(err, unix.EINVAL): // O_APPEND, and receivers that can't
			s.noSplice = true
		case err == nil && moved == 0:
			return 0, unix.EIO // the same
		default:
			return int(max(moved, 0)), os.NewSyscallError("splice", err)
		}
	}
	return s.copy(n)
}

// copy is move for receivers that can't splice. What it has read it writes, whole.
func (s *stream) copy(n int) (written int, err error) {
	buf := make([]byte, min(n, copyChunk))
	read, err := sys.IgnoringEINTR(func() (int, error) { return unix.Read(s.from, buf) })
	if err == nil && read == 0 {
		err = unix.EIO
	}
	if err != nil {
		return 0, os.NewSyscallError("read", err)
	}
	for written < read {
		n, err := sys.IgnoringEINTR(func() (int, error) { return s.write(buf[written:read]) })
		if errors.Is(err, unix.EAGAIN) {
			if err := s.waitWritable(); err != nil {
				return written, err
			}
			continue
		}
		if err != nil {
			return written, os.NewSyscallError("write", err)
		}
		written += n
	}
	return written, nil
}

func (s *stream) write(data []byte) (int, error) {
	if s.socket {
		return unix.SendmsgN(s.to, data, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	}
	return unix.Write(s.to, data)
}

// waitWritable waits until the receiver takes more: while the run goes on as long as that may last, and for outputStall
// when it has ended.
func (s *stream) waitWritable() error {
	for {
		ready := []unix.PollFd{{Fd: int32(s.to), Events: unix.POLLOUT}, {Fd: int32(s.out.stop), Events: unix.POLLIN}}
		timeout := -1
		if s.ending {
			ready, timeout = ready[:1], int(outputStall.Milliseconds())
		}
		n, err := unix.Poll(ready, timeout)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return os.NewSyscallError("poll", err)
		case n == 0:
			return errNotRead
		case ready[0].Revents != 0:
			return nil
		default:
			s.ending = true
		}
	}
}
