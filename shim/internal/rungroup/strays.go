package rungroup

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/shim/internal/sys"
)

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
			g.reap(p.PID) // as init would
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
