package monitor

import (
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/shim/internal/rungroup"
	"github.com/cgshim/cgshim/shim/internal/sys"
)

// orphans has the watcher look at what the program has left behind, as soon as one of those has ended. SIGCHLD tells of that, and of
// nothing else: the children of the program's processes are not ours, so that a program which makes no orphans wakes nobody.
//
// In the first milliseconds of a run the signal itself is enough, because it ends the ppoll. It may come between two of them: then
// the next one, or attend, makes up for it. After that the signal leaves an event.
type orphans struct {
	events int            // an eventfd; 0 is none
	came   chan os.Signal // nil: nobody listens
	quit   chan struct{}
	storm  sys.Storm // of looks that have found something
}

func (o *orphans) open(events func() (int, error)) {
	if o.events == 0 {
		if fd, err := events(); err == nil {
			o.events = fd
		}
	}
}

// take takes the events that there are. The descriptor does not wait.
func (o *orphans) take() {
	var buf [8]byte
	_, _ = unix.Read(o.events, buf[:])
}

// listen calls wake at each SIGCHLD.
func (o *orphans) listen(wake func()) {
	if o.came != nil {
		return
	}
	o.came, o.quit = make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(o.came, unix.SIGCHLD)
	go func(came <-chan os.Signal, quit <-chan struct{}) {
		for {
			select {
			case <-came:
				wake()
			case <-quit:
				return
			}
		}
	}(o.came, o.quit)
}

// close ends that. The eventfd is not ours: the signal's handler may be about to write to it.
func (o *orphans) close() {
	if o.came != nil {
		signal.Stop(o.came)
		close(o.quit)
		o.came = nil
	}
}

// reapOrphans waits for those that have ended.
func (w *watcher) reapOrphans(now time.Time) {
	if !w.Group.Reaps() || w.alarms.orphans.isSet() && !w.alarms.orphans.due(now) {
		return
	}
	if n := w.Group.ReapOrphans(w.Spared...); n == rungroup.MostReaped || n > 0 && w.orphans.storm.Count(now) > sys.StormMost {
		w.alarms.orphans.set(sys.StormPause)
	}
}
