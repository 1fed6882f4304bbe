package reexec

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestClose(t *testing.T) {
	lock(t)
	before := countFDs(t)
	stage, err := Start(Options{})
	if err != nil {
		t.Fatal(err)
	}
	stage.Close()
	noChildren(t)
	stage.Close() // the second one must not close what reused the descriptor
	reused, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	stage.Close()
	if err := reused.Close(); err != nil {
		t.Errorf("Close closed a descriptor that is not its own: %v", err)
	}
	if after := countFDs(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	_, err = stage.Launch(&Spec{Args: []string{"/bin/true"}}, Join{}, Descriptors{})
	checkStageError(t, err)
}

// Whenever a stage is ended, also while the re-execution is about to clone it, nothing is left.
func TestCloseAnyTime(t *testing.T) {
	lock(t)
	before := countFDs(t)
	runs := many(100)
	for i := range runs {
		stage, err := Start(Options{Guardian: i%2 == 0, Stay: i%4 < 2})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * 3 * time.Millisecond / time.Duration(runs))
		stage.Close()
		noChildren(t)
	}
	if after := countFDs(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// A huge page of the stage's memory would be in every program's ru_maxrss, see TestMaxRSS.
func TestStageMemoryHasNoHugePages(t *testing.T) {
	if _, err := os.Stat("/sys/kernel/mm/transparent_hugepage"); err != nil {
		return // nor has any
	}
	stage := newMemory(t)
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	_, mapping, found := strings.Cut(string(smaps), fmt.Sprintf("\n%x-", unsafe.Pointer(stage.stage)))
	_, flags, _ := strings.Cut(mapping, "VmFlags:")
	flags, _, _ = strings.Cut(flags, "\n")
	if !found || !strings.Contains(flags+" ", " nh ") {
		t.Errorf("the mapping at %p has the flags %q", stage.stage, flags)
	}
}

// A stage that dies, of the OOM killer say, is an error at once, at whatever point it dies.
func TestStageKilled(t *testing.T) {
	spec := &Spec{Args: []string{"/bin/true"}}
	t.Run("before Launch", func(t *testing.T) {
		lock(t)
		stage := start(t)
		killStage(t, stage)
		_, err := stage.Launch(spec, Join{}, Descriptors{})
		checkStageError(t, err)
		noChildren(t)
	})
	t.Run("before Close", func(t *testing.T) {
		lock(t)
		stage := start(t)
		killStage(t, stage)
		stage.Close()
		noChildren(t)
	})
}

func killStage(t *testing.T, stage *Stage) {
	t.Helper()
	pid := stage.PID()
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// Wait until it is dead, and leave it to be reaped.
	if err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
}

func checkStageError(t *testing.T, err error) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Step != StepStage || e.Errno == 0 {
		t.Errorf("got %#v, want an *Error with StepStage", err)
	}
}

// Launch promises that on error nothing is running. A stage may die between clone3 and its report: a
// Ctrl-C, for one, is delivered to its other threads. The test stops it right there, with ptrace.
func TestStageKilledAfterClone(t *testing.T) {
	lock(t)
	stage := start(t)
	spec := &Spec{Args: []string{"/bin/sleep", "1000"}}
	attached, done := make(chan error), make(chan int, 1)
	go killAtClone(stage.PID(), attached, done)
	if err := <-attached; errors.Is(err, unix.EPERM) {
		stage.Close()
		t.Skip("requires ptrace")
	} else if err != nil {
		stage.Close()
		t.Fatal(err)
	}
	program, err := stage.Launch(spec, Join{}, Descriptors{})
	born := <-done
	if born <= 0 {
		t.Fatalf("no process was seen to be created: Launch = %+v, %v", program, err)
	}
	if err == nil && program.PID != born {
		t.Errorf("Launch = %+v, but the program is %d", program, born)
	}
	if err != nil {
		checkStageError(t, err)
		if unix.Kill(born, 0) == nil {
			t.Errorf("Launch failed, %v, yet the program is there, as process %d", err, born)
		}
	}
	if unix.Kill(born, unix.SIGKILL) == nil {
		wait(t, born)
	}
	noChildren(t)
}

// killAtClone traces the stage, kills it in the moment in which the program has been created, and sends
// the program's pid. All of a tracer's calls must come from one thread.
func killAtClone(stage int, attached chan<- error, done chan<- int) {
	runtime.LockOSThread() // for good: the thread ends with the goroutine
	const events = unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(stage), 0, events, 0, 0)
	if errno != 0 {
		attached <- errno
		return
	}
	attached <- nil
	for {
		var status unix.WaitStatus
		if _, err := unix.Wait4(stage, &status, unix.WALL, nil); err != nil || !status.Stopped() {
			done <- 0
			return
		}
		created, err := unix.PtraceGetEventMsg(stage)
		if status.TrapCause() <= 0 || err != nil {
			_ = unix.PtraceCont(stage, 0)
			continue
		}
		// It is traced as well, and stops by itself.
		_, _ = unix.Wait4(int(created), nil, unix.WALL, nil)
		_, notThread := os.Stat(fmt.Sprintf("/proc/%d/task/%d", stage, created))
		if notThread == nil { // one of the Go runtime's
			_ = unix.PtraceDetach(int(created))
			_ = unix.PtraceCont(stage, 0)
			continue
		}
		_ = unix.Kill(stage, unix.SIGKILL)
		_ = unix.PtraceDetach(int(created))
		done <- int(created)
		return
	}
}
