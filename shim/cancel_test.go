package shim

import (
	"context"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/shim/internal/ledger"
	"github.com/cgshim/cgshim/shim/internal/monitor"
)

// started runs a Config whose program reports that it is ready, and returns when it has. What a test that fails leaves is
// killed in the end.
func started(t *testing.T, ctx context.Context, cfg Config, wait func()) <-chan *Result {
	t.Helper()
	done := make(chan *Result, 1)
	over := make(chan struct{})
	go func() {
		done <- Run(ctx, cfg)
		close(over)
	}()
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		if host, err := cgroup.Detect(); err == nil {
			list, _ := ledger.Groups(host, cfg.Parent, "")
			for _, entry := range list {
				if group, err := host.Open(entry.Path); err == nil {
					_ = group.Kill(context.Background())
				}
			}
		}
		<-over
	})
	wait()
	return done
}

func finished(t *testing.T, done <-chan *Result) *Result {
	t.Helper()
	select {
	case res := <-done:
		return res
	case <-time.After(safety):
		t.Fatal("the run does not end")
		return nil
	}
}

const (
	diesAtOnce   = `echo >"$0"; exec sleep 10000`
	ignoresTERM  = `trap "" TERM; echo >"$0"; exec sleep 10000`
	endsCleanly  = `trap "exit 0" TERM; echo >"$0"; while :; do sleep 0.05; done`
	exitsOnUSR1  = `trap "exit 7" USR1; echo >"$0"; while :; do sleep 0.05; done`
	forksAndWait = `trap "" TERM; sleep 10000 & echo >"$0"; wait; wait; sleep 10000`
)

func TestCancelByContext(t *testing.T) {
	parent := newParent(t)
	for name, test := range map[string]struct {
		script      string
		stopTimeout time.Duration
		exitCode    any
		signal      any
	}{
		"dies at once": {diesAtOnce, time.Hour, nil, 15}, // of the signal, and not of what follows an hour later
		"ends cleanly": {endsCleanly, time.Hour, 0, nil},
		"ignores it":   {ignoresTERM, 200 * time.Millisecond, nil, 9},
		"no patience":  {ignoresTERM, -1, nil, 9},
		"has children": {forksAndWait, 200 * time.Millisecond, nil, 9},
	} {
		ready, wait := readiness(t)
		cfg := shell(parent, test.script, ready)
		cfg.StopTimeout = test.stopTimeout
		ctx, cancel := context.WithCancel(context.Background())
		done := started(t, ctx, cfg, wait)
		cancel()
		res := finished(t, done)
		if res.Verdict != Cancelled || deref(res.ExitCode) != test.exitCode || deref(res.Signal) != test.signal ||
			res.Error != nil || len(res.LimitsHit) != 0 {
			t.Errorf("%s: %s", name, res.JSON(false))
		}
	}
}

func TestCancelBySignals(t *testing.T) {
	parent := newParent(t)
	for sig, script := range map[unix.Signal]string{
		unix.SIGTERM: diesAtOnce, unix.SIGINT: diesAtOnce, unix.SIGHUP: diesAtOnce, unix.SIGQUIT: "ulimit -c 0; " + diesAtOnce,
	} {
		ready, wait := readiness(t)
		signals := make(chan os.Signal, 1)
		cfg := shell(parent, script, ready)
		cfg.Signals, cfg.StopTimeout = signals, time.Hour
		done := started(t, context.Background(), cfg, wait)
		signals <- sig
		res := finished(t, done)
		// The program dies of the signal that came, not of a SIGTERM for each.
		if res.Verdict != Cancelled || deref(res.Signal) != int(sig) || res.ExitStatus() != 128+int(sig) {
			t.Errorf("%v: %s", sig, res.JSON(false))
		}
	}
}

// A fakeSource is a SignalSource.
type fakeSource struct {
	pending, late []os.Signal // those that Pending has the first time, and the fourth; a channel that is asked for before has them
	looks         int
	channel       chan os.Signal
	asked         bool
}

func (s *fakeSource) Pending() (list []os.Signal) {
	switch s.looks++; s.looks {
	case 1:
		return s.pending
	case 4:
		return s.late
	}
	return nil
}

func (s *fakeSource) Channel() <-chan os.Signal {
	s.asked = true
	var list []os.Signal
	if s.looks < 1 { // the launch takes long, on a slow machine
		list = s.pending
	}
	if s.looks < 4 { // or the program does
		list = slices.Concat(list, s.late)
	}
	if list != nil {
		s.channel = make(chan os.Signal, len(list))
		for _, sig := range list {
			s.channel <- sig
		}
	}
	return s.channel
}

