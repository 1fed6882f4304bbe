package reexec

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/internal/testpipe"
)

// launchAndLinger launches its arguments, prints the program's pid, and stays until it is killed.
func launchAndLinger() {
	runtime.LockOSThread()
	program, err := launch(&Spec{Args: os.Args[1:]}, helperJoin())
	if err != nil {
		fatalf("%v", err)
	}
	fmt.Println(program.PID)
	time.Sleep(time.Hour)
}

// becomeSubreaper makes orphans this process's children, so that it learns how they ended.
func becomeSubreaper(t *testing.T) {
	t.Helper()
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) })
}

// orphanStatus waits for a program whose parent was killed. If it lives on, it is killed.
func orphanStatus(t *testing.T, pid int) unix.WaitStatus {
	t.Helper()
	var status unix.WaitStatus
	for end := time.Now().Add(generous); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		switch got, err := unix.Wait4(pid, &status, unix.WNOHANG, nil); {
		case got == pid:
			return status
		case err != nil && !errors.Is(err, unix.ECHILD): // ECHILD: not handed to the subreaper yet
			t.Fatal(err)
		}
	}
	_ = unix.Kill(pid, unix.SIGKILL)
	_, _ = unix.Wait4(pid, nil, 0, nil)
	t.Fatalf("process %d outlived its parent by %v", pid, generous)
	return 0
}

func TestParentDeath(t *testing.T) {
	becomeSubreaper(t)
	for name, env := range map[string]string{"clone3": "", "clone": "FALLBACK=1"} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(self(t), "/bin/sleep", "1000")
			cmd.Env = append(os.Environ(), helper("leave"), env)
			var pid int
			read, write := testpipe.New(t)
			cmd.Stdout, cmd.Stderr = write, os.Stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			write.Close()
			_, err := fmt.Fscanln(read, &pid)
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			if err != nil {
				t.Fatalf("reading the program's pid: %v", err)
			}
			if status := orphanStatus(t, pid); status.Signal() != unix.SIGKILL {
				t.Errorf("the program ended with wait status %#x, want SIGKILL", status)
			}
			noChildren(t)
		})
	}
}

// A full pipe in place of a tasks file stops the program between clone3 and execve, in its write, until
// release is called.
func fullPipe(t *testing.T) (write *os.File, release func()) {
	t.Helper()
	read, write := testpipe.New(t)
	size, err := unix.FcntlInt(write.Fd(), unix.F_GETPIPE_SZ, 0) // Fd makes it blocking
	if err != nil {
		t.Fatal(err)
	}
	if _, err := write.Write(bytes.Repeat([]byte("x"), size)); err != nil {
		t.Fatal(err)
	}
	return write, func() {
		if _, err := read.Read(make([]byte, size)); err != nil {
			t.Error(err)
		}
	}
}

// pausedProgram waits until a process has two children of which one is a zombie: the stage, which ends
// after the clone. The other one is the program, on its way to the full pipe or waiting there. Before, the two may be
// the re-execution that has cloned the stage, and the stage: it has no pipe, or does not wait for it.
func pausedProgram(parent int) (pid int, err error) {
	for end := time.Now().Add(generous); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		zombies, living := 0, 0
		children, err := childrenOf(parent)
		if err != nil {
			return 0, err
		}
		for child, state := range children {
			if state == "Z" {
				zombies++
			} else if living++; living == 1 {
				pid = child
			}
		}
		if zombies == 1 && living == 1 && hasPipe(pid) && waitsForPipe(pid) {
			return pid, nil
		}
	}
	return 0, errors.New("no program came to the full pipe")
}

// childrenOf are a process's children, and their states.
func childrenOf(parent int) (states map[int]string, err error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	states = make(map[int]string)
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + entry.Name() + "/stat")
		if err != nil {
			continue
		}
		// pid (comm) state ppid …
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if fields[1] == strconv.Itoa(parent) {
			states[pid] = fields[0]
		}
	}
	return states, nil
}

// waitsForPipe says whether a process waits until there is room in a pipe; also where the kernel does not tell.
func waitsForPipe(pid int) bool {
	where, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/wchan")
	return err != nil || string(where) == "0" || strings.Contains(string(where), "pipe_write")
}

// hasPipe says whether a process has a pipe open that is not its stdin, stdout or stderr.
func hasPipe(pid int) bool {
	for fd, target := range descriptorsOf(pid) {
		if fd > 2 && strings.HasPrefix(target, "pipe:") {
			return true
		}
	}
	return false
}

// descriptorsOf are a process's, and what they are open on; none if it is gone.
func descriptorsOf(pid int) map[int]string {
	dir := "/proc/" + strconv.Itoa(pid) + "/fd/"
	entries, _ := os.ReadDir(dir)
	targets := make(map[int]string)
	for _, entry := range entries {
		fd, err := strconv.Atoi(entry.Name())
		target, linkErr := os.Readlink(dir + entry.Name())
		if err == nil && linkErr == nil {
			targets[fd] = target
		}
	}
	return targets
}

// A shim that dies before the parent-death signal is armed sends none. The program has to notice by
// itself, and must not run.
func TestParentDeathBeforeExec(t *testing.T) {
	becomeSubreaper(t)
	write, release := fullPipe(t)
	marker := t.TempDir() + "/ran"
	cmd := exec.Command(self(t), "/bin/sh", "-c", `: > "$0"`, marker)
	cmd.Env = append(os.Environ(), helper("leave"), "TASKS=3")
	cmd.ExtraFiles = []*os.File{write} // 3 there
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid, err := pausedProgram(cmd.Process.Pid)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	release()
	if err != nil {
		t.Fatal(err)
	}
	if status := orphanStatus(t, pid); status.ExitStatus() != 127 {
		t.Errorf("the orphan ended with wait status %#x, want exit 127", status)
	}
	if _, err := os.Stat(marker); err == nil {
		t.Error("the program ran without its shim")
	}
	_, _ = unix.Wait4(-1, nil, unix.WNOHANG, nil) // the stage was orphaned too
	noChildren(t)
}

// A signal that reaches the program before execve takes its default action: were the stage's Go handler
// still there, it would run in a process that has no Go runtime any more. SIGUSR1 it would swallow.
func TestSignalBeforeExec(t *testing.T) {
	everyWay(t, func(t *testing.T, join Join) {
		write, release := fullPipe(t)
		if join.noInto {
			join.Procs = int(write.Fd()) // the earliest point
		} else {
			join.Tasks = []int{int(write.Fd())}
		}
		stage := start(t)
		signalled := make(chan error, 1)
		go func() {
			pid, err := pausedProgram(os.Getpid())
			if err == nil {
				err = unix.Kill(pid, unix.SIGUSR1)
			}
			signalled <- err
			release()
		}()
		program, err := stage.Launch(&Spec{Args: []string{"/bin/sleep", "1000"}}, join, Descriptors{})
		if err := <-signalled; err != nil {
			t.Error(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(generous, func() { _ = unix.Kill(program.PID, unix.SIGKILL) })
		defer timer.Stop()
		if status, _ := wait(t, program.PID); status.Signal() != unix.SIGUSR1 {
			t.Errorf("wait status %#x, want SIGUSR1", status)
		}
		noChildren(t)
	})
}
