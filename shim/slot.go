package shim

import (
	"context"
	"errors"
	"path"
	"runtime"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/reexec"
	"github.com/cgshim/cgshim/shim/internal/ledger"
	"github.com/cgshim/cgshim/shim/internal/place"
	"github.com/cgshim/cgshim/shim/internal/rungroup"
	"github.com/cgshim/cgshim/shim/internal/sys"
)

// A slot does one job after the other, on a thread of its own: the parent of the stage and of the programs.
type slot struct {
	pool     *Pool
	cpus     string // its own; "" is all
	stage    *reexec.Stage
	stagePID int
	score    *oomScore // the stage's
	told     []string  // the parents that the stage's will names

	wishes  chan wish     // for the next group
	spares  chan *spare   // one for each wish; nil if it could not be made
	pending bool          // there is one to take
	quick   bool          // the last run was: it is worth it
	like    *cgroup.Group // the last run's: see cgroup.Options
}

// aheadDescriptors is how many each job may have for groups to be made ahead, which takes twenty.
const aheadDescriptors = 64

// quickRun is how short a run is after which the next group is made ahead: a thousand programs that run for minutes should
// not have as many groups beside them that nobody is in.
const quickRun = time.Second

// A wish is for a group, which is made by another thread than that of the slot, whose program may be on the same CPU.
type wish struct {
	placement
	host    *cgroup.Host
	options cgroup.Options
	oom     bool // it will be watched
}

// A spare is a group made ahead.
type spare struct {
	placement
	group *cgroup.Group
	join  *cgroup.Join
	oom   rungroup.OOMWatch
}

func (s *slot) work() {
	runtime.LockOSThread() // for good: what it has started dies with it, and it has a priority of its own
	preferSelf()
	s.wishes, s.spares = make(chan wish, 1), make(chan *spare, 1)
	go s.fulfil()
	_ = s.ready() // else the first run says what is wrong
	for job := range s.pool.queue {
		job.Done(s.run(job))
	}
	close(s.wishes)
	for n := range s.spares {
		n.drop()
	}
	s.dismiss()
}

// dismiss ends the stage, if there is one.
func (s *slot) dismiss() {
	s.score.close()
	if s.stage != nil {
		s.stage.Close()
	}
	s.stage, s.score = nil, nil
}

// preferSelf gives this thread more of the CPU than the programs get, which could starve it otherwise, if that is
// allowed. What it starts does not inherit that.
func preferSelf() {
	const resetOnFork = 0x40000000 // SCHED_RESET_ON_FORK, see sched(7)
	const niceZero = 20            // as getpriority(2), the system call, has it
	var priority int32
	policy, _, _ := unix.RawSyscall(unix.SYS_SCHED_GETSCHEDULER, 0, 0, 0)
	if nice, err := unix.Getpriority(unix.PRIO_PROCESS, 0); err != nil || nice != niceZero || policy != unix.SCHED_NORMAL {
		return // the programs are to have what the caller has chosen, and a reset would not go back to that
	}
	_, _, errno := unix.RawSyscall(unix.SYS_SCHED_SETSCHEDULER, 0, unix.SCHED_NORMAL|resetOnFork, uintptr(unsafe.Pointer(&priority)))
	if errno == 0 {
		_ = unix.Setpriority(unix.PRIO_PROCESS, 0, -20)
	}
}

// ready makes sure that there is a stage.
func (s *slot) ready() (err error) {
	if s.stage != nil && s.stage.Ready() {
		return nil
	}
	s.dismiss()
	if s.stage, err = startStage(reexec.Options{Guardian: true, Stay: true}); err != nil {
		return err
	}
	s.told = nil
	s.stagePID = s.stage.PID()
	s.score = openOOMScore(s.stagePID)
	if err := s.pool.place.Adopt(s.stagePID); err != nil {
		return err
	}
	return s.tell(s.pool.place.Parent)
}

