package shim

import (
	"context"
	"errors"
	"os"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
)

// signalPolicy is what a signal to cgshim does, besides being forwarded to the program.
var signalPolicy = map[unix.Signal]struct {
	cancels bool // the program may take the stop timeout, then everything is killed
	stops   bool // cgshim stops, too, once the program has
}{
	unix.SIGTERM:  {cancels: true},
	unix.SIGINT:   {cancels: true},
	unix.SIGHUP:   {cancels: true},
	unix.SIGQUIT:  {cancels: true},
	unix.SIGUSR1:  {},
	unix.SIGUSR2:  {},
	unix.SIGWINCH: {},
	unix.SIGCONT:  {},
	unix.SIGTSTP:  {stops: true},
}

// A TerminalSignal is one that the terminal has sent to its foreground process group. The program is in that
// group, too, and has it already: it is not forwarded. A second one that cancels kills everything at once.
//
// SIGTTIN and SIGTTOU, by which a terminal stops background processes that use it, stop cgshim as they stop
// the program.
type TerminalSignal unix.Signal

// String is the name of the signal.
func (s TerminalSignal) String() string { return unix.Signal(s).String() }

// Signal is for os.Signal.
func (s TerminalSignal) Signal() {}

// ForwardedSignals lists the signals to install a handler for, before Run.
func ForwardedSignals() []os.Signal {
	list := make([]os.Signal, 0, len(signalPolicy))
	for sig := range signalPolicy {
		list = append(list, sig)
	}
	return list
}

// supervise waits for the program's end, and brings it about when a limit is reached or it is told to.
func (r *run) supervise(ctx context.Context) {
	var t alarms
	if r.cfg.WallTime > 0 {
		t.wall.set(r.cfg.WallTime - time.Since(r.started))
	}
	budget := cpuBudget{cpus: r.cpuCount()}
	if r.cfg.CPUTime > 0 {
		t.cpu.set(budget.wait(r.cfg.CPUTime))
	}
	if r.cfg.Sample > 0 {
		t.sample.set(r.cfg.Sample)
		if r.group != nil {
			r.group.Tune(cgroup.Tuning{KeepOpen: true})
		}
	}
	if r.lacksPeak() {
		t.samplePeak.set(0)
	}
	if r.oom.watched() && r.oom.v1 {
		t.baseline.set(oomBaseline)
	}
	r.samples.regular = t.sample.isSet() || t.samplePeak.isSet()
	r.watchEnd(&t)
	for _, sig := range r.early {
		// A terminal's, too: while it was launched, the program was in the stage's process group.
		if number, fromTerminal := signalNumber(sig); fromTerminal {
			_ = unix.Kill(r.program.PID, number)
		}
		r.forward(sig, &t)
	}
	for !r.immortal { // what could not be killed can't be waited for
		if r.killed && !t.lost.isSet() {
			t.lost.set(killTimeout)
		}
		var oom bool
		if !r.watch.gone {
			oom = r.wait(&t)
		}
		now := time.Now()
		if r.over() {
			r.ended = now
			r.drainSignals()
			return
		}
		if t.attend.due(now) {
			r.attend(ctx, &t.attend)
		}
		for _, sig := range r.takeSignals(ctx) {
			r.forward(sig, &t)
		}
		r.takeTrap()
		if r.oom.looks(oom, &t.oom, now) && r.oomKilled() {
			r.oom.stop()
			r.kill(MemoryLimit)
		}
		if r.output != nil && !r.killed && r.output.tooMuch() {
			r.kill(OutputLimit)
		}
		r.ring(&t, &budget, now)
		if t.lost.due(now) {
			r.noteError("wait", errTraced)
			return
		}
	}
}

// ring does what it is time for.
func (r *run) ring(t *alarms, budget *cpuBudget, now time.Time) {
	if t.suspend.due(now) {
		r.suspend(&t.suspend)
	}
	if t.baseline.due(now) {
		r.noteSystemOOMKills()
	}
	if t.wall.due(now) {
		r.timeIsUp(WallTimeLimit, &t.grace)
	}
	if t.cpu.due(now) {
		r.checkCPU(budget, &t.cpu, &t.grace)
	}
	if t.stop.due(now) {
		r.kill("")
	}
	if t.grace.due(now) {
		r.kill("")
	}
	if t.sample.due(now) {
		t.sample.set(r.cfg.Sample)
		r.sample()
	}
	if t.samplePeak.due(now) {
		t.samplePeak.set(peakInterval)
		r.readSample()
	}
}

// newTimer is a timer that is running, or one to be Reset.
func newTimer(running bool, d time.Duration) *time.Timer {
	t := time.NewTimer(max(d, 0))
	if !running {
		t.Stop()
	}
	return t
}

