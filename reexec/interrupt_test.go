package reexec

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A launch whose stage never answers ends when it is interrupted, and leaves nothing.
func TestInterrupt(t *testing.T) {
	for name, args := range map[string][]string{
		"a stage that waits": {"/bin/true"},
		// More than the socket takes.
		"an order under way": {"/bin/true", strings.Repeat("x", 8<<20)},
	} {
		t.Run(name, func(t *testing.T) {
			lock(t)
			stage := start(t)
			defer stopAgain(t, stage.PID())()
			testInterrupt(t, stage, &Spec{Args: args})
		})
	}
	t.Run("a re-execution", func(t *testing.T) {
		lock(t)
		stage := stoppedBoot(t)
		defer stopAgain(t, stage.boot)()
		testInterrupt(t, stage, &Spec{Args: []string{"/bin/true"}})
	})
	t.Run("a stage that stays", func(t *testing.T) {
		lock(t)
		stage, end := staying(t, true)
		defer end()
		outputOn(t, stage, &Spec{Args: []string{"/bin/true"}}, Join{})
		defer stopAgain(t, stage.PID())()
		testInterrupt(t, stage, &Spec{Args: []string{"/bin/true"}})
	})
	t.Run("between two launches", func(t *testing.T) {
		lock(t)
		stage, end := staying(t, true)
		defer end()
		outputOn(t, stage, &Spec{Args: []string{"/bin/true"}}, Join{})
		stage.Interrupt() // comes late
		outputOn(t, stage, &Spec{Args: []string{"/bin/true"}}, Join{})
	})
}

func testInterrupt(t *testing.T, stage *Stage, spec *Spec) {
	t.Helper()
	spec.Slow = stage.Interrupt // a timer may be late, and what was stopped goes on then
	program, err := stage.Launch(spec, Join{}, Descriptors{})
	var e *Error
	if !errors.As(err, &e) || e.Step != StepStage || e.Errno != unix.EINTR || program.PID != 0 {
		t.Errorf("Launch returned %v, %v", program, err)
	}
	if stuck := stage.Stuck(); len(stuck) > 0 {
		t.Errorf("%v are stuck", stuck)
	}
	if stage.Ready() {
		t.Error("the stage has not ended")
	}
	stage.Close()
	noChildren(t)
}

