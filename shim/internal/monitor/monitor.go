// Package monitor watches a program until its run has ended, and ends the run when a limit is reached or somebody says so. What it finds
// is an Outcome.
//
// That is one ppoll(2), over the program's pidfd and a few other descriptors: a program of a millisecond needs no goroutine, whose
// thread would have to be made, and one of an hour wakes nobody up. What no descriptor tells, goroutines tell by a waker; they
// are there when a run takes longer, see attend.
package monitor

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/shim/internal/lifeline"
	"github.com/cgshim/cgshim/shim/internal/rungroup"
)

// The limits that a monitor enforces, by their names in limits_hit.
const (
	Memory   = "memory"
	CPUTime  = "cpu_time"
	WallTime = "wall_time"
	Output   = "output"
)

// KillTimeout is how long processes may take to die after SIGKILL. One that has to give back tens of
// gigabytes needs seconds; one in an uninterruptible sleep may need for ever, and is then reported.
const KillTimeout = 10 * time.Second

// A Run is what is to be watched.
type Run struct {
	Group   *rungroup.Group // with the program's pid, a child of this thread that nobody else waits for
	Started time.Time       // the program's creation
	// StartedNanos is Started on CLOCK_MONOTONIC.
	StartedNanos int64

	// The limits; 0 is none. After a limit of time the program gets a SIGTERM, and Grace later everything is killed; without a
	// Grace, at once.
	CPUTime, WallTime, Grace time.Duration
	// OutputLimited is the output, if that is limited; else nil.
	OutputLimited interface {
		OnExceeded(notify func())
		TooMuch() bool
	}
	// StopTimeout is how long the program may take to end after it was told to.
	StopTimeout time.Duration
	// WaitAll has the run end with its last process.
	WaitAll bool
	// Sample is how often to call Report.Sample; 0 is never.
	Sample time.Duration

	// Spared are children of this process that ReapOrphans is to leave alone.
	Spared []int
	// ChildEvents opens what becomes readable when a child has ended, for a Group with a Subreaper; nil: os/signal tells. See orphans.
	ChildEvents func() (fd int, err error)
	// Alive are files whose end cancels the run.
	Alive *lifeline.Files

	Signals *Signals
	// Early are signals that came before there was a program.
	Early []os.Signal

	// TakesLonger is called once, or until it returns true, when the run takes longer than AttendAfter: to get ready for goroutines.
	// False is that there can be none now.
	TakesLonger func(must bool) bool
	Report      Report
}

// A Report is told of a run while it is watched, from the goroutine of Watch.
type Report interface {
	// Error is what went wrong, and at which step.
	Error(step string, err error)
	Warn(text string)
	// LimitReached names a limit; it can be the same again.
	LimitReached(name string, endsRun bool)
	// Sample is called every Run.Sample.
	Sample(usage cgroup.Stats)
}

// An Outcome is how a run has ended.
type Outcome struct {
	// Ended is when the end was seen; the program is a zombie by then. Zero: it was not, see Unkillable.
	Ended time.Time
	// First says whether the end or the wall time came first, as far as the kernel tells.
	First First
	// DiedOf is the signal that has ended the program; 0 if none has, or it is not known.
	DiedOf unix.Signal
	// Killed says that the watcher has killed the program, for a limit or because it was told to.
	Killed bool
	// EndedBy is the limit that the run was ended for; "" if it was for none.
	EndedBy string
	// Cancelled says that this process was told to stop.
	Cancelled bool
	// EnforcementLost says that a limit could not be enforced any more.
	EnforcementLost bool
	// Unkillable says that something did not die of SIGKILL in time.
	Unkillable bool
}

// watcher is a Run that is being watched.
type watcher struct {
	*Run
	Outcome

	alarms       alarms
	budget       cpuBudget
	orphans      orphans
	suspendUntil time.Time // how long to wait for the program to stop

	wake   waker
	pidfd  int // 0 without (before Linux 5.3), or if somebody else is to see the program's end first
	finish finish

	gone  bool          // the program is
	end   chan struct{} // closed by the goroutine that waits for the end without a pidfd, or of the last process; nil: there is none
	traps chan unix.Signal
	leave context.CancelFunc // ends the wait for the last process; nil: there is none
	inbox *inbox
}

