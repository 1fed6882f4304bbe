package shim

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/reexec"
	"github.com/cgshim/cgshim/shim/internal/monitor"
	"github.com/cgshim/cgshim/shim/internal/place"
	"github.com/cgshim/cgshim/shim/internal/rungroup"
)

// sourceSampled is the source of a figure that was sampled, see Result.Sources.
const sourceSampled = rungroup.Sampled

// A report is what is known of a run: its Result as that grows, and the events that its caller is told. It is a monitor.Report.
type report struct {
	cfg     *Config
	result  *Result
	began   time.Time
	started time.Time    // the program's creation; zero: there is none yet
	told    []string     // the limits that OnEvent knows of
	place   *place.Place // of the run's group; nil: there is no group
	hits    func(*cgroup.Stats) []string
}

func newReport(cfg *Config) *report {
	return &report{cfg: cfg, result: newResult(cfg), began: time.Now()}
}

// phase ends one, see Config.OnPhase.
func (r *report) phase(name string) {
	if r.cfg.OnPhase != nil {
		r.cfg.OnPhase(name)
	}
}

// failed is the result of a run whose program never ran. What goes wrong while it is cleaned up is added to it.
func (r *report) failed(err error) *Result {
	step := ""
	var e *stepError
	if errors.As(err, &e) {
		step, err = e.step, e.err
	}
	r.Error(step, err)
	r.result.Error.exitStatus = exitStatus(err)
	r.result.Verdict = Failed
	if errors.Is(err, errUnwanted) {
		r.result.Verdict = Cancelled
	}
	return r.result
}

// Error records the first error; what fails after it is joined to its message.
func (r *report) Error(step string, err error) {
	if e := r.result.Error; e != nil {
		e.Message += "; " + step + ": " + oneLine(err)
		return
	}
	r.result.Error = explain(r.cfg, step, err)
}

// Warn adds a warning.
func (r *report) Warn(text string) { r.result.Warnings = append(r.result.Warnings, text) }

func (r *report) warn(format string, args ...any) { r.Warn(fmt.Sprintf(format, args...)) }

func (r *report) warnOnce(text string) {
	if !slices.Contains(r.result.Warnings, text) {
		r.Warn(text)
	}
}

// enforced notes what enforces a limit.
func (r *report) enforced(limit, by string) { r.result.Enforced[limit] = by }

func (r *report) enforces(limit, by string) bool { return r.result.Enforced[limit] == by }

// noteEnforced is about what no cgroup enforces.
func (r *report) noteEnforced() {
	for _, limit := range []struct {
		asked    bool
		name, by string
	}{
		{r.cfg.WallTime > 0, "wall_time", ByTimer},
		{r.cfg.OutputLimit > 0, "output", ByRelay},
		{len(r.cfg.Rlimits) > 0, "ulimit", ByRlimit},
		{r.cfg.NoNetwork, "net", ByNamespace},
	} {
		if limit.asked {
			r.enforced(limit.name, limit.by)
		}
	}
}

func (r *report) version(host *cgroup.Host) {
	version := int(host.Version())
	r.result.CgroupVersion = &version
}

// hasGroup says where the run's group is.
func (r *report) hasGroup(place *place.Place, group *rungroup.Group) {
	where := group.Cgroup.Path()
	r.result.Cgroup, r.place, r.hits = &where, place, group.Hits
}

func (r *report) hasNoGroup() { r.result.Cgroup, r.place = nil, nil }

// programStarted says that the program runs.
func (r *report) programStarted(p *reexec.Program, created time.Time) {
	r.started = created
	at := created.UTC().Format("2006-01-02T15:04:05.000000Z")
	r.result.StartedAt, r.result.PID = &at, &p.PID
	r.result.SetupSeconds = seconds(created.Sub(r.began))
	if r.cfg.OnEvent == nil {
		return
	}
	e := &Started{Type: "started", SchemaVersion: SchemaVersion, PID: p.PID, Cgroup: r.result.Cgroup, StartedAt: at, Born: p.Born}
	if r.place != nil {
		e.Manager, e.Placement = optional(r.place.Manager), optional(r.place.Reason)
	}
	r.cfg.OnEvent(e)
}

// sinceStart is the run's wall time so far.
func (r *report) sinceStart() Seconds { return Seconds(time.Since(r.started).Seconds()) }

// LimitReached tells of a limit, once.
func (r *report) LimitReached(name string, endsRun bool) {
	if r.cfg.OnEvent != nil && !slices.Contains(r.told, name) {
		r.told = append(r.told, name)
		r.cfg.OnEvent(&LimitReached{Type: "limit", Limit: name, WallSeconds: r.sinceStart(), EndsRun: endsRun})
	}
}

// Sample tells of one, and of the limits that it shows to be reached.
func (r *report) Sample(s cgroup.Stats) {
	if r.cfg.OnEvent == nil {
		return
	}
	r.cfg.OnEvent(&Sample{Type: "sample", WallSeconds: r.sinceStart(), Usage: UsageOf(&s)})
	if r.hits == nil {
		return
	}
	for _, name := range r.hits(&s) {
		if name != monitor.Memory { // that it ends the run, if it does, is found by those who watch for it
			r.LimitReached(name, false)
		}
	}
}

// leftover notes how many processes have outlived the program; nil: that is not known.
func (r *report) leftover(n *uint64) { r.result.LeftoverKilled = n }

// finished is the result of a run whose program has run, once everything of it is gone.
func (r *report) finished(e *ending) *Result {
	r.classify(e)
	r.result.TeardownSeconds = seconds(time.Since(e.seen))
	return r.result
}

// classify puts into the result how the program has ended, the limits that were reached, whether or not that ended the run, and the
// verdict.
func (r *report) classify(e *ending) {
	for _, name := range e.hits() {
		if !slices.Contains(r.result.LimitsHit, name) {
			r.result.LimitsHit = append(r.result.LimitsHit, name)
			r.LimitReached(name, name == limitOf[e.limit()] || name == e.ulimit)
		}
	}
	res := r.result
	if res.Verdict = e.verdict(); !e.ran {
		return
	}
	res.WallSeconds = seconds(e.wall)
	dumped := e.status.CoreDump()
	res.CoreDumped = &dumped
	if e.status.Signaled() {
		number, name := int(e.status.Signal()), unix.SignalName(e.status.Signal())
		res.Signal, res.SignalName = &number, optional(name)
	} else {
		code := e.status.ExitStatus()
		res.ExitCode = &code
	}
}

// SetupError is the result for a caller that could not make its own preparations for a run, such as for
// signals.
func SetupError(cfg *Config, step string, err error) *Result {
	return newReport(cfg).failed(at(step, err))
}
