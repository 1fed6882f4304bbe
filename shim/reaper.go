package shim

import (
	"errors"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/reexec"
	"github.com/cgshim/cgshim/shim/internal/sys"
)

// A reaper waits for what a pool's programs leave behind. The kernel makes orphans children of a subreaper's first thread, and here that
// one does nothing but wait for its own children: orphans alone wake it up, and not the programs, which are children of other
// threads. Without a child it could not wait: the anchor is one, which does nothing.
type reaper struct {
	mu     sync.Mutex
	anchor *reexec.Stage // nil: there is none now
	works  bool          // there was one
	over   bool
}

// anchorPause is how long to wait for another anchor, if somebody has killed it, and there can be none now.
const anchorPause = 100 * time.Millisecond

// ReapOrphans makes this process the reaper of what the pool's programs leave behind, see Config.Subreaper, and waits for it until
// Close. It has to be called on the process's first thread, by a goroutine that has kept it since an init function, and needs
// PoolConfig.Childless. It returns at once if it can't do that.
func (p *Pool) ReapOrphans() error {
	switch {
	case unix.Gettid() != os.Getpid():
		return errors.New("only the process's first thread gets orphans")
	case !p.cfg.Childless:
		return errors.New("the pool's process may have other children: see PoolConfig.Childless")
	}
	for {
		anchor, err := startStage(reexec.Options{})
		switch goesOn := p.reaper.goesOn(); {
		case err != nil && !goesOn:
			return err
		case err != nil:
			time.Sleep(anchorPause)
			continue
		case !p.reaper.begin(anchor):
			anchor.Close()
			reapOrphans(0)
			return nil
		}
		reapOrphans(anchor.PID())
		over := p.reaper.lose()
		if anchor.Close(); over {
			reapOrphans(0)
			return nil
		}
	}
}

// goesOn reports whether there was an anchor, and is to be another.
func (r *reaper) goesOn() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.works && !r.over
}

func (r *reaper) begin(anchor *reexec.Stage) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return false
	}
	if !r.works {
		r.works = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == nil
	}
	r.anchor = anchor
	return true
}

// lose says whether no other anchor is wanted.
func (r *reaper) lose() (over bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.anchor = nil
	return r.over
}

// end has ReapOrphans return.
func (r *reaper) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	if r.anchor != nil {
		r.anchor.Interrupt()
	}
}

// reapOrphans waits for this thread's children until the anchor has ended; without one, 0, for those that have ended by now.
func reapOrphans(anchor int) {
	var storm sys.Storm
	options := unix.WEXITED | unix.WNOWAIT | unix.WALL | unix.WNOTHREAD
	if anchor == 0 {
		options |= unix.WNOHANG
	}
	for {
		info, err := sys.Waitid(unix.P_ALL, 0, options)
		pid := info.PID()
		if err != nil || pid == 0 || pid == anchor {
			return
		}
		_, _ = unix.Wait4(pid, nil, unix.WNOHANG|unix.WALL, nil)
		if n := storm.Count(time.Now()); n > sys.StormMost && n%10 == 0 {
			time.Sleep(sys.StormPause)
		}
	}
}

// settle waits until the orphans of a run that is over have been reaped, which is a matter of microseconds; killed says that somebody had
// to be killed, and may be about to become an orphan. It does not wait for those of other runs that end meanwhile.
func (r *reaper) settle(killed bool) {
	if r == nil || !r.goesOn() {
		return
	}
	if !killed {
		// One look at all children of all threads, which mostly have none that has ended.
		info, err := sys.Waitid(unix.P_ALL, 0, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT|unix.WALL)
		if err != nil || info.PID() == 0 {
			return
		}
	}
	pause := 50 * time.Microsecond
	ending := endingOrphans()
	if killed {
		time.Sleep(time.Millisecond)
		ending = append(ending, endingOrphans()...)
	}
	for end := time.Now().Add(collectPatience); len(ending) > 0 && time.Now().Before(end); pause = min(2*pause, time.Millisecond) {
		time.Sleep(pause)
		// Those that have come since are another run's.
		ending = slices.DeleteFunc(endingOrphans(), func(pid int) bool { return !slices.Contains(ending, pid) })
	}
}

// endingOrphans lists orphans that are dead, or about to be.
func endingOrphans() []int {
	return slices.DeleteFunc(sys.FirstThreadsChildren(), func(pid int) bool {
		p, err := sys.ReadProcess(pid)
		return err != nil || !p.Exiting
	})
}
