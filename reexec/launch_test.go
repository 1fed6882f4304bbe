package reexec

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func monotonicNanos(t *testing.T) int64 {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		t.Fatal(err)
	}
	return ts.Nano()
}

func TestLaunch(t *testing.T) {
	lock(t)
	before := monotonicNanos(t)
	o := run(t, &Spec{Args: []string{"/bin/cat", "/proc/self/stat"}}, Join{})
	after := monotonicNanos(t)

	if !o.status.Exited() || o.status.ExitStatus() != 0 {
		t.Errorf("wait status %#x, want exit 0", o.status)
	}
	if o.StartedNanos < before || o.StartedNanos > after {
		t.Errorf("StartedNanos = %d, not within [%d, %d]", o.StartedNanos, before, after)
	}
	// pid (comm) state ppid pgrp session …
	var pid, ppid, pgrp, session int
	if _, err := fmt.Sscanf(o.out, "%d (cat) R %d %d %d", &pid, &ppid, &pgrp, &session); err != nil {
		t.Fatalf("/proc/self/stat is %q: %v", o.out, err)
	}
	if pid != o.PID {
		t.Errorf("PID = %d, but the program is %d", o.PID, pid)
	}
	if ppid != os.Getpid() {
		t.Errorf("the program's parent is %d, not this process, %d", ppid, os.Getpid())
	}
	// Terminal job control works on process groups: the program stays in the caller's.
	if sid, err := unix.Getsid(0); err != nil || session != sid || pgrp != unix.Getpgrp() {
		t.Errorf("process group %d and session %d, want %d and %d (%v)", pgrp, session, unix.Getpgrp(), sid, err)
	}
}

func TestExitStatus(t *testing.T) {
	lock(t)
	if o := run(t, &Spec{Args: []string{"/bin/sh", "-c", "exit 42"}}, Join{}); o.status.ExitStatus() != 42 {
		t.Errorf("wait status %#x, want exit 42", o.status)
	}
	if o := run(t, &Spec{Args: []string{"/bin/sh", "-c", "kill -USR1 $$"}}, Join{}); o.status.Signal() != unix.SIGUSR1 {
		t.Errorf("wait status %#x, want SIGUSR1", o.status)
	}
}

// A stage without a guardian ends when it has launched its program, which lives on.
func TestStageEnds(t *testing.T) {
	lock(t)
	stage := start(t)
	stagePID := stage.PID()
	program, err := stage.Launch(&Spec{Args: []string{"/bin/sleep", "1000"}}, Join{}, Descriptors{})
	if err != nil {
		t.Fatal(err)
	}
	stage.Close()
	if program.PID == stagePID {
		t.Error("the program is the stage")
	}
	if err := unix.Kill(stagePID, 0); err == nil {
		t.Error("the stage is still there, as a zombie at least")
	}
	// By now the program is past execve.
	if comm, err := os.ReadFile("/proc/" + strconv.Itoa(program.PID) + "/comm"); string(comm) != "sleep\n" {
		t.Errorf("the program's comm is %q, %v", comm, err)
	}
	stage.Close() // documented to do nothing any more
	if err := unix.Kill(program.PID, unix.SIGKILL); err != nil {
		t.Error(err)
	}
	if status, _ := wait(t, program.PID); status.Signal() != unix.SIGKILL {
		t.Errorf("wait status %#x, want SIGKILL", status)
	}
	noChildren(t)
}

func TestSingleThread(t *testing.T) {
	lock(t)
	if got := status(t, Join{}, false)["Threads"]; got != "1" {
		t.Errorf("Threads: %q, want 1", got)
	}
}

// status is the /proc/self/status of a program launched so.
func status(t *testing.T, join Join, allowNewPrivs bool) map[string]string {
	t.Helper()
	return parseStatus(output(t, &Spec{Args: []string{"/bin/cat", "/proc/self/status"}, AllowNewPrivs: allowNewPrivs}, join))
}

func parseStatus(text string) map[string]string {
	fields := make(map[string]string)
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, ":")
		fields[key] = strings.TrimSpace(value)
	}
	return fields
}

func countArgs() {
	bytes := 0
	for _, arg := range os.Args {
		bytes += len(arg)
	}
	fmt.Println(len(os.Args), bytes)
}

// The spec of this program is larger than any socket buffer: it goes over in parts.
func TestManyArgs(t *testing.T) {
	lock(t)
	args := []string{self(t)}
	bytes := len(args[0])
	for i := 1; i < 100_000; i++ {
		args = append(args, strconv.Itoa(i))
		bytes += len(args[i])
	}
	got := output(t, &Spec{Args: args, Env: []string{helper("count-args"), "GORACE=atexit_sleep_ms=0"}}, Join{})
	if want := fmt.Sprintln(len(args), bytes); got != want {
		t.Errorf("the program counted %q arguments and bytes, want %q", got, want)
	}
}

func TestArgsVerbatim(t *testing.T) {
	lock(t)
	args := []string{"/bin/cat", "/proc/self/cmdline", "/dev/null"}
	if got, want := output(t, &Spec{Args: args}, Join{}), strings.Join(args, "\x00")+"\x00"; got != want {
		t.Errorf("cmdline %q, want %q", got, want)
	}
	odd := []string{"/bin/sh", "-c", `printf '%s|' "$@"`, "sh", "", " ", "\xff\xfe", "-n", "é\n"}
	if got, want := output(t, &Spec{Args: odd}, Join{}), "| |\xff\xfe|-n|é\n|"; got != want {
		t.Errorf("arguments arrived as %q, want %q", got, want)
	}
}

// A relative program is looked up after Dir was entered, with and without a slash.
func TestLookupAfterChdir(t *testing.T) {
	lock(t)
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/prog", []byte("#!/bin/sh\necho here\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, spec := range []Spec{
		{Args: []string{"./prog"}, Dir: dir},
		{Args: []string{"prog"}, Dir: dir, Env: []string{"PATH=/nonexistent:"}},
	} {
		if got := output(t, &spec, Join{}); got != "here\n" {
			t.Errorf("%q in Dir wrote %q", spec.Args[0], got)
		}
	}
}
