package rungroup

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/shim/internal/sys"
)

// orphans is what wait4(2) has told of those that this process has waited for, as their subreaper.
type orphans struct {
	mu   sync.Mutex
	list []unix.Rusage
}

func (o *orphans) note(usage unix.Rusage) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list = append(o.list, usage)
}

// addTo adds theirs to the program's. The memory is that of the largest.
func (o *orphans) addTo(usage *unix.Rusage) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, more := range o.list {
		usage.Utime = unix.NsecToTimeval(usage.Utime.Nano() + more.Utime.Nano())
		usage.Stime = unix.NsecToTimeval(usage.Stime.Nano() + more.Stime.Nano())
		usage.Maxrss = max(usage.Maxrss, more.Maxrss)
		usage.Inblock += more.Inblock
		usage.Oublock += more.Oublock
		usage.Nvcsw += more.Nvcsw
		usage.Nivcsw += more.Nivcsw
	}
}

// strays lists the processes of a run without a cgroup, but for the program: those below it or, for a subreaper, below this process.
func (g *Group) strays() []sys.Process {
	all := sys.Processes()
	root := g.Program
	if g.Subreaper {
		root = os.Getpid()
	}
	ours := map[int]bool{root: true}
	var list []sys.Process
	for grown := true; grown; {
		grown = false
		for _, p := range all {
			if ours[p.Parent] && !ours[p.PID] {
				ours[p.PID], grown = true, true
				list = append(list, p)
			}
		}
	}
	return slices.DeleteFunc(list, func(p sys.Process) bool {
		if p.Zombie && p.Parent == os.Getpid() && p.PID != g.Program {
			var usage unix.Rusage
			if pid, err := unix.Wait4(p.PID, nil, unix.WNOHANG, &usage); err == nil && pid == p.PID { // an orphan that we reap, as init would
				g.orphans.note(usage)
			}
		}
		return p.Zombie || p.PID == g.Program
	})
}

// killStrays kills the program, if it lives, and everything below it.
func (g *Group) killStrays(ctx context.Context) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		_ = unix.Kill(g.Program, unix.SIGKILL) // our unreaped child
		strays := g.strays()
		if len(strays) == 0 {
			return nil
		}
		for _, p := range strays {
			_ = unix.Kill(p.PID, unix.SIGKILL)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d processes: %w", len(strays), cgroup.ErrNotEmpty)
		case <-time.After(pause):
		}
	}
}

// UserTasks counts the threads of a user's processes, as RLIMIT_NPROC does.
func UserTasks(uid uint32) uint64 {
	var n uint64
	for _, p := range sys.Processes() {
		var st unix.Stat_t
		if unix.Stat("/proc/"+strconv.Itoa(p.PID), &st) == nil && st.Uid == uid {
			n += p.Threads
		}
	}
	return n
}
