package main

import (
	"errors"
	"sync/atomic"

	"github.com/cgshim/cgshim/shim"
)

const (
	// eventQueue is how many events may wait for a slow reader before samples are left out, and
	// eventReserve how many more there may be of the others, of which a run has no more than that.
	eventQueue   = 256
	eventReserve = 16
)

// An eventWriter writes events in their order, from a goroutine of its own: a reader that is slow, or
// dead, never holds up the run.
type eventWriter struct {
	out    sink
	lines  chan []byte
	done   chan struct{}
	ending atomic.Bool
}

func newEventWriter(out sink) *eventWriter {
	w := &eventWriter{out: out, lines: make(chan []byte, eventQueue+eventReserve), done: make(chan struct{})}
	go w.run()
	return w
}

func (w *eventWriter) write(e shim.Event) {
	if _, isSample := e.(*shim.Sample); isSample && len(w.lines) >= eventQueue {
		return
	}
	select {
	case w.lines <- e.JSON():
	default:
	}
}

// run gives up on a reader that is gone, and, at the end, on one that does not read. Until then one that
// stalls loses only what it stalls for.
func (w *eventWriter) run() {
	defer close(w.done)
	dead := false
	for line := range w.lines {
		if dead {
			continue
		}
		err := w.out.write(line)
		dead = err != nil && (!errors.Is(err, errStalled) || w.ending.Load())
	}
}

// close writes what is waiting; the result comes after it.
func (w *eventWriter) close() {
	w.ending.Store(true)
	close(w.lines)
	<-w.done
}