// What has come before the program is found by looking; what comes to a run that takes longer, by the channel, which a short one
// does not ask for.
func TestSignalSource(t *testing.T) {
	parent := newParent(t)
	early := &fakeSource{pending: []os.Signal{unix.SIGTERM}}
	cfg := shell(parent, "sleep 60")
	cfg.SignalSource = early
	if res := mustRun(t, cfg); res.Verdict != Cancelled || deref(res.Signal) != int(unix.SIGTERM) {
		t.Errorf("before the program: %s", res.JSON(false))
	}
	ready, wait := readiness(t)
	late := &fakeSource{channel: make(chan os.Signal, 1)}
	cfg = shell(parent, diesAtOnce, ready)
	cfg.SignalSource, cfg.StopTimeout = late, time.Hour
	done := started(t, context.Background(), cfg, wait)
	late.channel <- unix.SIGINT
	if res := finished(t, done); res.Verdict != Cancelled || deref(res.Signal) != int(unix.SIGINT) || !late.asked {
		t.Errorf("while it runs: %s", res.JSON(false))
	}
	last := &fakeSource{late: []os.Signal{unix.SIGHUP}} // on its way, when the program dies of it
	cfg = shell(parent, "kill -HUP $$")
	cfg.SignalSource = last
	if res := mustRun(t, cfg); res.Verdict != Cancelled {
		t.Errorf("with the program: %s", res.JSON(false))
	}
	short := 0
	for i := 0; i < 50 && short < 3; i++ { // on a busy machine most may take longer, and on an emulated CPU each
		source := &fakeSource{channel: make(chan os.Signal)}
		cfg = Config{Args: []string{"/bin/true"}, Parent: parent, SignalSource: source, Limits: cgroup.Limits{PIDs: 5}}
		res := mustRun(t, cfg)
		// One whose launch takes long asks, too; and one that has nearly taken long, if its end is seen late.
		if res.WallSeconds == nil || float64(*res.SetupSeconds+*res.WallSeconds) >= monitor.AttendAfter.Seconds()*3/4 {
			continue
		}
		if short++; source.asked {
			t.Errorf("a short run asks for the channel: %s", res.JSON(false))
		}
	}
	if short == 0 {
		t.Log("no run of true was short: nothing is shown about those")
	}
}

// The stop timeout runs from the first signal: a caller that repeats it does not keep the program alive.
func TestCancelAgainAndAgain(t *testing.T) {
	ready, wait := readiness(t)
	signals := make(chan os.Signal)
	cfg := shell(newParent(t), ignoresTERM, ready)
	cfg.Signals, cfg.StopTimeout = signals, 300*time.Millisecond
	done := started(t, context.Background(), cfg, wait)
	deadline := time.After(safety)
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		select {
		case <-again.C:
			select {
			case signals <- unix.SIGTERM:
			default: // the run is not looking
			}
		case res := <-done:
			if res.Verdict != Cancelled || deref(res.Signal) != 9 {
				t.Errorf("%s", res.JSON(false))
			}
			return
		case <-deadline:
			t.Fatal("the run does not end while signals come in")
		}
	}
}

func TestForwardedSignalDoesNotCancel(t *testing.T) {
	ready, wait := readiness(t)
	signals := make(chan os.Signal, 1)
	cfg := shell(newParent(t), exitsOnUSR1, ready)
	cfg.Signals = signals
	done := started(t, context.Background(), cfg, wait)
	signals <- unix.SIGUSR1
	if res := finished(t, done); res.Verdict != NonzeroExit || deref(res.ExitCode) != 7 {
		t.Errorf("%s", res.JSON(false))
	}
}

// A run that was called off before it began still has a result, and ends.
func TestCancelBeforeStart(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	cfg := shell(newParent(t), "exec sleep 10000")
	cfg.StopTimeout = time.Hour
	if res := Run(ctx, cfg); res.Verdict != Cancelled || deref(res.Signal) != 15 {
		t.Errorf("%s", res.JSON(false))
	}
}

// A time limit that fires while the program is stopping ends the run then: the stop timeout does not
// suspend it.
func TestWallTimeWhileStopping(t *testing.T) {
	ready, wait := readiness(t)
	signals := make(chan os.Signal, 1)
	cfg := shell(newParent(t), ignoresTERM, ready)
	cfg.Signals, cfg.StopTimeout, cfg.WallTime = signals, time.Hour, slowly(time.Second)
	done := started(t, context.Background(), cfg, wait)
	signals <- unix.SIGTERM
	if res := finished(t, done); res.Verdict != WallTimeLimit || deref(res.Signal) != 9 {
		t.Errorf("%s", res.JSON(false))
	}
}

// closedSignals is a caller that closes Config.Signals.
func closedSignals(args []string) {
	signals := make(chan os.Signal)
	close(signals)
	res := Run(context.Background(), Config{Args: []string{"/bin/true"}, Parent: args[0], Signals: signals})
	if res.Verdict != OK {
		os.Stderr.Write(res.JSON(false))
		os.Exit(1)
	}
}

// A closed channel has no more signals to forward. Regression: drainSignals read from it for ever.
func TestSignalsClosed(t *testing.T) {
	cfg := self(t, newParent(t), "closed-signals")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, cfg.Args[0], cfg.Parent) // apart, because it would spin in here
	cmd.Env = cfg.Env
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, strings.TrimSpace(string(out)))
	}
}

// Regression: a program that died of a signal which cancels was waited for for ever, by a caller who forwards none.
func TestNoSignals(t *testing.T) {
	for _, name := range []string{"TERM", "INT", "HUP", "QUIT", "KILL"} {
		r := mustRun(t, shell(newParent(t), "kill -"+name+" $$"))
		if r.Verdict != Signaled || deref(r.SignalName) != "SIG"+name {
			t.Errorf("SIG%s: %s", name, r.JSON(false))
		}
	}
}
