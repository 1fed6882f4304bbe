package shim

import (
	"slices"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/reexec"
	"github.com/cgshim/cgshim/shim/internal/confine"
	"github.com/cgshim/cgshim/shim/internal/lifeline"
	"github.com/cgshim/cgshim/shim/internal/monitor"
	"github.com/cgshim/cgshim/shim/internal/place"
	"github.com/cgshim/cgshim/shim/internal/rungroup"
	"github.com/cgshim/cgshim/shim/internal/seam"
)

// killTimeout is how long processes may take to die after SIGKILL.
const killTimeout = monitor.KillTimeout

func detect() (*cgroup.Host, error) { return seam.Detect() }

// resources are what a run has of the system. Those that are not there yet, or not needed, are zero.
type resources struct {
	cfg    *Config
	report *report
	gate   *gate    // of a Pool; nil: there is none
	reaper *reaper  // likewise
	undo   []func() // in the order of acquiring

	threads   int // how many are reserved, see threads.go
	stage     *reexec.Stage
	score     *oomScore // the stage's, if it is open already
	owner     string    // this process, as the group's owner
	name      string    // the last element of the group's path
	host      *cgroup.Host
	place     place.Place
	placement placement
	group     rungroup.Group
	join      *cgroup.Join     // open already; nil: it is not
	fallback  fallback         // what enforces instead of the group
	ruleset   *confine.Ruleset // for the program; nil: there is none
	launching monitor.Launch
	alive     *lifeline.Files // whose end cancels the run

	meanwhile  func()               // called while the stage is at work; nil: nothing is to be done
	started    func()               // called when the program is there; nil likewise
	longer     func(must bool) bool // see takesLonger; nil likewise
	retried    bool                 // the launch has been, see slot.retry
	swept      bool                 // the run has begun to clean up after others
	killed     bool                 // somebody but the program was alive at its end, and has been killed
	unkillable bool                 // something did not die of SIGKILL in time: what it is in stays
}

func newResources(cfg *Config, report *report, gate *gate) *resources {
	res := &resources{cfg: cfg, report: report, gate: gate}
	res.group.Limits = cfg.Limits
	res.alive = lifeline.Watch(cfg.Alive)
	res.launching = monitor.Launch{Group: &res.group, WallTime: cfg.WallTime, StopTimeout: cfg.stopTimeout(), Signals: newSignals(cfg)}
	return res
}

// laterLast has release call undo after everything else.
func (res *resources) laterLast(undo func()) { res.undo = slices.Insert(res.undo, 0, undo) }

// later has release call undo, before what was acquired earlier is given back.
func (res *resources) later(undo func()) { res.undo = append(res.undo, undo) }

// release gives back what there is. It can be called again.
func (res *resources) release() {
	res.closeJoin()
	for len(res.undo) > 0 {
		last := len(res.undo) - 1
		undo := res.undo[last]
		res.undo = res.undo[:last]
		undo()
	}
}

func (res *resources) closeJoin() {
	if res.join != nil {
		res.join.Close()
		res.join = nil
	}
}

// takesLonger is called when the run takes longer than a few milliseconds: there will be goroutines. must says that it can't go on
// without. False is that it has to, for now.
func (res *resources) takesLonger(must bool) bool { return res.longer == nil || res.longer(must) }

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

// A fallback is what Config.BestEffort does instead of what can't be had.
type fallback struct {
	limits  []reexec.Rlimit
	hostNet bool // no network namespace can be made
}

// spared are the children of this process that are waited for elsewhere, but for the program.
func (res *resources) spared() []int {
	if !res.group.Reaps() || res.stage == nil {
		return nil
	}
	if pid := res.stage.PID(); pid != 0 {
		return []int{pid}
	}
	return nil
}
