package shim

import (
	"context"
	"errors"
	"fmt"
	"path"
	"runtime"
	"slices"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/reexec"
	"github.com/cgshim/cgshim/shim/internal/ledger"
)

// A PoolConfig says how a Pool is made.
type PoolConfig struct {
	// Jobs is how many programs run at the same time. 0 is one for each CPU of this process; with Pin for each core.
	Jobs int
	// Pin gives each job CPUs of its own, by a cpuset: whole cores, with all their hyper-threads, so that no two jobs
	// share one.
	Pin bool
	// Parent, Manager and Nest are the Config's, for the runs that do not say themselves.
	Parent, Manager string
	Nest            bool
	// Childless says that the calling process has no children but the pool's. Zombies that a program has made its
	// children (CLONE_PARENT) are then waited for.
	Childless bool
}

// A Pool runs programs as Run does, and quicker: with the stages started, and the groups made, ahead. Each job has a
// thread of its own. It is safe for concurrent use.
//
// When this process dies, everything of its runs is killed and removed, as it is with Run.
type Pool struct {
	cfg   PoolConfig
	host  *cgroup.Host
	place Place // of the runs that do not ask for another
	ahead bool  // groups are made ahead
	jobs  int   // see shares

	queue    chan *Job
	gate     gate
	slots    sync.WaitGroup
	sweeping sync.WaitGroup

	mu   sync.Mutex
	stay []*cgroup.Group // that could not be emptied

	closing sync.Once
	leave   chan struct{} // closed when the slots have ended
	left    chan error    // what keepPlace says in the end
}

// A Job is one run of a Pool.
type Job struct {
	Config Config
	// Prepare is called before the run, by the thread that will do it: to open files, for example. Its error is the
	// result's, of step "usage"; of step "open" if it wraps ETIMEDOUT; context.Canceled is that of a job that is no longer
	// wanted. Nil is nothing to prepare.
	Prepare func(*Config) error
	// Done is called with the result, by that thread, after everything of the run is gone. Until it returns the thread
	// does nothing else.
	Done func(*Result)

	ctx context.Context
}

// NewPool makes a pool. Close ends it.
func NewPool(cfg PoolConfig) (*Pool, error) {
	p := &Pool{cfg: cfg, queue: make(chan *Job), leave: make(chan struct{}), left: make(chan error, 1)}
	probe := &Config{Args: []string{"pool"}, Parent: cfg.Parent, Manager: cfg.Manager, Nest: cfg.Nest}
	if err := probe.Validate(); err != nil {
		return nil, err
	}
	if cfg.Jobs < 0 {
		return nil, configError("%d jobs", cfg.Jobs)
	}
	var err error
	if p.host, err = detect(); err != nil {
		return nil, err
	}
	shares, err := p.shares()
	if err != nil {
		return nil, err
	}
	p.jobs = len(shares)
	if err := threads.reserve(p.threads(), false); err != nil {
		return nil, fmt.Errorf("%d jobs: %w", p.jobs, err)
	}
	p.gate.open()
	ready := make(chan error)
	go p.keepPlace(ready, probe)
	if err := <-ready; err != nil {
		threads.giveBack(p.threads(), 1)       // keepPlace's own has ended
		return nil, errors.Join(err, <-p.left) // which may add that something stays
	}
	p.sweeping.Go(p.sweep)
	var limit unix.Rlimit
	p.ahead = unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil && limit.Cur >= uint64(len(shares))*aheadDescriptors
	for _, cpus := range shares {
		p.slots.Go((&slot{pool: p, cpus: cpus}).work)
	}
	return p, nil
}

// threads is how many are reserved.
func (p *Pool) threads() int { return poolThreads + jobThreads*p.jobs }

// shares is what CPUs each job has: a list, or "" for all.
func (p *Pool) shares() ([]string, error) {
	if !p.cfg.Pin {
		jobs := p.cfg.Jobs
		if jobs == 0 {
			jobs = runtime.NumCPU()
		}
		return make([]string, jobs), nil
	}
	if !p.host.Has(cgroup.CPUSet) {
		return nil, &cgroup.Error{Op: "pin", Value: string(cgroup.CPUSet), Err: cgroup.ErrNoController}
	}
	cores, err := ownCores()
	if err != nil {
		return nil, err
	}
	return divide(cores, p.cfg.Jobs)
}

