package shim

import (
	"fmt"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/shim/internal/fault"
	"github.com/cgshim/cgshim/shim/internal/sys"
)

// A program, or a neighbour, can take all tasks that a limit above leaves (docker's --pids-limit, systemd's TasksMax, another
// cgshim's --pids), and a Go process that can't make a thread when it wants one ends, with no result. So the threads are made
// before that: the runtime keeps those that nobody uses.
const (
	// runThreads is how many threads of a run may be blocked at once, in system calls that wait or read files: for the program's
	// stops, for signals, the sweep, figures.
	runThreads = 6
	// outputThreads pass its output on, if that is limited.
	outputThreads = 2
	// poolThreads are those of a pool: beside its own, one waits for orphans, one for the end of who reads the answers, and one for the
	// caller's. jobThreads are those of each of its jobs: the one that is its own, one to make groups ahead, and one for the program's
	// stops.
	poolThreads, jobThreads = 7, 3
	// fewPIDs is a limit with which a program by itself takes no task that a run could be short of. Such a run has its threads made
	// when it takes longer, see attend: until then it needs none but those that it has.
	fewPIDs = 64
)

// threads are this process's, for all its runs.
var threads threadReserve

type threadReserve struct {
	mu           sync.Mutex
	wanted, made int
}

// reserve has threads made for so many system calls more that block at once. Unless it is sure that they can be had, it finds out
// before, for to make one that can't be had would be the end.
func (t *threadReserve) reserve(n int, sure bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	most := t.wanted + n + runtime.GOMAXPROCS(0)
	if lacking := most - max(t.made, startThreads); lacking > 0 && !sure && !canHaveTasks(lacking) {
		return fmt.Errorf("%w: %d more than there are: %w", fault.ErrThreads, lacking, unix.EAGAIN)
	}
	t.wanted += n
	if most > t.made {
		makeThreads(most)
		t.made = most
	}
	return nil
}

// startThreads is how many a Go process has from its start that nobody uses, at least.
const startThreads = 2

// giveBack is for what was reserved, of which some threads have ended.
func (t *threadReserve) giveBack(n, ended int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wanted -= n
	t.made -= ended
}

// makeThreads makes as many as are missing to so many.
func makeThreads(n int) {
	var locked sync.WaitGroup
	release := make(chan struct{})
	for range n {
		locked.Add(1)
		go func() {
			runtime.LockOSThread() // which takes one for itself alone
			defer runtime.UnlockOSThread()
			locked.Done()
			<-release
		}()
	}
	locked.Wait()
	close(release)
}

// canHaveTasks says whether so many tasks can be had now: that is so if so many children can be had at the same time, and the dead
// count until they are waited for.
func canHaveTasks(n int) bool {
	children := make([]int, 0, n)
	for len(children) < n {
		pid, errno := bornDead()
		if errno != 0 {
			break
		}
		children = append(children, int(pid))
	}
	for _, pid := range children {
		_, _ = sys.IgnoringEINTR(func() (int, error) { return unix.Wait4(pid, nil, unix.WALL, nil) })
	}
	return len(children) == n
}

// bornDead makes a child that does nothing, and of whose end no signal tells. It is a copy of a process with threads and locks, so
// that it makes system calls only: see package reexec, stage.go.
//
//go:nosplit
//go:norace
//go:noinline
func bornDead() (pid uintptr, errno unix.Errno) {
	pid, _, errno = unix.RawSyscall6(unix.SYS_CLONE, 0, 0, 0, 0, 0, 0)
	for errno == 0 && pid == 0 {
		_, _, _ = unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	return pid, errno
}

// reserveEarly reserves a run's threads before its program is there, if that could take the tasks, or the run needs more threads from
// the start on. It returns how many. pooled says that other programs of this process may have taken them.
func reserveEarly(cfg *Config, pooled bool) (int, error) {
	if pids := cfg.Limits.PIDs; pids > 0 && pids <= fewPIDs && cfg.OutputLimit == 0 && !cfg.BestEffort {
		return 0, nil
	}
	return reserve(runThreads+outputThreads, !pooled)
}

// reserveLate reserves those of a run that has gone on without. sure says that it can't go on so.
func reserveLate(sure bool) (int, error) { return reserve(runThreads, sure) }

func reserve(n int, sure bool) (int, error) {
	if err := threads.reserve(n, sure); err != nil {
		return 0, err
	}
	return n, nil
}
