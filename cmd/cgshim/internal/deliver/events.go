package deliver

import (
	"errors"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/shim"
)

const (
	// eventQueue is how many events may wait for a slow reader before samples are left out.
	// eventReserve is how many other events may wait in addition. A run has no more of those.
	eventQueue   = 256
	eventReserve = 16
)

// An eventWriter writes events in their order, from a goroutine of its own, so that a reader that is slow, or
// dead, never holds up the run. If it is certain that a write does not wait, it writes without the goroutine, because to wake one up
// takes longer than everything else.
type eventWriter struct {
	out     sink
	file    bool // out is a regular file: writes to it do not wait
	direct  int  // if out is a pipe, a descriptor of it that does not wait; else -1
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

// writeNow writes a line if that is possible at once, and in one piece.
func (w *eventWriter) writeNow(line []byte) bool {
	if w.waiting.Load() > 0 {
		return false
	}
	if w.file {
		w.file = w.out.write(line) == nil // on error there may be a part of the line; the next one gets the error, too
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

// run writes the lines that wait. It gives up when the reader is gone, and, at the end, when the reader does not read. Before the end,
// a reader that stalls loses only the line that it stalls for.
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

// close returns when the lines that wait are written, because the result comes after them.
func (w *eventWriter) close() {
	w.ending.Store(true)
	close(w.lines)
	<-w.done
	if w.direct >= 0 {
		_ = unix.Close(w.direct)
	}
}
