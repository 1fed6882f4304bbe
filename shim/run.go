package shim

import (
	"context"
	"runtime"

	"github.com/cgshim/cgshim/shim/internal/monitor"
)

// A run is one run: what it was asked for, and where it gets what it needs.
type run struct {
	cfg    *Config
	source source
	report *report
	gate   *gate   // of a Pool; nil: there is none
	reaper *reaper // likewise
}

// Run runs a program and returns when it, everything it started, and its cgroups are gone. The end of
// ctx cancels the run, as SIGTERM does. There is always a Result, also when the program could not be run.
func Run(ctx context.Context, cfg Config) *Result {
	// The parent-death signal follows this thread, and so does the program's idea of its parent.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return RunOnThread(ctx, cfg)
}

// RunOnThread is Run, for a goroutine that stays on its thread: one that has called runtime.LockOSThread, or that of an init
// function, where that call, and the thread that it makes the first time, can be spared. On any other goroutine the program may be
// killed when some thread ends.
func RunOnThread(ctx context.Context, cfg Config) *Result { return newRun(&cfg, nil).do(ctx) }

// newRun is a run without a pool (nil), or of one that has no slot for it.
func newRun(cfg *Config, pool *Pool) *run {
	r := &run{cfg: cfg, source: fresh{}, report: newReport(cfg)}
	if pool != nil {
		r.gate, r.reaper = &pool.gate, &pool.reaper
	}
	if cfg.BestEffort {
		r.source = &bestEffort{}
	}
	return r
}

// do is Run, on a thread that lives as long as the program. What is acquired for the run is released at its end, as far as there is any.
func (r *run) do(ctx context.Context) *Result {
	if err := r.cfg.Validate(); err != nil {
		return r.report.failed(at("usage", err))
	}
	res := newResources(r.cfg, r.report, r.gate)
	res.reaper = r.reaper
	defer res.collect()
	if r.cfg.Subreaper || r.cfg.ReapOrphans {
		res.group.BecomeSubreaper(r.cfg.Subreaper)
	}
	program, err := r.start(ctx, res)
	if err != nil {
		result := r.report.failed(err)
		res.killRest(false)
		res.release()
		return result
	}
	r.report.phase("started")
	outcome := r.watch(ctx, res, program)
	r.report.phase("wait")
	end := res.finish(program, &outcome)
	res.release()
	res.finishOutput(program.output, end)
	r.report.phase("sweep")
	return r.report.finished(end)
}

// start gets what the run needs, and brings the program up to its execve.
func (r *run) start(ctx context.Context, res *resources) (*program, error) {
	if err := res.confine(ctx); err != nil {
		return nil, err
	}
	defer res.closeRuleset()
	if err := r.source.acquire(ctx, res); err != nil {
		return nil, err
	}
	for {
		program, err := res.launch(ctx)
		if err == nil {
			return program, nil
		}
		if again, err := r.source.retry(res, err); !again {
			return nil, err
		}
	}
}

// watch waits for the end of the run.
func (r *run) watch(ctx context.Context, res *resources, p *program) monitor.Outcome {
	watched := &monitor.Run{
		Group: &res.group, Started: p.started, StartedNanos: p.StartedNanos,
		CPUTime: r.cfg.CPUTime, WallTime: r.cfg.WallTime, Grace: r.cfg.Grace, StopTimeout: r.cfg.stopTimeout(),
		WaitAll: r.cfg.WaitAll, Sample: r.cfg.Sample,
		Signals: res.launching.Signals, Early: res.launching.Early, Report: r.report,
		TakesLonger: res.takesLonger, Spared: res.spared(), ChildEvents: r.cfg.ChildEvents, Alive: res.alive,
	}
	if p.output != nil {
		watched.OutputLimited = p.output
	}
	return watched.Watch(ctx)
}
