package reexec

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Regression: a caller with threads that writes a program and runs it got ETXTBSY now and then, because what another of its
// threads started meanwhile had the file open, until its execve.
func TestBusyProgram(t *testing.T) {
	lock(t)
	content, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "true") // by which a busybox knows what it is
	if err := os.WriteFile(file, content, 0o755); err != nil {
		t.Fatal(err)
	}
	open := func() *os.File {
		writer, err := os.OpenFile(file, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		return writer
	}
	t.Run("for a while", func(t *testing.T) {
		for range 20 { // a busy machine may be late with the end
			if launchWhileOpen(t, file, open()) {
				return
			}
		}
		t.Error("it never was tried again")
	})
	t.Run("for ever", func(t *testing.T) {
		writer := open()
		defer writer.Close()
		var before, after unix.Rusage
		_ = unix.Getrusage(unix.RUSAGE_CHILDREN, &before)
		_, err := start(t).Launch(&Spec{Args: []string{file}}, Join{}, Descriptors{})
		_ = unix.Getrusage(unix.RUSAGE_CHILDREN, &after)
		var e *Error
		if !errors.As(err, &e) || e.Step != StepExec || e.Errno != syscall.ETXTBSY {
			t.Errorf("%v, want ETXTBSY of execve", err)
		}
		if slept := after.Nvcsw - before.Nvcsw; slept < 50 {
			t.Errorf("slept %d times, want 50", slept)
		}
	})
}

// launchWhileOpen executes a file that somebody has open for writing for 30 ms. False is that it was open for too long.
func launchWhileOpen(t *testing.T, file string, writer *os.File) bool {
	t.Helper()
	closed := make(chan int64, 1)
	time.AfterFunc(30*time.Millisecond, func() {
		closed <- monotonic()
		writer.Close()
	})
	began := monotonic()
	stage := start(t)
	program, err := stage.Launch(&Spec{Args: []string{file}}, Join{}, Descriptors{})
	at := <-closed
	if errors.Is(err, syscall.ETXTBSY) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	status, _ := wait(t, program.PID)
	// The wait is not the program's time.
	if status.ExitStatus() != 0 || program.StartedNanos-began < (at-began)/2 {
		t.Errorf("status %v, started %v ms after the file was closed", status, float64(program.StartedNanos-at)/1e6)
	}
	return true
}
