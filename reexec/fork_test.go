package reexec

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// forkEnv has a helper call Fork, as early as the init of a package can; oldKernelEnv makes the kernel an old one before.
const (
	forkEnv      = "REEXEC_TEST_FORK"
	oldKernelEnv = "REEXEC_TEST_OLD_KERNEL"
)

// inherited is what was open before Fork.
var inherited map[int]string

func init() {
	if os.Getenv(oldKernelEnv) != "" {
		runtime.LockOSThread() // the filter is this thread's
		if err := becomeOld(); err != nil {
			fatalf("seccomp: %v", err)
		}
	}
	if os.Getenv(forkEnv) == "" {
		return
	}
	inherited = descriptorsOf(os.Getpid())
	if Fork(os.Args); early == nil {
		fatalf("Fork has made no stage")
	}
}

// forked is a command that calls Fork, and useForked.
func forked(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(self(t), args...)
	cmd.Env = append(append(os.Environ(), helper("forked"), forkEnv+"=1", "GORACE=atexit_sleep_ms=0"), env...)
	cmd.Stderr = os.Stderr
	return cmd
}

// useForked uses the stage of Fork as its first argument says, and checks that nothing of it is left. The other arguments
// are a program.
func useForked() {
	runtime.LockOSThread() // as Fork has done
	pid := early.pid
	switch os.Args[1] {
	case "launch":
		launchForked(pid)
	case "discard":
		Discard()
		Discard()
	case "unguarded": // which Fork's stage is not for
		program, err := launch(&Spec{Args: os.Args[2:]}, Join{})
		if err != nil {
			fatalf("%v", err)
		}
		reap(program.PID)
		if early == nil || early.pid != pid {
			fatalf("a Start without a guardian has taken the stage")
		}
		Discard()
	case "deep":
		Discard()
		for depth := range many(64) {
			done := make(chan bool)
			go func() { // on a stack that is small, and grows at another call each time
				runtime.LockOSThread()
				deepen(depth, forkAndLaunch)
				done <- true
			}()
			<-done
		}
	case "nothing":
		return
	}
	if got, err := unix.Wait4(-1, nil, unix.WNOHANG|unix.WALL, nil); !errors.Is(err, unix.ECHILD) {
		fatalf("a child is left: wait4(-1) = %d, %v", got, err)
	}
	for fd, target := range descriptorsOf(os.Getpid()) {
		if target != inherited[fd] && (strings.HasPrefix(target, "socket:") || strings.HasPrefix(target, "pipe:")) {
			fatalf("descriptor %d is left, on %s", fd, target)
		}
	}
}

func deepen(depth int, then func()) {
	var frame [64]byte
	if depth == 0 {
		then()
	} else {
		deepen(depth-1, then)
	}
	runtime.KeepAlive(&frame)
}

func forkAndLaunch() {
	Fork(os.Args)
	stage, err := Start(true)
	if err != nil {
		fatalf("Start: %v", err)
	}
	program, err := launchOn(stage, &Spec{Args: os.Args[2:], NewSession: !stage.Terminal}, Join{})
	if err != nil {
		fatalf("Launch: %v", err)
	}
	reap(program.PID)
	stage.Dismiss()
}

// launchForked launches a program on the stage that Fork has made, and on the one that a Start makes after it, and prints
// what there is to know about the first.
func launchForked(pid int) {
	for i := range 2 {
		stage, err := Start(true)
		if err != nil {
			fatalf("Start: %v", err)
		}
		if got := stage.PID(); (got == pid) != (i == 0) || early != nil {
			fatalf("stage %d is %d, and Fork's was %d", i, got, pid)
		}
		program, err := launchOn(stage, &Spec{Args: os.Args[2:], Env: os.Environ(), NewSession: !stage.Terminal}, Join{})
		if err != nil {
			fatalf("Launch: %v", err)
		}
		var status unix.WaitStatus
		var usage unix.Rusage
		if _, err := unix.Wait4(program.PID, &status, 0, &usage); err != nil || status != 0 {
			fatalf("the program ended with wait status %#x, %v", status, err)
		}
		if i == 0 {
			sid, sidErr := unix.Getsid(pid)
			pgrp, pgrpErr := unix.Getpgid(pid)
			if err := errors.Join(sidErr, pgrpErr); err != nil {
				fatalf("the guardian, %d: %v", pid, err)
			}
			fmt.Printf("terminal=%v leader=%v grouped=%v maxrss=%d\n", stage.Terminal, sid == pid, pgrp == pid, usage.Maxrss)
		}
		stage.Dismiss()
	}
}