// tell has the guardian clean up below a parent, too.
func (s *slot) tell(parent string) error {
	if slices.Contains(s.told, parent) {
		return nil
	}
	w := ledger.Will{Owner: ledger.PoolOwner(), Sweep: parent}
	if len(s.told) == 0 { // the pool's: that of a run could be made by others, after it
		w.Missing = ledger.MissingParents(s.pool.host, path.Join(parent, "none"))
	}
	if err := s.stage.Bequeath(w.Encode()); err != nil {
		return err
	}
	s.told = append(s.told, parent)
	return nil
}

// run does a job.
func (s *slot) run(job *Job) *Result {
	cfg := &job.Config
	cfg.Subreaper = false
	ctx, cancel := s.pool.gate.within(job.ctx)
	defer cancel()
	if s.pool.gate.unwanted(ctx) {
		return Unstarted(cfg)
	}
	if job.Prepare != nil {
		err := job.Prepare(cfg)
		if errors.Is(err, context.Canceled) {
			return Unstarted(cfg)
		}
		if errors.Is(err, unix.ETIMEDOUT) {
			return SetupError(cfg, "open", err)
		}
		if err != nil {
			return UsageError(cfg, err)
		}
	}
	if s.cpus != "" {
		if cfg.Limits.CPUSetCPUs != "" {
			return UsageError(cfg, errors.New("a cpuset of its own: each job of this pool has been given its CPUs"))
		}
		cfg.Limits.CPUSetCPUs = s.cpus
	}
	defer s.reap()
	if cfg.BestEffort || cfg.Nest || cfg.Manager != "" && cfg.Manager != s.pool.cfg.Manager {
		// What the pool has no place for.
		if cfg.Parent == "" && (cfg.Manager == "" || cfg.Manager == s.pool.cfg.Manager) {
			cfg.Parent, cfg.Manager = s.pool.cfg.Parent, s.pool.cfg.Manager
		}
		return newRun(cfg, s.pool).do(ctx)
	}
	r := newRun(cfg, s.pool)
	r.source = s
	result := r.do(ctx)
	s.quick = result.WallSeconds != nil && float64(*result.WallSeconds) < quickRun.Seconds()
	if s.stage != nil && len(s.stage.Stuck()) > 0 {
		s.stage.Close()
	}
	return result
}

// acquire has the slot's stage, and a group made ahead if there is one.
func (s *slot) acquire(_ context.Context, res *resources) (err error) {
	if res.cfg.OutputLimit > 0 {
		if res.threads, err = reserve(outputThreads, false); err != nil {
			return at("threads", err)
		}
	}
	if err := s.ready(); err != nil {
		return at("stage", err)
	}
	res.owner, res.name = ledger.PoolOwner(), res.cfg.runName()
	res.host, res.place = s.pool.host, s.pool.place
	if res.cfg.Parent != "" {
		res.place = place.Place{Manager: place.Cgroupfs, Parent: res.cfg.Parent, Reason: "asked for by --parent"}
	}
	if err := s.tell(res.place.Parent); err != nil {
		return at("stage", err)
	}
	res.stage, res.score = s.stage, s.score
	res.later(res.noteStuck)
	res.report.phase("stage")
	if err := s.group(res); err != nil {
		return at("cgroup", err)
	}
	res.report.phase("mkdir")
	res.started = func() { s.prepare(res) }
	if err := res.limitGroup(); err != nil {
		return at("limit", err)
	}
	return nil
}

// group gets the run's group.
func (s *slot) group(res *resources) error {
	res.report.version(res.host)
	needed, wanted := res.plan(res.place.Parent, neededControllers(res.cfg))
	if !s.take(res) {
		if err := res.createGroup(path.Join(res.place.Parent, res.name), needed, wanted); err != nil {
			return err
		}
	}
	res.report.hasGroup(&res.place, &res.group)
	res.later(func() { s.remove(res) })
	return nil
}