// keepPlace enters the place for the runs, with a stage that guards what that takes, and leaves it in the end.
func (p *Pool) keepPlace(ready chan<- error, cfg *Config) {
	runtime.LockOSThread() // for good: the stage's parent is this thread
	r := newRun(cfg)
	r.host = p.host
	var err error
	if err = r.startStage(true); err == nil {
		var parent string
		if parent, err = r.settle(context.Background()); err == nil {
			p.place = r.place
			p.place.Parent = parent
			p.place.undo = nil // that is for here
			if len(r.place.nest) > 0 {
				err = r.stage.Bequeath((&will{nested: r.place.base, owner: poolOwner(), sweep: p.place.Parent}).encode())
			}
		}
	}
	ready <- err
	if err == nil {
		<-p.leave
	}
	if r.stage != nil {
		r.leavePlace()
		r.stage.Close()
	}
	err = nil
	if r.result.Error != nil {
		err = r.result.Error.cause
	}
	p.left <- err
}

// sweep is run.sweep, once for all runs.
func (p *Pool) sweep() {
	if p.place.unit != nil || p.place.Parent == "/" {
		return // a scope is new; the root is everybody's
	}
	groups, _ := ledger.Groups(p.host, p.place.Parent, "")
	if p.place.Parent == DefaultParent {
		beside, _ := ledger.Groups(p.host, path.Dir(DefaultParent), path.Base(DefaultParent)+"-")
		groups = append(groups, beside...)
	}
	stale, _ := sift(groups)
	cleanAll(p.gate.shut, p.host, stale)
}

