package shim

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/reexec"
	"github.com/cgshim/cgshim/shim/internal/sys"
)

// A fallback is what Config.BestEffort does instead of what can't be had.
type fallback struct {
	limits    []reexec.Rlimit
	hostNet   bool // no network namespace can be made
	subreaper bool // orphans of the program become children of this process
	orphans   orphans
}

// orphans is what wait4(2) has told of those that this process has waited for.
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

func (f *fallback) rlimits() []reexec.Rlimit { return slices.Clone(f.limits) }

// setupBestEffort is setup one after the other: what the program has to be told depends on what the group
// can do, and a launch that fails for a limit is tried again without it.
func (r *run) setupBestEffort(ctx context.Context) (step string, err error) {
	r.noteEnforced()
	if err := r.startStage(true); err != nil {
		return "stage", err
	}
	if err := r.createGroup(ctx, nil); err != nil {
		r.group = nil
		r.warn("no cgroup: %v", err)
		// Without one there is nothing to guard, and cgshim's own processes would be counted with the program's.
		r.stage.Close()
	}
	r.enforceBestEffort()
	for again := r.group == nil; ; again = true {
		if again {
			if err := r.restart(); err != nil {
				return "stage", err
			}
		}
		step, err := r.launch(ctx)
		if err == nil || !r.concede(err) {
			return step, err
		}
	}
}

// restart replaces the stage by a fresh one. If there is a group, it has a guardian all the time.
func (r *run) restart() error {
	old := r.stage
	defer old.Close()
	if err := r.startStage(r.group != nil); err != nil {
		return err
	}
	if r.group == nil {
		return nil
	}
	if r.place.unit != nil {
		if err := r.place.unit.adopt(r.stage.PID()); err != nil {
			return err
		}
	}
	return r.bequeath(r.group.Path())
}

// enforceBestEffort sets every limit that the group can enforce, if there is one, and finds something else for
// the others.
func (r *run) enforceBestEffort() {
	for _, limit := range limitsByName(&r.cfg.Limits) {
		r.enforce(limit)
	}
	if r.group != nil && r.result.Enforced["mem"] == ByCgroup {
		if err := r.oom.open(r.host, r.group); err != nil {
			r.warn("OOM events: %v", err) // an OOM kill is still counted at the end
		}
	}
	if r.cfg.CPUTime > 0 {
		r.result.Enforced["cpu_time"] = ByTimer
		if r.group == nil || !r.host.Has(cgroup.CPUAcct) {
			r.withoutGroup("cpu_time")
		}
	}
	if r.group == nil {
		r.becomeSubreaper()
	}
}

// enforce sets one limit in the group, or else by other means.
func (r *run) enforce(limit namedLimit) {
	err := error(cgroup.ErrNotMounted)
	if r.group != nil {
		err = r.group.Set(limit.limits)
	}
	switch {
	case err == nil:
		r.result.Enforced[limit.name] = ByCgroup
	case limit.name == "mem" && errors.Is(err, cgroup.ErrSwapAccounting):
		r.result.Enforced["mem"] = ByCgroup // that is written first
		r.warn("swap: %v", err)
	default:
		if r.group != nil {
			r.warn("%s: %v", limit.name, err)
		}
		r.withoutGroup(limit.name)
	}
}

// withoutGroup enforces a limit on each process by itself, where there is such a limit.
func (r *run) withoutGroup(name string) {
	set := false
	switch name {
	case "mem":
		// Of the rlimits the one that is nearest to RAM: private writable memory, as far as it is mapped.
		set = r.addRlimit(unix.RLIMIT_DATA, uint64(r.cfg.Limits.Memory))
		if set && !slices.Contains(r.result.Warnings, dataWarning) {
			r.result.Warnings = append(r.result.Warnings, dataWarning)
		}
	case "pids":
		// It counts all that the user runs, and does not bind root.
		if uid := r.uid(); uid != 0 {
			set = r.addRlimit(unix.RLIMIT_NPROC, userTasks(uid)+uint64(r.cfg.Limits.PIDs))
		}
	case "cpu_time":
		// The timer looks at the program itself, this is for what it starts: a second later, so that the
		// timer comes first.
		set = r.addRlimit(unix.RLIMIT_CPU, uint64(math.Ceil(r.cfg.CPUTime.Seconds()))+1)
	}
	if set {
		r.result.Enforced[name] = ByRlimit
	} else {
		r.result.Enforced[name] = ByNothing
	}
}