// remove removes a run's group.
func (s *slot) remove(res *resources) {
	group := res.group.Cgroup
	s.like = group
	if s.pending && res.place.Parent == s.pool.place.Parent {
		group.Tune(cgroup.Tuning{KeepParents: true}) // the spare one is in the same parent
	}
	if res.remove(); res.unkillable {
		s.pool.keep(group)
	}
}

// retry is for a stage that was lost: whoever has killed it has not kept this program from being run, for there was none yet.
func (s *slot) retry(res *resources, failed error) (bool, error) {
	if res.retried || res.launching.GaveUp != nil || !stageLost(failed) {
		return false, failed
	}
	res.retried = true
	if err := s.ready(); err != nil {
		return false, at("stage", err)
	}
	if err := s.tell(res.place.Parent); err != nil {
		return false, at("stage", err)
	}
	res.stage, res.score = s.stage, s.score
	return true, nil
}

func stageLost(err error) bool {
	var e *reexec.Error
	return errors.As(err, &e) && e.Step == reexec.StepStage
}

// take takes the group made ahead for a run, if it is such a one.
func (s *slot) take(res *resources) bool {
	if !s.pending || res.cfg.Name != "" {
		return false
	}
	s.pending = false
	n := <-s.spares
	if n == nil {
		return false
	}
	if !n.same(&res.placement) || n.entered() {
		n.drop()
		return false
	}
	res.group.Host, res.group.Cgroup, res.group.OOM = res.host, n.group, n.oom
	res.join, res.placement = n.join, n.placement
	res.group.OOM.Forget()
	res.name = path.Base(n.group.Path())
	return true
}

// prepare has the group for the next run made, while the program of this one runs: one like it.
func (s *slot) prepare(res *resources) {
	// A parent that was asked for should not stay longer than that run.
	if s.pool.ahead && s.quick && !s.pending && res.place.Parent == s.pool.place.Parent {
		s.pending = true
		options := res.options(res.placement.got)
		options.Like = s.like
		s.wishes <- wish{res.placement, res.host, options, res.group.OOM.Watches()}
	}
}

// fulfil makes the groups that are wished for. What goes wrong there the next run will find out by itself.
func (s *slot) fulfil() {
	defer close(s.spares)
	for w := range s.wishes {
		s.spares <- w.make()
	}
}

func (w *wish) make() *spare {
	group, err := w.host.Create(path.Join(w.parent, (&Config{}).runName()), w.options)
	if err != nil {
		return nil
	}
	join, err := group.Join()
	if err != nil {
		_ = group.Remove()
		return nil
	}
	n := &spare{placement: w.placement, group: group, join: join}
	if w.oom {
		_ = n.oom.Open(w.host, group) // else the run will, and say why not
	}
	return n
}

// entered says whether somebody is in it: root's program can leave its groups for others.
func (n *spare) entered() bool {
	populated, err := n.group.Populated()
	return populated || err != nil
}

func (n *spare) drop() {
	if n == nil {
		return
	}
	n.join.Close()
	n.oom.Close()
	if n.entered() {
		ctx, cancel := context.WithTimeout(context.Background(), killTimeout)
		defer cancel()
		_ = n.group.Kill(ctx)
	}
	_ = n.group.Remove()
}

// reap waits for the zombies that programs of this slot have made children of its thread (CLONE_PARENT): without a pause,
// for there may be tens of thousands. Between two jobs every other child of the thread has been waited for, but for the stage.
// With __WNOTHREAD the kernel shows no children of other slots, so that no slot has to wait for what another one does.
func (s *slot) reap() {
	for s.pool.cfg.Childless {
		info, err := sys.Waitid(unix.P_ALL, 0, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT|unix.WALL|unix.WNOTHREAD)
		switch {
		case err != nil, info.PID() == 0:
			return
		case s.stage != nil && info.PID() == s.stagePID: // it is dead, and the kernel shows what comes after it only when it is gone
			s.dismiss()
		default:
			if _, err := unix.Wait4(info.PID(), nil, unix.WNOHANG|unix.WALL, nil); err != nil && !errors.Is(err, unix.EINTR) {
				return
			}
		}
	}
}
