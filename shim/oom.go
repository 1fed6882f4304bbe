package shim

import (
	"encoding/binary"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
)

// An oomWatch tells when it is worth looking whether the kernel has killed a process of the run for its lack of memory. On
// v2 memory.oom.group has then killed the others, too.
type oomWatch struct {
	fd      int // see cgroup.Group.OOMEventFD; 0 without a memory limit
	above   int // like fd, of the group above; 0 on v2
	v1      bool
	noticed bool // there was an event
	own     bool // there was one that the group above has not heard of
	left    int  // so many looks

	hereCount, aboveCount uint64
}

// oomLooks is how often v1 is looked at after an event, every millisecond: it announces an OOM before it has killed, and
// also one that kills nobody.
const oomLooks = 100

func (w *oomWatch) watched() bool { return w.fd > 0 }

// open begins to watch a group, unless that has been done.
func (w *oomWatch) open(host *cgroup.Host, group *cgroup.Group) (err error) {
	if w.watched() {
		return nil
	}
	w.v1 = host.Version() == cgroup.V1
	if w.fd, err = group.OOMEventFD(); err != nil {
		w.fd = 0
		return err
	}
	// Without it, which is another's to refuse, no OOM is known to be somebody else's.
	if w.above, err = group.OOMEventFDAbove(); err != nil {
		w.above = 0
	}
	return nil
}

// forget drops what has come until now, for a run that only begins. The group above is told first: one that comes
// meanwhile is at worst counted there only.
func (w *oomWatch) forget() {
	if w.watched() {
		countEvents(w.above)
		w.read()
	}
	w.noticed, w.own, w.hereCount, w.aboveCount = false, false, 0, 0
}

// oomBaseline is when the system's OOM kills are counted: what the kernel takes a while to add up is only needed for who
// makes a group, runs out of memory there and removes it again, which takes several times as long.
const oomBaseline = 2 * time.Millisecond

func (r *run) noteSystemOOMKills() {
	if n, known := cgroup.SystemOOMKills(); known && r.systemOOMKills == nil {
		r.systemOOMKills = &n
	}
}

// looks says whether to look now: there is an event, or it is the time again.
func (w *oomWatch) looks(event bool, again *alarm, now time.Time) bool {
	if event && w.read() {
		w.left = 1
		if w.v1 {
			w.left = oomLooks
		}
	} else if !again.due(now) {
		return false
	}
	if w.left--; w.left > 0 {
		again.set(time.Millisecond)
	}
	return w.left >= 0
}

// read takes what events there are.
func (w *oomWatch) read() bool {
	if !w.watched() {
		return false
	}
	var buf [4096]byte
	n, err := ignoringEINTR(func() (int, error) { return unix.Read(w.fd, buf[:]) })
	if err != nil || n == 0 {
		return false
	}
	w.noticed = true
	if w.v1 {
		w.hereCount += binary.NativeEndian.Uint64(buf[:])
		w.aboveCount += countEvents(w.above)
		w.own = w.hereCount > w.aboveCount
	}
	return true
}

// countEvents is how many an eventfd tells of, since the last time; 0 without one.
func countEvents(fd int) uint64 {
	var buf [8]byte
	if fd == 0 {
		return 0
	}
	if n, err := unix.Read(fd, buf[:]); err != nil || n != len(buf) {
		return 0
	}
	return binary.NativeEndian.Uint64(buf[:])
}

// stop watches no more.
func (w *oomWatch) stop() {
	w.read()
	if w.watched() {
		_ = unix.Close(w.fd)
	}
	if w.above > 0 {
		_ = unix.Close(w.above)
	}
	w.fd, w.above, w.left = 0, 0, 0
}
