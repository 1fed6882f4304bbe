package rungroup

import (
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/shim/internal/seam"
	"github.com/cgshim/cgshim/shim/internal/sys"
)

// What a program leaves behind when its own parent has died becomes a child of the nearest subreaper, or of the first process of its pid
// namespace: in a container that may be one that waits for nobody. Until somebody has waited for them, the dead have a pid, and
// count against the limit of processes.

// orphans is what wait4(2) has told of those that this process has waited for, as their subreaper, of a run without a cgroup. A cgroup
// tells more: then wait4's figures stay those of the program, and of what it has waited for itself.
type orphans struct {
	mu    sync.Mutex
	usage unix.Rusage // of all together; there may be millions
}

func (o *orphans) note(usage *unix.Rusage) {
	o.mu.Lock()
	defer o.mu.Unlock()
	addUsage(&o.usage, usage)
}

// addTo adds theirs to the program's.
func (o *orphans) addTo(usage *unix.Rusage) {
	o.mu.Lock()
	defer o.mu.Unlock()
	addUsage(usage, &o.usage)
}

// addUsage adds one to another. The memory is that of the largest.
func addUsage(sum, more *unix.Rusage) {
	sum.Utime = unix.NsecToTimeval(sum.Utime.Nano() + more.Utime.Nano())
	sum.Stime = unix.NsecToTimeval(sum.Stime.Nano() + more.Stime.Nano())
	sum.Maxrss = max(sum.Maxrss, more.Maxrss)
	sum.Inblock += more.Inblock
	sum.Oublock += more.Oublock
	sum.Nvcsw += more.Nvcsw
	sum.Nivcsw += more.Nivcsw
}

// BecomeSubreaper makes what the program will leave behind children of this process. alone says that it has no others.
func (g *Group) BecomeSubreaper(alone bool) {
	if unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == nil {
		g.Subreaper, g.selects = alone, !alone
	}
}

// Reaps reports whether this process waits for what the program leaves behind.
func (g *Group) Reaps() bool { return g.Subreaper || g.selects }

// MostReaped is how many zombies are waited for in one go. A fork bomb makes them as fast as they are waited for, and the run has limits
// to be watched.
const MostReaped = 1000

// ReapOrphans waits for the zombies that this process has got as a subreaper, or by CLONE_PARENT. The program's, and those of keep,
// are waited for elsewhere. It does not wait for anybody who is alive. It returns how many there were, MostReaped at most.
func (g *Group) ReapOrphans(keep ...int) (n int) {
	if g.selects {
		n, _ = g.ReapOwn(keep...)
		return n
	}
	if !g.Subreaper {
		return 0
	}
	for n < MostReaped {
		info, err := sys.Waitid(unix.P_ALL, 0, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT|unix.WALL)
		pid := info.PID()
		switch {
		case err != nil || pid == 0:
			return n
		case pid == g.Program || slices.Contains(keep, pid):
			return n + g.reapHidden(keep)
		case !g.reap(pid):
			return n
		}
		n++
	}
	return n
}

// reapHidden waits for those that the kernel does not show as long as one that came before them is to stay.
func (g *Group) reapHidden(keep []int) (n int) {
	for _, pid := range sys.FirstThreadsChildren() {
		if pid != g.Program && !slices.Contains(keep, pid) && n < MostReaped && g.reap(pid) {
			n++
		}
	}
	return n
}

// reap waits for a child, if that is a zombie.
func (g *Group) reap(pid int) bool {
	var usage unix.Rusage
	got, err := sys.IgnoringEINTR(func() (int, error) { return unix.Wait4(pid, nil, unix.WNOHANG|unix.WALL, &usage) })
	if err != nil || got != pid {
		return false
	}
	if g.Cgroup == nil {
		g.orphans.note(&usage)
	}
	return true
}

// ReapOwn is ReapOrphans for a process that has other children: of its children it waits only for those that certainly were in the
// run's group. left is how many of those have not ended.
func (g *Group) ReapOwn(keep ...int) (n, left int) {
	if g.Cgroup == nil {
		return 0, 0
	}
	g.see()
	for _, pid := range sys.FirstThreadsChildren() {
		if pid == g.Program || slices.Contains(keep, pid) {
			continue
		}
		p, err := sys.ReadProcess(pid)
		switch {
		case err != nil || p.Parent != os.Getpid() || !g.isOwn(&p):
		case !p.Zombie:
			left++
		case n < MostReaped && g.reap(pid):
			n++
		}
	}
	return n, left
}

// isOwn reports whether a process, maybe a zombie, is in the run's group, or was. Of zombies cgroup2 tells that, also when the group has been
// removed; v1 tells it of the living only.
func (g *Group) isOwn(p *sys.Process) bool {
	if where, known := seam.UnifiedPath(p.PID); known && g.where != "" && (where == g.where || strings.HasPrefix(where, g.where+"/")) {
		return true
	}
	started, seen := g.seen[p.PID]
	return seen && started == p.Started // else its pid has been another's since
}

// see notes where the group is in cgroup2, by the program, which may be below it by now; where cgroup2 does not tell that, it notes who is
// in the group.
func (g *Group) see() {
	if g.where != "" {
		return
	}
	if where, known := seam.UnifiedPath(g.Program); known {
		// What is mounted may begin below the hierarchy's root, so that the path begins with what the group's own lacks.
		if i := strings.LastIndex(where+"/", g.Cgroup.Path()+"/"); i >= 0 {
			g.where = where[:i+len(g.Cgroup.Path())]
			return
		}
	}
	pids, _ := g.Cgroup.Procs()
	if g.seen == nil {
		g.seen = map[int]uint64{}
	}
	for _, pid := range pids {
		if p, err := sys.ReadProcess(pid); err == nil {
			g.seen[pid] = p.Started
		}
	}
}
