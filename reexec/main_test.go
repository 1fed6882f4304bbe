package reexec

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test binary is all three processes: the shim, because the tests call Start; the stage, because
// package reexec is in it; and, where a test needs one, its own helper program.

// generous bounds what should take milliseconds. Only a hang exceeds it, also under slow emulation.
const generous = 60 * time.Second

const helperEnv = "REEXEC_TEST_HELPER"

// helpers are the programs that the test binary turns into when helperEnv names one.
var helpers = map[string]func(){
	"count-args":   countArgs,
	"guarded":      launchGuarded,
	"launch":       launchAndExit,
	"leave":        launchAndLinger,
	"leave-will":   leaveWill,
	"no-network":   launchWithoutNetwork,
	"unprivileged": launchUnprivileged,
}

// usedHelpers has those that a test asked for: a helper that nobody uses any more is a mistake.
var usedHelpers sync.Map

func TestMain(m *testing.M) {
	if will, ok := Will(); ok {
		execute(will)
		unix.Exit(0) // os.Exit sleeps with the race detector, and GORACE is not in the environment
	}
	if name := os.Getenv(helperEnv); name != "" {
		helper, ok := helpers[name]
		if !ok {
			fatalf("no helper %q", name)
		}
		helper()
		os.Exit(0)
	}
	// With the race detector a process sleeps a second before it exits. The stage gets none of this.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	code := m.Run()
	if code == 0 && wholeRun() {
		for name := range helpers {
			if _, ok := usedHelpers.Load(name); !ok {
				fatalf("helper %q is unused", name)
			}
		}
	}
	os.Exit(code)
}

func wholeRun() bool {
	for _, name := range []string{"test.run", "test.skip", "test.list", "test.fuzz", "test.fuzzworker"} {
		if v := flag.Lookup(name).Value.String(); v != "" && v != "false" {
			return false
		}
	}
	return true
}

func fatalf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "reexec test: "+format+"\n", args...)
	os.Exit(2)
}

// helper returns the environment entry that makes the test binary the named program.
func helper(name string) string {
	usedHelpers.Store(name, true)
	return helperEnv + "=" + name
}

// self is the path of the test binary.
func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// lock does what Start asks of its caller.
func lock(t *testing.T) {
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
}

// started are the stages of start, by test.
var started sync.Map

// start starts a stage, which noChildren closes.
func start(t *testing.T) *Stage {
	t.Helper()
	stage, err := Start(Options{})
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	watch(t, stage)
	t.Cleanup(stage.Close)
	all, _ := started.LoadOrStore(t, new([]*Stage))
	*all.(*[]*Stage) = append(*all.(*[]*Stage), stage)
	return stage
}

// watch kills what hangs, so that the test fails instead of hanging too.
func watch(t *testing.T, stage *Stage) {
	t.Helper()
	fired := make(chan struct{})
	watchdog := time.AfterFunc(generous, func() {
		defer close(fired)
		stage.ending.Lock()
		there := !stage.over && stage.control != 0
		stage.ending.Unlock()
		if !there {
			return
		}
		t.Errorf("the stage was still there after %v", generous)
		children, _ := childrenOf(os.Getpid())
		for pid := range children {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	})
	t.Cleanup(func() {
		if !watchdog.Stop() {
			<-fired // Errorf panics once the test has ended
		}
	})
}

// outcome is what became of a program.
type outcome struct {
	Program
	out    string
	status unix.WaitStatus
	usage  unix.Rusage
}

// run launches a program, waits for it, and fails if anything of it is left.
func run(t *testing.T, spec *Spec, join Join) outcome {
	t.Helper()
	return runKeeping(t, spec, join, nil)
}

// runKeeping is run with descriptors to keep.
func runKeeping(t *testing.T, spec *Spec, join Join, keep []int) outcome {
	t.Helper()
	o := runOn(t, start(t), spec, join, keep)
	noChildren(t)
	return o
}

// runOn has a stage launch a program, and waits for it.
func runOn(t *testing.T, stage *Stage, spec *Spec, join Join, keep []int) outcome {
	t.Helper()
	return runWith(t, stage, spec, join, Descriptors{Keep: keep})
}

// runWith is runOn, but for Descriptors.Stdio.
func runWith(t *testing.T, stage *Stage, spec *Spec, join Join, descriptors Descriptors) outcome {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "stdout"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var o outcome
	descriptors.Stdio = &[3]int{0, int(file.Fd()), 2}
	if o.Program, err = stage.Launch(spec, join, descriptors); err != nil {
		t.Fatalf("Launch: %v", err)
	}
	o.status, o.usage = wait(t, o.PID)
	out, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	o.out = string(out)
	return o
}

// output runs a program that has to succeed.
func output(t *testing.T, spec *Spec, join Join) string {
	t.Helper()
	o := run(t, spec, join)
	if !o.status.Exited() || o.status.ExitStatus() != 0 {
		t.Fatalf("%q ended with wait status %#x", spec.Args, o.status)
	}
	return o.out
}

func wait(t *testing.T, pid int) (status unix.WaitStatus, usage unix.Rusage) {
	t.Helper()
	for {
		got, err := unix.Wait4(pid, &status, 0, &usage)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || got != pid {
			t.Fatalf("wait4(%d) = %d, %v: the program is not this process's child", pid, got, err)
		}
		return status, usage
	}
}

// noChildren closes the stages of start, and fails if this process has a child, running or zombie.
func noChildren(t *testing.T) {
	t.Helper()
	if stages, some := started.LoadAndDelete(t); some {
		for _, stage := range *stages.(*[]*Stage) {
			stage.Close()
		}
	}
	if pid, err := unix.Wait4(-1, nil, unix.WNOHANG|unix.WALL, nil); !errors.Is(err, unix.ECHILD) {
		t.Errorf("a child is left: wait4(-1) = %d, %v (0: it is running)", pid, err)
	}
}