// checkCPU ends the run if its CPU time is used up, and otherwise says when to look again.
func (r *run) checkCPU(budget *cpuBudget, next, grace *alarm) {
	rest, err := r.cpuRest()
	switch {
	case err != nil:
		// There is nothing left to enforce the limit with.
		r.noteError("cpu-time", err)
		r.broken = true
		r.kill("")
	case rest <= 0:
		r.timeIsUp(CPUTimeLimit, grace)
	default:
		next.set(budget.wait(rest))
	}
}

// A cpuBudget schedules the checks of the CPU time: never later than the rest could be used up, with all
// CPUs busy, unless that is very soon and the run has been idle since the last look.
type cpuBudget struct {
	cpus int
	last time.Duration // the rest at the last look
	idle time.Duration // the pause before this one, while nothing was used
}

const (
	// cpuCheckMin bounds how often the CPU time is read when the budget is nearly used up. The kernel
	// brings the figure of a running task up to date once per tick, 1 to 10 ms.
	cpuCheckMin = 500 * time.Microsecond
	// cpuCheckIdle bounds what a run that wakes up can use unseen.
	cpuCheckIdle = 10 * time.Millisecond
)

func (b *cpuBudget) wait(rest time.Duration) time.Duration {
	if rest != b.last {
		b.idle = 0
	} else {
		b.idle = min(max(2*b.idle, cpuCheckMin), cpuCheckIdle)
	}
	b.last = rest
	return max(rest/time.Duration(b.cpus), cpuCheckMin, b.idle)
}

// cpuRest is what is left of the CPU time.
func (r *run) cpuRest() (time.Duration, error) {
	used, err := r.cpuUsage()
	return r.cfg.CPUTime - used, err
}

// cpuUsage is the CPU time of the run so far; without a group that tells it, of the program's threads.
func (r *run) cpuUsage() (time.Duration, error) {
	if r.group == nil || !r.host.Has(cgroup.CPUAcct) {
		const schedClock = 2 // CPUCLOCK_SCHED: see clock_getcpuclockid(3)
		var ts unix.Timespec
		err := unix.ClockGettime(int32(^r.program.PID<<3|schedClock), &ts)
		return time.Duration(ts.Nano()), err
	}
	s, err := r.group.Stats(cgroup.PartCPUUsage)
	if err == nil && !s.CPUUsage.Known() {
		err = errors.New("the kernel does not tell the CPU time used")
	}
	return time.Duration(s.CPUUsage.Value), err
}

// cpuCount is how many CPUs the run can keep busy at once, and so how fast it can use up its CPU time.
// It is not runtime.NumCPU: that is our own affinity, which the program may widen. Nor the bandwidth
// limit: a whole period's quota can be used on all CPUs at once.
func (r *run) cpuCount() int {
	if r.cfg.CPUTime == 0 {
		return 1
	}
	if online, err := cgroup.OnlineCPUs(); err == nil {
		return len(online)
	}
	return runtime.NumCPU()
}

// forward passes a signal on. A cancelling one gives the program until the stop timeout, and one from the
// terminal no more than until the next.
func (r *run) forward(sig os.Signal, t *alarms) {
	number, fromTerminal := signalNumber(sig)
	if !fromTerminal && number != 0 {
		// Our unreaped child: the pid is the program's or a zombie's.
		_ = unix.Kill(r.program.PID, number)
	}
	policy := signalPolicy[number]
	switch {
	case policy.stops:
		r.suspendUntil = time.Now().Add(suspendPatience)
		t.suspend.set(0)
	case policy.cancels && !r.cancelled:
		r.cancelled = true
		t.stop.set(r.cfg.stopTimeout())
	case policy.cancels && fromTerminal:
		t.stop.set(0)
	}
}

// suspendPatience is how long a program may take to stop, after it has been asked to. One that does not
// stop would not without cgshim either; and nobody would enforce its limits while cgshim is stopped.
const suspendPatience = 5 * time.Second

// suspend stops this process, as the program's Ctrl-Z does without it, so that the shell notices. It goes on with
// SIGCONT, which the program gets as well. The limits of time go on, too: they are seen to afterwards.
func (r *run) suspend(again *alarm) {
	p, err := readProcess(r.program.PID)
	switch {
	case err == nil && p.stopped:
		_ = unix.Kill(os.Getpid(), unix.SIGSTOP)
	case err == nil && time.Now().Before(r.suspendUntil):
		again.set(2 * time.Millisecond)
	}
}

// signalNumber is 0 for what is no signal of this system.
func signalNumber(sig os.Signal) (number unix.Signal, fromTerminal bool) {
	if terminal, ok := sig.(TerminalSignal); ok {
		return unix.Signal(terminal), true
	}
	number, _ = sig.(unix.Signal)
	return number, false
}

