package rungroup

import (
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/shim/internal/place"
)

// An OOMWatch tells when it is worth looking whether the kernel has killed a process of the run for its lack of memory. On
// v2 memory.oom.group has then killed the others, too. The zero OOMWatch watches nothing.
type OOMWatch struct {
	here *cgroup.OOMWatch // nil without a memory limit
	v1   bool
	own  bool // there was one that the group above has not heard of
	left int  // how many looks are left

	hereCount, aboveCount uint64
}

// oomLooks is how often v1 is looked at after an event, every OOMInterval: it announces an OOM before it has killed, and also one that
// kills nobody.
const oomLooks = 100

// OOMInterval is the time between two of these looks.
const OOMInterval = time.Millisecond

// Open begins to watch a group, unless that has been done.
func (w *OOMWatch) Open(host *cgroup.Host, group *cgroup.Group) (err error) {
	if w.Watches() {
		return nil
	}
	w.v1 = host.Version() == cgroup.V1
	w.here, err = group.WatchOOM()
	return err
}

// Watches reports whether a group is watched.
func (w *OOMWatch) Watches() bool { return w.here != nil }

// Forget drops the events that have come until now, for a run that only begins.
func (w *OOMWatch) Forget() {
	w.here.Reset()
	w.own, w.hereCount, w.aboveCount = false, 0, 0
}

// PollFd is for poll(2): it becomes ready with an event.
func (w *OOMWatch) PollFd() unix.PollFd { return w.here.PollFd() }

// BaselineAfter is when the system's OOM kills have to be noted, see NoteSystemKills: what the kernel takes a while to add up is only
// needed for a program that makes a group, runs out of memory there and removes it again, which takes several times as long. 0 is
// never.
func (w *OOMWatch) BaselineAfter() time.Duration {
	if w.Watches() && w.v1 {
		return 2 * time.Millisecond
	}
	return 0
}

// Look reports whether to look now at what was killed, and whether once more after OOMInterval. event says that PollFd is ready, due
// that the last call has asked for another.
func (w *OOMWatch) Look(event, due bool) (now, again bool) {
	if event && w.read() {
		w.left = 1
		if w.v1 {
			w.left = oomLooks
		}
	} else if !due {
		return false, false
	}
	w.left--
	return w.left >= 0, w.left > 0
}

// read takes the events that there are.
func (w *OOMWatch) read() bool {
	n, above := w.here.Events()
	if n == 0 {
		return false
	}
	w.hereCount += n
	w.aboveCount += above
	w.own = w.hereCount > w.aboveCount
	return true
}

// Close watches no more. It can be called again.
func (w *OOMWatch) Close() {
	if w.v1 { // on v2 the counters tell all
		w.read()
	}
	_ = w.here.Close()
	w.here, w.left = nil, 0
}

// NoteSystemKills notes how many processes of the whole system have been OOM-killed before the run: see OOMWatch.BaselineAfter.
func (g *Group) NoteSystemKills() {
	if n, known := cgroup.SystemOOMKills(); known && g.systemOOMKills == nil {
		g.systemOOMKills = &n
	}
}

// OOMKilled reports whether the kernel has killed a process for the run's own memory limit.
func (g *Group) OOMKilled() bool {
	s, known := g.readOOM()
	return known && g.OwnOOM(&s)
}

// OOMEndsAll reports whether the kernel, or we for its sake, ends all processes for a lack of memory: v2 those of the whole group
// also for a limit above.
func (g *Group) OOMEndsAll() bool {
	s, known := g.readOOM()
	return known && (g.OwnOOM(&s) || s.AboveOOMKills.Value > 0)
}

// readOOM reads the counters of OOM kills, of a run that has a memory limit.
func (g *Group) readOOM() (s cgroup.Stats, known bool) {
	if g.Limits.Memory == 0 || g.Cgroup == nil {
		return s, false
	}
	s, err := g.Cgroup.Stats(cgroup.PartOOM)
	return s, err == nil
}

// OwnOOM reports whether OOM kills were for the run's own limit: not for one above it, nor for one that the program has set
// below, as a cgshim that is the program may. v1 counts a victim where it was, and has announced the OOM where the limit
// is, and below; if the group of the victim has been removed by now, what the system has counted tells that there was one.
func (g *Group) OwnOOM(s *cgroup.Stats) bool {
	switch {
	case g.Limits.Memory == 0 || g.Cgroup == nil:
		return false
	case g.Host.Version() == cgroup.V2:
		return s.OwnOOMKills.Value > 0
	case !g.OOM.own:
		// Unannounced, because the kernel was about to kill for a limit below, or there was nobody to announce it to.
		return g.OOM.aboveCount == 0 && s.OwnOOMKills.Value > 0 && g.memoryReached()
	case s.OOMKills.Value > 0 || g.systemOOMKills == nil || g.OOM.left > 0: // it may be about to kill
		return s.OOMKills.Value > 0
	}
	now, known := cgroup.SystemOOMKills()
	return known && now > *g.systemOOMKills
}

// memoryReached reports whether the run's memory was ever up to its limit, but for a batch of charges.
func (g *Group) memoryReached() bool {
	const batch = 64 * 4096
	s, err := g.Cgroup.Stats(cgroup.PartMemoryPeak)
	return err == nil && s.MemoryPeak.Known() && int64(s.MemoryPeak.Value) >= g.Limits.Memory-batch
}

// ForeignOOM says whose limit it was that processes were killed for, if it was not the run's, but one above, or because the whole
// system had run out; "" if none were.
func (g *Group) ForeignOOM(s *cgroup.Stats) string {
	if !g.foreignOOM(s) {
		return ""
	}
	var groups []string
	for _, above := range place.MemoryReachedAbove(g.Cgroup) {
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
	return "the kernel killed " + killed + " of the run, and not for its own memory limit: it was that of " + whose
}

func (g *Group) foreignOOM(s *cgroup.Stats) bool {
	switch {
	case g.Cgroup == nil || g.OwnOOM(s):
		return false
	case g.Host.Version() == cgroup.V2:
		return s.AboveOOMKills.Value > 0
	}
	return s.OOMKills.Value > 0 && (s.OwnOOMKills.Value > 0 || g.OOM.aboveCount > 0)
}
