package shim

import (
	"fmt"
	"strings"
	"time"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/shim/internal/place"
)

// An oomWatch tells when it is worth looking whether the kernel has killed a process of the run for its lack of memory. On
// v2 memory.oom.group has then killed the others, too.
type oomWatch struct {
	here    *cgroup.OOMWatch // nil without a memory limit
	v1      bool
	noticed bool // there was an event
	own     bool // there was one that the group above has not heard of
	left    int  // so many looks

	hereCount, aboveCount uint64
}

// oomLooks is how often v1 is looked at after an event, every millisecond: it announces an OOM before it has killed, and
// also one that kills nobody.
const oomLooks = 100

func (w *oomWatch) watched() bool { return w.here != nil }

// open begins to watch a group, unless that has been done.
func (w *oomWatch) open(host *cgroup.Host, group *cgroup.Group) (err error) {
	if w.watched() {
		return nil
	}
	w.v1 = host.Version() == cgroup.V1
	w.here, err = group.WatchOOM()
	return err
}

// forget drops what has come until now, for a run that only begins.
func (w *oomWatch) forget() {
	w.here.Reset()
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
	n, above := w.here.Events()
	if n == 0 {
		return false
	}
	w.noticed = true
	w.hereCount += n
	w.aboveCount += above
	w.own = w.hereCount > w.aboveCount
	return true
}

// stop watches no more.
func (w *oomWatch) stop() {
	if w.v1 { // on v2 the counters tell all
		w.read()
	}
	_ = w.here.Close()
	w.here, w.left = nil, 0
}

func (r *run) oomKilled() bool {
	s, known := r.readOOM()
	return known && r.ownOOM(&s)
}

// oomEndedAll says whether the kernel, or we for its sake, ends all processes for a lack of memory: v2 those of the whole group
// also for a limit above.
func (r *run) oomEndedAll() bool {
	s, known := r.readOOM()
	return known && (r.ownOOM(&s) || s.AboveOOMKills.Value > 0)
}

// readOOM reads the counters of OOM kills, of a run that has a memory limit.
func (r *run) readOOM() (s cgroup.Stats, known bool) {
	if r.cfg.Limits.Memory == 0 || r.group == nil {
		return s, false
	}
	s, err := r.group.Stats(cgroup.PartOOM)
	return s, err == nil
}

// ownOOM says whether OOM kills were for the run's own limit: not for one above it, nor for one that the program has set
// below, as a cgshim that is the program may. v1 counts a victim where it was, and has announced the OOM where the limit
// is, and below; if the group of the victim has been removed by now, what the system has counted tells that there was one.
func (r *run) ownOOM(s *cgroup.Stats) bool {
	switch {
	case r.cfg.Limits.Memory == 0 || r.group == nil:
		return false
	case r.host.Version() == cgroup.V2:
		return s.OwnOOMKills.Value > 0
	case !r.oom.own:
		// Unannounced, because the kernel was about to kill for a limit below, or there was nobody to announce it to.
		return r.oom.aboveCount == 0 && s.OwnOOMKills.Value > 0 && r.memoryReached()
	case s.OOMKills.Value > 0 || r.systemOOMKills == nil || r.oom.left > 0: // it may be about to kill
		return s.OOMKills.Value > 0
	}
	now, known := cgroup.SystemOOMKills()
	return known && now > *r.systemOOMKills
}

// memoryReached says whether the run's memory was ever up to its limit, but for a batch of charges.
func (r *run) memoryReached() bool {
	const batch = 64 * 4096
	s, err := r.group.Stats(cgroup.PartMemoryPeak)
	return err == nil && s.MemoryPeak.Known() && int64(s.MemoryPeak.Value) >= r.cfg.Limits.Memory-batch
}

// foreignOOM says whether processes were killed for a limit above the run's, or because the whole system had run out.
func (r *run) foreignOOM(s *cgroup.Stats) bool {
	switch {
	case r.group == nil || r.ownOOM(s):
		return false
	case r.host.Version() == cgroup.V2:
		return s.AboveOOMKills.Value > 0
	}
	return s.OOMKills.Value > 0 && (s.OwnOOMKills.Value > 0 || r.oom.aboveCount > 0)
}

// warnForeignOOM says whose limit it was that processes were killed for, if it was not the run's.
func (r *run) warnForeignOOM(s *cgroup.Stats) {
	if !r.foreignOOM(s) {
		return
	}
	var groups []string
	for _, above := range place.MemoryReachedAbove(r.group) {
		groups = append(groups, fmt.Sprintf("%q (%d bytes)", above.Path, above.Bytes))
	}
	whose := "a cgroup above that can't be seen from here, or the whole system's memory"
	if len(groups) > 0 {
		whose = "the cgroup " + strings.Join(groups, " or ")
	}
	killed := "processes"
	if s.OOMKills.Known() {
		killed = fmt.Sprintf("%d processes", s.OOMKills.Value)
	}
	r.warn("the kernel killed %s of the run, and not for its own memory limit: it was that of %s", killed, whose)
}
