package deliver

import (
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Answers writes the lines of a batch to a descriptor. Its methods may be called from several threads. Results wait for a slow reader
// until Hurry is called: from then on they wait for no more than some seconds, and after that nothing is written any more. Events do
// not wait for the reader, because nobody would watch the run meanwhile.
type Answers struct {
	to     *writer
	hurry  int    // an eventfd, which Hurry makes readable
	broken func() // called when nobody can read any more, maybe twice

	mu     sync.Mutex
	failed error
	events chan eventLine
}

type eventLine struct {
	line    []byte
	pending *sync.WaitGroup
}

// NewAnswers returns the Answers for a descriptor. It calls broken when nothing can be written any more, or nobody can read; maybe twice.
func NewAnswers(fd int, broken func()) (*Answers, error) {
	hurry, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	a := &Answers{to: newWriter(fd), hurry: hurry, broken: broken, events: make(chan eventLine, eventQueue)}
	if a.to.format == unix.S_IFIFO || a.to.format == unix.S_IFSOCK {
		go a.watch(fd)
	}
	go func() {
		for e := range a.events {
			a.Write(e.line)
			e.pending.Done()
		}
	}()
	return a, nil
}

// watch waits until nobody has the other end of a pipe or a socket any more, also if there is nothing to write; or until Hurry. That is
// no error: perhaps there are no more answers. It looks at no more than that: requests may come from the same socket.
func (a *Answers) watch(fd int) {
	for {
		fds := []unix.PollFd{{Fd: int32(fd)}, {Fd: int32(a.hurry), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) || fds[1].Revents != 0 {
			return
		}
		if fds[0].Revents != 0 {
			a.broken()
			return
		}
	}
}

// Hurry limits the time that a reader has from now on.
func (a *Answers) Hurry() { _, _ = unix.Write(a.hurry, []byte{1, 0, 0, 0, 0, 0, 0, 0}) }

// Event queues the line of an event, or leaves it out if too many are queued. Until it is written, pending counts it.
func (a *Answers) Event(line []byte, pending *sync.WaitGroup) {
	pending.Add(1)
	select {
	case a.events <- eventLine{line, pending}:
	default:
		pending.Done()
	}
}

// Write writes a line, unless an earlier one has failed.
func (a *Answers) Write(line []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.failed != nil {
		return
	}
	if a.failed = a.to.write(line, a.hurry); a.failed != nil {
		a.broken()
	}
}

// Err returns the first error of a write.
func (a *Answers) Err() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.failed
}