// Watch waits for the program's end, and brings it about when a limit is reached or it is told to. The end of ctx cancels the run. It
// is called by the thread that is the program's parent.
func (r *Run) Watch(ctx context.Context) Outcome {
	w := &watcher{Run: r, budget: cpuBudget{cpus: cpuCount(r.CPUTime)}}
	w.setAlarms()
	w.open()
	defer w.close()
	for _, sig := range r.Early {
		// A terminal's, too: while it was launched, the program was in the stage's process group.
		if number, fromTerminal := r.Signals.Number(sig); fromTerminal {
			_ = unix.Kill(r.Group.Program, number)
		}
		w.forward(sig)
	}
	if w.Alive.End() { // while it was launched
		w.forward(unix.SIGTERM)
	}
	w.loop(ctx)
	return w.Outcome
}

func (w *watcher) setAlarms() {
	t := &w.alarms
	if w.WallTime > 0 {
		t.wall.set(w.WallTime - time.Since(w.Started))
	}
	if w.CPUTime > 0 {
		t.cpu.set(w.budget.wait(w.CPUTime))
	}
	if w.Run.Sample > 0 {
		t.sample.set(w.Run.Sample)
		if w.Group.Cgroup != nil {
			w.Group.Cgroup.Tune(cgroup.Tuning{KeepOpen: true})
		}
	}
	if w.Group.LacksPeak() {
		w.Report.Warn("peak_memory_bytes is sampled every " + rungroup.PeakInterval.String() + ": this kernel does not keep the peak")
		t.samplePeak.set(0)
	}
	if after := w.Group.OOM.BaselineAfter(); after > 0 {
		t.baseline.set(after)
	}
	if t.sample.isSet() || t.samplePeak.isSet() {
		w.Group.SampleRegularly()
	}
}

func (w *watcher) loop(ctx context.Context) {
	t := &w.alarms
	for !w.Unkillable { // what could not be killed can't be waited for
		if w.Killed && !t.lost.isSet() {
			t.lost.set(KillTimeout)
		}
		var oom bool
		if !w.gone {
			oom = w.wait()
		}
		now := time.Now()
		if w.over() {
			w.Ended = now
			w.drainSignals()
			return
		}
		if t.attend.due(now) {
			w.attend(ctx)
		}
		w.reapOrphans(now)
		if w.Alive.End() {
			w.forward(unix.SIGTERM)
		}
		for _, sig := range w.takeSignals() {
			w.forward(sig)
		}
		w.takeTrap()
		w.lookForOOM(oom, now)
		if w.OutputLimited != nil && !w.Killed && w.OutputLimited.TooMuch() {
			w.kill(Output)
		}
		w.ring(now)
		if t.lost.due(now) {
			w.Report.Error("wait", ErrTraced)
			return
		}
	}
}

// ErrTraced is the error of a program that was killed, and whose end is another process's to see first: see ptrace(2).
var ErrTraced = errors.New("the program has been killed, and another process, which traces it, keeps its end from us")

func (w *watcher) lookForOOM(event bool, now time.Time) {
	look, again := w.Group.OOM.Look(event, w.alarms.oom.due(now))
	if again {
		w.alarms.oom.set(rungroup.OOMInterval)
	}
	if look && w.Group.OOMKilled() {
		w.Group.OOM.Close()
		w.kill(Memory)
	}
}

// ring does what it is time for.
func (w *watcher) ring(now time.Time) {
	t := &w.alarms
	if t.suspend.due(now) {
		w.suspend()
	}
	if t.baseline.due(now) {
		w.Group.NoteSystemKills()
	}
	if t.wall.due(now) {
		w.timeIsUp(WallTime)
	}
	if t.cpu.due(now) {
		w.checkCPU()
	}
	if t.stop.due(now) {
		w.kill("")
	}
	if t.grace.due(now) {
		w.kill("")
	}
	if t.sample.due(now) {
		t.sample.set(w.Run.Sample)
		w.Report.Sample(w.Group.Usage())
	}
	if t.samplePeak.due(now) {
		t.samplePeak.set(rungroup.PeakInterval)
		w.Group.ReadSample()
	}
}
