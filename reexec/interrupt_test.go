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
			if err := unix.Kill(stage.PID(), unix.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			testInterrupt(t, stage, &Spec{Args: args})
		})
	}
	t.Run("a re-execution", func(t *testing.T) {
		lock(t)
		stage := stoppedBoot(t)
		testInterrupt(t, stage, &Spec{Args: []string{"/bin/true"}})
	})
	t.Run("a stage that stays", func(t *testing.T) {
		lock(t)
		stage, end := staying(t, true)
		defer end()
		outputOn(t, stage, &Spec{Args: []string{"/bin/true"}}, Join{})
		if err := unix.Kill(stage.PID(), unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		testInterrupt(t, stage, &Spec{Args: []string{"/bin/true"}})
	})
	t.Run("between two launches", func(t *testing.T) {
		lock(t)
		stage, end := staying(t, true)
		defer end()
		outputOn(t, stage, &Spec{Args: []string{"/bin/true"}}, Join{})
		stage.Interrupt()
		testInterrupt(t, stage, &Spec{Args: []string{"/bin/true"}})
	})
}

func testInterrupt(t *testing.T, stage *Stage, spec *Spec) {
	t.Helper()
	if err := stage.Prepare(spec); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, stage.Interrupt)
	program, err := stage.Launch(Join{}, Descriptors{})
	var e *Error
	if !errors.As(err, &e) || e.Step != StepStage || e.Errno != unix.EINTR || program.PID != 0 {
		t.Errorf("Launch returned %v, %v", program, err)
	}
	if stuck := stage.Stuck(); len(stuck) > 0 {
		t.Errorf("%v are stuck", stuck)
	}
	if !stage.Ended() {
		t.Error("the stage has not ended")
	}
	stage.Dismiss()
	noChildren(t)
}

// stoppedBoot starts a stage whose re-execution stops before it has cloned it.
func stoppedBoot(t *testing.T) *Stage {
	t.Helper()
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
		stage.Abort() // too late
	}
	t.Fatal("a re-execution can't be stopped in time")
	return nil
}

// When the launch is over, the socket's number may be another file's: Interrupt leaves it alone.
func TestInterruptAfterLaunch(t *testing.T) {
	lock(t)
	stage := start(t)
	sock := stage.sock
	if err := stage.Prepare(&Spec{Args: []string{"/bin/true"}}); err != nil {
		t.Fatal(err)
	}
	program, err := stage.Launch(Join{}, Descriptors{})
	if err != nil {
		t.Fatal(err)
	}
	wait(t, program.PID)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range pair {
		defer os.NewFile(uintptr(fd), "socket").Close()
	}
	if pair[0] != sock && pair[1] != sock {
		t.Fatalf("the sockets are %v, and neither is %d again", pair, sock)
	}
	stage.Interrupt()
	if _, err := unix.Write(pair[0], []byte("x")); err != nil {
		t.Errorf("somebody else's socket was shut down: %v", err)
	}
	stage.Dismiss()
	noChildren(t)
}

// Whenever an interrupt comes: either the launch fails and leaves nothing, or there is a program, and its guardian.
func TestInterruptAnyTime(t *testing.T) {
	lock(t)
	before := countFDs(t)
	failed := 0
	runs := many(100)
	for i := range runs {
		stage, err := Start(true)
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			stage.PID() // or it is to come
		}
		done := make(chan struct{})
		time.AfterFunc(time.Duration(i)*4*time.Millisecond/time.Duration(runs), func() { stage.Interrupt(); close(done) })
		program, err := launchOn(stage, &Spec{Args: []string{"/bin/sleep", "1000"}}, Join{})
		<-done
		children, childrenErr := childrenOf(os.Getpid())
		if childrenErr != nil {
			t.Fatal(childrenErr)
		}
		if err != nil {
			failed++
			checkStageError(t, err)
		} else {
			if len(children) != 2 || children[program.PID] == "" || children[stage.pid] == "" || children[stage.pid] == "Z" {
				t.Errorf("%+v, with the guardian %d: there are %v", program, stage.pid, children)
			}
			_ = unix.Kill(program.PID, unix.SIGKILL)
			wait(t, program.PID)
		}
		stage.Dismiss()
		noChildren(t)
	}
	if after := countFDs(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	t.Logf("%d of %d launches failed", failed, runs)
}

// Who has to be told that a launch takes long is, once, whatever it is that takes long; and else is not.
func TestSlow(t *testing.T) {
	count := func(stage *Stage, then func()) *int {
		calls := new(int)
		stage.Slow = func() {
			*calls++
			then()
		}
		return calls
	}
	resume := func(pid int) func() {
		return func() { time.AfterFunc(50*time.Millisecond, func() { _ = unix.Kill(pid, unix.SIGCONT) }) }
	}
	t.Run("a stage that waits", func(t *testing.T) {
		lock(t)
		stage := start(t)
		pid := stage.PID()
		calls := count(stage, resume(pid))
		if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		if runOn(t, stage, &Spec{Args: []string{"/bin/true"}}, Join{}, nil); *calls != 1 {
			t.Errorf("Slow was called %d times", *calls)
		}
		noChildren(t)
	})
	t.Run("a re-execution", func(t *testing.T) {
		lock(t)
		stage := stoppedBoot(t)
		calls := count(stage, resume(stage.boot))
		if runOn(t, stage, &Spec{Args: []string{"/bin/true"}}, Join{}, nil); *calls != 1 {
			t.Errorf("Slow was called %d times", *calls)
		}
		noChildren(t)
	})
	// To send it may take for ever, if the stage does not read.
	t.Run("an order under way", func(t *testing.T) {
		lock(t)
		stage := start(t)
		pid := stage.PID()
		calls := count(stage, resume(pid))
		if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		args := []string{"/bin/true", strings.Repeat("x", 100_000), strings.Repeat("x", 100_000), strings.Repeat("x", 100_000)}
		if runOn(t, stage, &Spec{Args: args}, Join{}, nil); *calls != 1 {
			t.Errorf("Slow was called %d times", *calls)
		}
		noChildren(t)
	})
	t.Run("nothing", func(t *testing.T) {
		lock(t)
		stage, end := staying(t, true)
		defer end()
		calls := count(stage, func() {})
		fewest := 1 // a busy machine is slow now and then, and an emulated CPU always
		for range 10 {
			*calls = 0
			outputOn(t, stage, &Spec{Args: []string{"/bin/true"}}, Join{})
			fewest = min(fewest, *calls)
		}
		if fewest != 0 && os.Getenv("CGSHIM_EMULATED") == "" {
			t.Error("Slow was called in each launch")
		}
		*calls = 0
		time.Sleep(3 * slowMicros * time.Microsecond)
		if *calls != 0 {
			t.Error("Slow was called when there was no launch")
		}
	})
}
