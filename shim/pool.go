package shim

import (
	"context"
	"errors"
	"fmt"
	"path"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/shim/internal/ledger"
	"github.com/cgshim/cgshim/shim/internal/place"
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
	place place.Place // of the runs that do not ask for another
	ahead bool        // groups are made ahead
	jobs  int         // see shares

	queue    chan *Job
	gate     gate
	reaper   reaper
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
	report := newReport(cfg)
	res := newResources(cfg, report, nil)
	err := res.startStage()
	if err == nil {
		res.host = p.host
		err = p.enterPlace(res)
	}
	ready <- err
	if err == nil {
		<-p.leave
	}
	res.release()
	err = nil
	if e := report.result.Error; e != nil {
		err = e.cause
	}
	p.left <- err
}

func (p *Pool) enterPlace(res *resources) error {
	parent, err := res.settle(context.Background())
	if err != nil {
		return err
	}
	p.place = res.place
	p.place.Parent = parent
	nested := res.place.Nested()
	if nested == "" {
		return nil
	}
	will := ledger.Will{Nested: nested, Owner: ledger.PoolOwner(), Sweep: p.place.Parent}
	return res.stage.Bequeath(will.Encode())
}

// sweep is run.sweep, once for all runs.
func (p *Pool) sweep() {
	if p.place.Scoped() || p.place.Parent == "/" {
		return // a scope is new; the root is everybody's
	}
	groups, _ := ledger.Groups(p.host, p.place.Parent, "")
	if p.place.Parent == DefaultParent {
		beside, _ := ledger.Groups(p.host, path.Dir(DefaultParent), path.Base(DefaultParent)+"-")
		groups = append(groups, beside...)
	}
	ledger.CleanAll(p.gate.shut, p.host, ledger.Stale(groups))
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
		p.reaper.end()
		if !p.place.Scoped() { // the parents, which the last run may have left to a spare group that was not to be had
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
	r.Error = &ErrorInfo{Step: "cancelled", Message: errUnwanted.Error(), exitStatus: ExitFailed, cause: errUnwanted}
	return r
}
