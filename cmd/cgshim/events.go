package main

import (
	"errors"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/shim"
)

const (
	// eventQueue is how many events may wait for a slow reader before samples are left out, and
	// eventReserve how many more there may be of the others, of which a run has no more than that.
	eventQueue   = 256
	eventReserve = 16
)

// An eventWriter writes events in their order, from a goroutine of its own: a reader that is slow, or
// dead, never holds up the run. Where it is certain that nobody has to wait it does without, for waking up a goroutine takes
// longer than all the rest.
type eventWriter struct {
	out     sink
	file    bool // it is a file, which always takes what is written
	direct  int  // if it is a pipe, a descriptor of ours that does not wait; else -1
	waiting atomic.Int64
	lines   chan []byte
	done    chan struct{}
	ending  atomic.Bool
}

func newEventWriter(out sink) *eventWriter {
	w := &eventWriter{out: out, lines: make(chan []byte, eventQueue+eventReserve), done: make(chan struct{})}
	var err error
	if w.direct, err = reopenPipe(out.fd); err != nil {
		w.direct = -1
	}
	var st unix.Stat_t
	w.file = unix.Fstat(out.fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG
	go w.run()
	return w
}

// writeNow writes a line if it goes out at once, and in one piece.
func (w *eventWriter) writeNow(line []byte) bool {
	if w.waiting.Load() > 0 {
		return false
	}
	if w.file {
		w.file = w.out.write(line) == nil // else the next one finds out, too, and there may be a part of this
		return true
	}
	if w.direct < 0 || len(line) > pipeBuf {
		return false
	}
	n, err := unix.Write(w.direct, line)
	return err == nil && n == len(line)
}

func (w *eventWriter) write(e shim.Event) {
	if _, isSample := e.(*shim.Sample); isSample && len(w.lines) >= eventQueue {
		return
	}
	line := e.JSON()
	if w.writeNow(line) {
		return
	}
	select {
	case w.lines <- line:
		w.waiting.Add(1)
	default:
	}
}

// run gives up on a reader that is gone, and, at the end, on one that does not read. Until then one that
// stalls loses only what it stalls for.
func (w *eventWriter) run() {
	defer close(w.done)
	dead := false
	for line := range w.lines {
		if !dead {
			err := w.out.write(line)
			dead = err != nil && (!errors.Is(err, errStalled) || w.ending.Load())
		}
		w.waiting.Add(-1)
	}
}

// close writes what is waiting; the result comes after it.
func (w *eventWriter) close() {
	w.ending.Store(true)
	close(w.lines)
	<-w.done
	if w.direct >= 0 {
		_ = unix.Close(w.direct)
	}
}