func TestFork(t *testing.T) {
	for name, env := range map[string][]string{"new kernel": nil, "old kernel": {oldKernelEnv + "=1"}} {
		t.Run(name, func(t *testing.T) {
			const script = `pwd; ls /proc/$$/fd; echo $PPID; cat /proc/self/status | grep -E "SigCgt|SigBlk|Threads"`
			cmd := forked(t, env, "launch", "/bin/sh", "-c", script)
			cmd.Dir = "/"
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			one := "/\n0\n1\n2\n" + strconv.Itoa(cmd.Process.Pid) +
				"\nThreads:\t1\nSigBlk:\t0000000000000000\nSigCgt:\t0000000000000000\n"
			what := "terminal=false leader=true grouped=true maxrss="
			got := string(out)
			if first, rest, known := strings.Cut(got, what); !known || first != one || !strings.HasSuffix(rest, "\n"+one) {
				t.Errorf("got %q, want %q and %q twice", got, what, one)
			}
		})
	}
}

// The program is a copy of the stage before execve, and its ru_maxrss at least what that had.
func TestForkMaxRSS(t *testing.T) {
	out, err := forked(t, nil, "launch", "/bin/true").Output()
	if err != nil {
		t.Fatal(err)
	}
	var kib int
	if _, err := fmt.Sscanf(string(out), "terminal=false leader=true grouped=true maxrss=%d\n", &kib); err != nil {
		t.Fatalf("%q: %v", out, err)
	}
	limit := 2 << 10
	if usesCgo { // a stage gives memory back only without
		limit = 64 << 10
	}
	if kib >= limit {
		t.Errorf("ru_maxrss of true is %d KiB, want less than %d", kib, limit)
	}
	t.Logf("ru_maxrss %d KiB", kib)
}

// What a stage gives back of its memory never is the stack that it runs on.
func TestForkOnAnyStack(t *testing.T) {
	if err := forked(t, nil, "deep", "/bin/true").Run(); err != nil {
		t.Error(err)
	}
}

func TestDiscard(t *testing.T) {
	for _, what := range []string{"discard", "unguarded"} {
		out, err := forked(t, nil, what, "/bin/true").Output()
		if err != nil {
			t.Errorf("%s: %q, %v", what, out, err)
		}
	}
}

// A stage whose process has forgotten it ends, with a will that says nothing.
func TestForkAndNothing(t *testing.T) {
	becomeSubreaper(t)
	cmd := forked(t, nil, "nothing")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(-1, &status, unix.WALL, nil); err != nil || status != 0 {
		t.Errorf("it ended with wait status %#x, %v", status, err)
	}
	noChildren(t)
}

// On a terminal the stage is in its session, so that the program can be, and out of its foreground process group.
func TestForkOnTerminal(t *testing.T) {
	for _, terminal := range []bool{true, false} {
		// The name in /proc/PID/stat can look like the fields after it.
		name := filepath.Join(t.TempDir(), ") 1 2 3 0 5")
		if terminal {
			name = filepath.Join(t.TempDir(), ") 1 2 3 9 5")
		}
		if err := os.Symlink(self(t), name); err != nil {
			t.Fatal(err)
		}
		cmd := forked(t, nil, "launch", "/bin/sh", "-c", "cut -d' ' -f5,6 /proc/$$/stat; echo $$")
		cmd.Path = name
		if terminal {
			cmd.Stdin = openTerminal(t)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		}
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		lines := strings.Split(string(out), "\n")
		session := lines[1] + " " + lines[1] // of its own
		if terminal {
			session = fmt.Sprint(cmd.Process.Pid, " ", cmd.Process.Pid)
		}
		if lines[0] != session {
			t.Errorf("terminal %v: the program's group and session are %s, want %s", terminal, lines[0], session)
		}
		if want := fmt.Sprintf("terminal=%v leader=%v grouped=true", terminal, !terminal); !strings.HasPrefix(lines[2], want) {
			t.Errorf("%q, want %s", lines[2], want)
		}
	}
}

// openTerminal opens a pseudoterminal, see pty(7).
func openTerminal(t *testing.T) *os.File {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close() })
	number, err := unix.IoctlGetInt(int(ours.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(ours.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { theirs.Close() })
	return theirs
}