// stopAgain keeps a process stopped, however often somebody has it go on.
func stopAgain(t *testing.T, pid int) (end func()) {
	t.Helper()
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Skip("requires pidfd_open")
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	if err := unix.PidfdSendSignal(pidfd, unix.SIGSTOP, nil, 0); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(stopped)
		for {
			_ = unix.PidfdSendSignal(pidfd, unix.SIGSTOP, nil, 0)
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	return func() { close(stop); <-stopped; unix.Close(pidfd) }
}

// stoppedBoot starts a stage whose re-execution stops before it has cloned it.
func stoppedBoot(t *testing.T) *Stage {
	t.Helper()
	if entered {
		t.Skip("requires a binary without the entry")
	}
	for range 100 {
		stage := start(t)
		if err := unix.Kill(stage.boot, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		// Leave its end to be found by who waits for it.
		if err := unix.Waitid(unix.P_PID, stage.boot, nil, unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT, nil); err != nil {
			t.Fatal(err)
		}
		children, err := childrenOf(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if len(children) == 1 && children[stage.boot] == "T" {
			return stage
		}
		stage.Close() // too late
	}
	t.Fatal("a re-execution can't be stopped in time")
	return nil
}

// When the launch is over, the numbers of its processes may be others': Interrupt leaves them alone.
func TestInterruptAfterLaunch(t *testing.T) {
	lock(t)
	stage := start(t)
	program, err := stage.Launch(&Spec{Args: []string{"/bin/true"}}, Join{}, Descriptors{})
	if err != nil {
		t.Fatal(err)
	}
	wait(t, program.PID)
	if stage.Interrupt(); stage.wasInterrupted() {
		t.Error("there was something to interrupt")
	}
	stage.Close()
	stage.Interrupt()
	noChildren(t)
}

// Whenever an interrupt comes: either the launch fails and leaves nothing, or there is a program, and its guardian.
func TestInterruptAnyTime(t *testing.T) {
	lock(t)
	before := countFDs(t)
	failed := 0
	runs := many(100)
	for i := range runs {
		stage, err := Start(Options{Guardian: true})
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			stage.PID() // or it is to come
		}
		done := make(chan struct{})
		time.AfterFunc(time.Duration(i)*4*time.Millisecond/time.Duration(runs), func() { stage.Interrupt(); close(done) })
		program, err := stage.Launch(&Spec{Args: []string{"/bin/sleep", "1000"}}, Join{}, Descriptors{})
		<-done
		children, childrenErr := childrenOf(os.Getpid())
		if childrenErr != nil {
			t.Fatal(childrenErr)
		}
		if err != nil {
			failed++
			checkStageError(t, err)
		} else {
			if len(children) != 2 || children[program.PID] == "" || children[stage.PID()] == "" || children[stage.PID()] == "Z" {
				t.Errorf("%+v, with the guardian %d: there are %v", program, stage.PID(), children)
			}
			_ = unix.Kill(program.PID, unix.SIGKILL)
			wait(t, program.PID)
		}
		stage.Close()
		noChildren(t)
	}
	if after := countFDs(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	t.Logf("%d of %d launches failed", failed, runs)
}

// Who has to be told that a launch takes long is, once, whatever it is that takes long; and else is not. What somebody has
// stopped goes on, or the launch would never be over.
func TestSlow(t *testing.T) {
	count := func(spec *Spec) *int {
		calls := new(int)
		spec.Slow = func() { *calls++ }
		return calls
	}
	t.Run("a stage that waits", func(t *testing.T) {
		lock(t)
		stage := start(t)
		if err := unix.Kill(stage.PID(), unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		spec := &Spec{Args: []string{"/bin/true"}}
		calls := count(spec)
		if runOn(t, stage, spec, Join{}, nil); *calls != 1 {
			t.Errorf("Slow was called %d times", *calls)
		}
		noChildren(t)
	})
	t.Run("a re-execution", func(t *testing.T) {
		lock(t)
		stage := stoppedBoot(t)
		spec := &Spec{Args: []string{"/bin/true"}}
		calls := count(spec)
		if runOn(t, stage, spec, Join{}, nil); *calls != 1 {
			t.Errorf("Slow was called %d times", *calls)
		}
		noChildren(t)
	})
	// To send it may take for ever, if the stage does not read.
	t.Run("an order under way", func(t *testing.T) {
		lock(t)
		stage := start(t)
		if err := unix.Kill(stage.PID(), unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		args := []string{"/bin/true", strings.Repeat("x", 100_000), strings.Repeat("x", 100_000), strings.Repeat("x", 100_000)}
		spec := &Spec{Args: args}
		calls := count(spec)
		if runOn(t, stage, spec, Join{}, nil); *calls != 1 {
			t.Errorf("Slow was called %d times", *calls)
		}
		noChildren(t)
	})
	t.Run("nothing", func(t *testing.T) {
		lock(t)
		stage, end := staying(t, true)
		defer end()
		spec := &Spec{Args: []string{"/bin/true"}}
		calls := count(spec)
		fewest := 1 // a busy machine is slow now and then, and an emulated CPU always
		for range 10 {
			*calls = 0
			outputOn(t, stage, spec, Join{})
			fewest = min(fewest, *calls)
		}
		if fewest != 0 && os.Getenv("CGSHIM_EMULATED") == "" {
			t.Error("Slow was called in each launch")
		}
		*calls = 0
		time.Sleep(3 * slowNanos * time.Nanosecond)
		if *calls != 0 {
			t.Error("Slow was called when there was no launch")
		}
	})
}