// Cancels says whether a signal to cgshim cancels the run, besides being forwarded.
func Cancels(sig os.Signal) bool { return cancels(sig) }

func cancels(sig os.Signal) bool {
	number, _ := signalNumber(sig)
	return signalPolicy[number].cancels
}

// signalLag is how long a signal may be on its way through this process; killLag is for one of which there is no sign but
// a SIGKILL that we have not sent.
const (
	signalLag = 100 * time.Millisecond
	killLag   = 5 * time.Millisecond
)

// drainSignals notices a cancelling signal that came to cgshim and program alike, and ended the program
// before cgshim looked. To the members of a process group the kernel sends a signal before any of them can be seen
// to have ended, so that it has come, if it comes at all; but not all the way: that is waited for if the program
// died of such a signal.
func (r *run) drainSignals() {
	late := r.watch.relay.end()
	if r.killedFor != "" {
		return // --grace's SIGTERM, and the verdict is there
	}
	late = append(late, r.pendingSignals()...)
	r.cancelled = r.cancelled || slices.ContainsFunc(late, cancels)
	patience := time.Duration(0)
	switch {
	case signalPolicy[r.diedOf].cancels:
		patience = signalLag
	case r.diedOf == unix.SIGKILL && !r.killed: // which somebody may have sent after another, to a cgshim that was stopped
		patience = killLag
	}
	// No channel and no timer: it would take a thread to feed them, see threads.go.
	for end := time.Now().Add(patience); !r.cancelled && time.Now().Before(end) && (r.cfg.Signals != nil || r.cfg.SignalSource != nil); {
		pause := unix.NsecToTimespec(int64(time.Millisecond))
		_, _ = unix.Ppoll(nil, &pause, nil) // which a signal ends
		r.cancelled = slices.ContainsFunc(r.pendingSignals(), cancels)
	}
}

// timeIsUp ends the run for a time limit: at once, or with a SIGTERM and a grace.
func (r *run) timeIsUp(reason Verdict, grace *alarm) {
	if r.cfg.Grace == 0 || r.oomKilled() {
		r.kill(reason)
		return
	}
	if r.killedFor == "" && !r.over() {
		r.blame(reason)
		_ = unix.Kill(r.program.PID, unix.SIGTERM) // our unreaped child
		grace.set(r.cfg.Grace)
	}
}

// kill ends the run for a limit, or for none (""), unless it has ended already: a program that is done,
// or that the OOM killer got first, is not killed by a timer.
func (r *run) kill(reason Verdict) {
	if r.over() {
		return
	}
	if r.oomKilled() {
		reason = MemoryLimit
	}
	if r.killedFor == "" && reason != "" {
		r.blame(reason)
	}
	if reason != MemoryLimit { // for which the kernel has killed already
		r.readSample() // afterwards there is nothing left to see
	}
	// By its pid, too, which is our unreaped child's: root, or whose the groups around are, may have left the run's.
	_ = unix.Kill(r.program.PID, unix.SIGKILL)
	r.killGroup()
	r.killed = true
}

// errTraced is for a program that was killed, and whose end is another process's to see first: see ptrace(2).
var errTraced = errors.New("the program has been killed, and another process, which traces it, keeps its end from us")

// untrace lets a program go on that has made us its tracer (PTRACE_TRACEME), and stands at a signal, which it gets. The
// parent, which is to be the tracer, is this thread.
func (r *run) untrace(sig unix.Signal) {
	if sig == unix.SIGTRAP {
		sig = 0 // execve's
	}
	_, _, _ = unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_DETACH, uintptr(r.program.PID), 0, uintptr(sig), 0, 0)
}

// limitOf is the name in limits_hit of the limit that a verdict is about.
var limitOf = map[Verdict]string{
	MemoryLimit: "memory", CPUTimeLimit: "cpu_time", WallTimeLimit: "wall_time", OutputLimit: "output",
}

// blame makes a limit the one that ended the run.
func (r *run) blame(reason Verdict) {
	r.killedFor = reason
	r.tell(limitOf[reason], true)
}

// tell announces a limit that was reached, once.
func (r *run) tell(limit string, endsRun bool) {
	if !slices.Contains(r.told, limit) {
		r.told = append(r.told, limit)
		r.emit(&LimitReached{Type: "limit", Limit: limit, WallSeconds: r.sinceStart(), EndsRun: endsRun})
	}
}

// killGroup kills every process of the run.
func (r *run) killGroup() {
	ctx, cancel := context.WithTimeout(context.Background(), killTimeout)
	defer cancel()
	kill := r.killStrays
	if r.group != nil {
		kill = r.group.Kill
	}
	if err := kill(ctx); err != nil {
		r.noteError("kill", err)
		r.immortal = true
	}
}