// dataWarning is for the caller whose program does not start: its own words are about memory that there is plenty of.
const dataWarning = "mem: by RLIMIT_DATA, of each process by itself, which counts memory that is mapped and never used, too: " +
	"java, for example, takes hundreds of megabytes to start; --ulimit data=unlimited does without this limit"

// addRlimit sets a limit, unless the caller has asked for another one of the same resource.
func (r *run) addRlimit(resource int, value uint64) bool {
	var now unix.Rlimit
	if unix.Getrlimit(resource, &now) == nil {
		value = min(value, now.Max) // raising takes a privilege, and is not what is wanted
	}
	if slices.ContainsFunc(r.cfg.Rlimits, func(l reexec.Rlimit) bool { return l.Resource == resource }) {
		return false
	}
	r.fallback.limits = append(r.fallback.limits, reexec.Rlimit{Resource: resource, Soft: value, Hard: value})
	return true
}

// concede gives up what made a launch fail, if it is a limit, and says whether there is something new to
// try.
func (r *run) concede(err error) bool {
	var e *reexec.Error
	if !errors.As(err, &e) {
		var failed *cgroup.Error
		return errors.As(err, &failed) && r.leaveGroup(err)
	}
	switch e.Step {
	case reexec.StepJoin, reexec.StepClone:
		return r.leaveGroup(err)
	case reexec.StepNet:
		if r.fallback.hostNet {
			return false
		}
		r.fallback.hostNet = true
		r.result.Enforced["net"] = ByNothing
		r.warn("net: %v", err)
		return true
	}
	return false
}

// leaveGroup goes on without a group that can't be joined: on v2, one whose common ancestor with the
// caller's is not the caller's to write to.
func (r *run) leaveGroup(err error) bool {
	if r.group == nil {
		return false
	}
	r.oom.stop()
	if err := r.group.Remove(); err != nil {
		r.noteError("remove", err)
		return false
	}
	r.stage.Close()
	r.group, r.result.Cgroup = nil, nil
	r.warn("no cgroup: %v", err)
	for _, limit := range limitsByName(&r.cfg.Limits) {
		r.withoutGroup(limit.name)
	}
	if r.cfg.CPUTime > 0 {
		r.withoutGroup("cpu_time")
	}
	r.becomeSubreaper()
	return true
}

func (r *run) warn(format string, args ...any) {
	r.result.Warnings = append(r.result.Warnings, fmt.Sprintf(format, args...))
}

func (r *run) uid() uint32 {
	if r.cfg.User != nil {
		return r.cfg.User.UID
	}
	return uint32(os.Geteuid())
}

// becomeSubreaper makes what the program leaves behind ours, so that it can be found and killed.
func (r *run) becomeSubreaper() {
	if r.cfg.Subreaper && unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == nil {
		r.fallback.subreaper = true
		return
	}
	r.warn("processes that outlive the program are not found without a cgroup")
}

// processes reads all of /proc. What is gone while it does so is left out.
func processes() []sys.Process {
	var list []sys.Process
	names, _ := filepath.Glob("/proc/[0-9]*")
	for _, name := range names {
		pid, err := strconv.Atoi(filepath.Base(name))
		if err != nil {
			continue
		}
		if p, err := sys.ReadProcess(pid); err == nil {
			list = append(list, p)
		}
	}
	return list
}

// strays lists the processes of a run without a group: what is below the program, or, for a subreaper,
// below this process.
func (r *run) strays() []sys.Process {
	all := processes()
	root := r.program.PID
	if r.fallback.subreaper {
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
		if p.Zombie && p.Parent == os.Getpid() && p.PID != r.program.PID {
			var usage unix.Rusage
			if pid, err := unix.Wait4(p.PID, nil, unix.WNOHANG, &usage); err == nil && pid == p.PID { // an orphan that we reap, as init would
				r.fallback.orphans.note(usage)
			}
		}
		return p.Zombie || p.PID == r.program.PID
	})
}

// killStrays kills the program, if it lives, and everything below it.
func (r *run) killStrays(ctx context.Context) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		_ = unix.Kill(r.program.PID, unix.SIGKILL) // our unreaped child
		strays := r.strays()
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

// userTasks counts the threads of a user's processes, as RLIMIT_NPROC does.
func userTasks(uid uint32) uint64 {
	var n uint64
	for _, p := range processes() {
		var st unix.Stat_t
		if unix.Stat("/proc/"+strconv.Itoa(p.PID), &st) == nil && st.Uid == uid {
			n += p.Threads
		}
	}
	return n
}