// Go queues a job, and waits until there is a thread for it, or for the end of ctx, which also cancels the run later on.
// The error is that of ctx; without one Done is called.
func (p *Pool) Go(ctx context.Context, job *Job) error {
	job.ctx = ctx
	select {
	case p.queue <- job:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TryGo is Go if there is a thread for the job right now.
func (p *Pool) TryGo(ctx context.Context, job *Job) bool {
	job.ctx = ctx
	select {
	case p.queue <- job:
		return true
	default:
		return false
	}
}

// Run runs a program, and returns as Run of the package does.
func (p *Pool) Run(ctx context.Context, cfg Config) *Result {
	done := make(chan *Result, 1)
	if err := p.Go(ctx, &Job{Config: cfg, Done: func(r *Result) { done <- r }}); err != nil {
		return Unstarted(&cfg)
	}
	return <-done
}

// Stop cancels every run, those that are under way, that wait for a thread, and that are yet to come, as the end of their
// contexts does. Once it has returned no program is started any more: it waits for those that are being started. One that
// takes longer than a second, from a file system that does not answer, is not waited for: it is cancelled when it has
// started, or given up.
func (p *Pool) Stop() { p.gate.close() }

// Close waits for the runs that are under way, and takes back what the pool has made. No Go or Run may be called
// meanwhile, or after it.
func (p *Pool) Close() (err error) {
	p.closing.Do(func() {
		close(p.queue)
		p.slots.Wait()
		if p.place.unit == nil { // the parents, which the last run may have left to a spare group that was not to be had
			p.host.RemoveParents(path.Join(p.place.Parent, "none"), nil)
		}
		close(p.leave)
		p.gate.end()
		p.sweeping.Wait()
		err = errors.Join(<-p.left, p.removeStay())
		threads.giveBack(p.threads(), p.jobs+1) // the jobs' own, and keepPlace's, have ended
	})
	return err
}

// keep keeps a group that could not be emptied, for Close.
func (p *Pool) keep(group *cgroup.Group) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stay = append(p.stay, group)
}

func (p *Pool) removeStay() error {
	var errs []error
	for _, group := range p.stay {
		ctx, cancel := context.WithTimeout(context.Background(), killTimeout)
		err := group.Kill(ctx)
		cancel()
		if err == nil {
			err = group.Remove()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Unstarted is the result of a run that was cancelled before it began.
func Unstarted(cfg *Config) *Result {
	r := newResult(cfg)
	r.Verdict = Cancelled
	r.Error = &ErrorInfo{Step: "cancelled", Message: errUnwanted.Error(), exitStatus: ExitFailed}
	return r
}

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
	oom   oomWatch
}

// A placement is what kind of group a run has.
type placement struct {
	parent string
	asked  []cgroup.Controller // and
	got    []cgroup.Controller // of these, what there is
	frugal bool
}

func (p *placement) same(other *placement) bool {
	return p.parent == other.parent && p.frugal == other.frugal && slices.Equal(p.asked, other.asked)
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
	if unit := s.pool.place.unit; unit != nil {
		if err := unit.adopt(s.stagePID); err != nil {
			return err
		}
	}
	return s.tell(s.pool.place.Parent)
}

// tell has the guardian clean up below a parent, too.
func (s *slot) tell(parent string) error {
	if slices.Contains(s.told, parent) {
		return nil
	}
	w := will{owner: poolOwner(), sweep: parent}
	if len(s.told) == 0 { // the pool's: that of a run could be made by others, after it
		w.missing = ledger.MissingParents(s.pool.host, path.Join(parent, "none"))
	}
	if err := s.stage.Bequeath(w.encode()); err != nil {
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
	if cfg.BestEffort || cfg.Nest || cfg.Manager != "" && cfg.Manager != s.pool.cfg.Manager {
		// What the pool has no place for.
		if cfg.Parent == "" && (cfg.Manager == "" || cfg.Manager == s.pool.cfg.Manager) {
			cfg.Parent, cfg.Manager = s.pool.cfg.Parent, s.pool.cfg.Manager
		}
		defer s.reap()
		return s.pool.do(ctx, newRun(cfg))
	}
	r := newRun(cfg)
	r.slot = s
	result := s.pool.do(ctx, r)
	if r.immortal && r.group != nil {
		s.pool.keep(r.group)
	}
	s.quick = !r.ended.IsZero() && r.ended.Sub(r.started) < quickRun
	if s.stage != nil && len(s.stage.Stuck()) > 0 {
		s.stage.Close()
	}
	s.reap()
	return result
}

// do does a run, as long as it is wanted.
func (p *Pool) do(ctx context.Context, r *run) *Result {
	r.gate = &p.gate
	result := r.do(ctx)
	if result.Error != nil && errors.Is(result.Error.cause, errUnwanted) {
		result.Verdict = Cancelled
	}
	return result
}

// setup is run.setup, with the slot's stage.
func (s *slot) setup(ctx context.Context, r *run) (step string, err error) {
	if err := r.cfg.Validate(); err != nil {
		return "usage", err
	}
	if err := r.reserveEarly(); err != nil {
		return "threads", err
	}
	if err := s.ready(); err != nil {
		return "stage", err
	}
	r.owner, r.name = poolOwner(), r.cfg.runName()
	r.host, r.place = s.pool.host, s.pool.place
	if r.cfg.Parent != "" {
		r.place = Place{Manager: ManagerCgroupfs, Parent: r.cfg.Parent, Reason: "asked for by --parent"}
	}
	if err := s.tell(r.place.Parent); err != nil {
		return "stage", err
	}
	r.phase("stage")
	if step, err := r.makeGroup(ctx); err != nil {
		return step, err
	}
	for first := true; ; first = false {
		r.stage = s.stage
		step, err := r.launch(ctx)
		if err == nil || !first || r.gaveUp != nil || !stageLost(err) {
			return step, err
		}
		// Who has killed it has not kept this program from being run: there was none yet.
		if err := s.ready(); err != nil {
			return "stage", err
		}
	}
}

func stageLost(err error) bool {
	var e *reexec.Error
	return errors.As(err, &e) && e.Step == reexec.StepStage
}

// take takes the group made ahead for a run, if it is such a one.
func (s *slot) take(r *run) bool {
	if !s.pending || r.cfg.Name != "" {
		return false
	}
	s.pending = false
	n := <-s.spares
	if n == nil {
		return false
	}
	if !n.same(&r.placement) || n.entered() {
		n.drop()
		return false
	}
	r.group, r.join, r.oom, r.placement = n.group, n.join, n.oom, n.placement
	r.oom.forget()
	r.name = path.Base(r.group.Path())
	return true
}

// prepare has the group for the next run made, while the program of this one runs: one like it.
func (s *slot) prepare(r *run) {
	// A parent that was asked for should not stay longer than that run.
	if s.pool.ahead && s.quick && !s.pending && r.place.Parent == s.pool.place.Parent {
		s.pending = true
		options := r.options(r.placement.got)
		options.Like = s.like
		s.wishes <- wish{r.placement, r.host, options, r.oom.watched()}
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
		_ = n.oom.open(w.host, group) // else the run will, and say why not
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
	n.oom.stop()
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
		var info childInfo
		err := unix.Waitid(unix.P_ALL, 0, (*unix.Siginfo)(unsafe.Pointer(&info)),
			unix.WEXITED|unix.WNOHANG|unix.WNOWAIT|unix.WALL|unix.WNOTHREAD, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil, info.pid == 0:
			return
		case s.stage != nil && int(info.pid) == s.stagePID: // it is dead, and the kernel shows what comes after it only when it is gone
			s.dismiss()
		default:
			if _, err := unix.Wait4(int(info.pid), nil, unix.WNOHANG|unix.WALL, nil); err != nil && !errors.Is(err, unix.EINTR) {
				return
			}
		}
	}
}
