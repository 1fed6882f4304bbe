package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A result that can't be delivered is cgshim's failure, and goes to stderr, better than nowhere.
func TestUndeliverable(t *testing.T) {
	parent := newParent(t)
	out := invoke(t, "--output", "/dev/full", "--parent", parent, "--", "/bin/true")
	message, line, _ := strings.Cut(out.stderr, "\n")
	if out.status != 125 || !strings.HasPrefix(message, "cgshim: error: ") || parseResult(t, line).Verdict != "ok" {
		t.Errorf("/dev/full: %+v", out)
	}

	cmd := command(t, "--fd", "3", "--parent", parent, "--", "/bin/true")
	var stderr bytes.Buffer
	cmd.Stderr, cmd.ExtraFiles = &stderr, []*os.File{deadPipe(t)}
	_ = cmd.Run()
	message, line, _ = strings.Cut(stderr.String(), "\n")
	if cmd.ProcessState.ExitCode() != 125 || !strings.HasPrefix(message, "cgshim: error: ") || parseResult(t, line).Verdict != "ok" {
		t.Errorf("a dead pipe: %v, stderr %q", cmd.ProcessState, stderr.String())
	}
}

// deadPipe is the writing end of a pipe that has no reader any more.
func deadPipe(t *testing.T) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	t.Cleanup(func() { w.Close() })
	return w
}

// Regression: cgshim told stderr first, and if nobody read that, died of SIGPIPE without a result.
func TestDeadStderr(t *testing.T) {
	parent := newParent(t)
	for name, args := range map[string][]string{
		"usage error": {"--fd", "3", "--bogus"},
		"run error":   {"--fd", "3", "--parent", parent, "--", "cgshim-no-such-program"},
	} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd := command(t, args...)
		cmd.Stderr, cmd.ExtraFiles = deadPipe(t), []*os.File{w}
		err = cmd.Start()
		w.Close()
		if err != nil {
			t.Fatal(err)
		}
		line, _ := io.ReadAll(r)
		r.Close()
		_ = cmd.Wait()
		if len(line) == 0 {
			t.Errorf("%s: no result: %v", name, cmd.ProcessState)
			continue
		}
		if parseResult(t, string(line)).Verdict != "error" {
			t.Errorf("%s: %s", name, line)
		}
	}
	// The result itself: an exit status that says so, and not one that looks like the program's.
	cmd := command(t, "--parent", parent, "--", "/bin/true")
	cmd.Stderr = deadPipe(t)
	_ = cmd.Run()
	if cmd.ProcessState.ExitCode() != 125 {
		t.Errorf("%v, want exit status 125", cmd.ProcessState)
	}
}

// A stderr that is full and that nobody reads does not keep the result from a descriptor that somebody reads.
func TestFullStderr(t *testing.T) {
	t.Parallel()
	stderr := fullPipe(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := commandWithin(t, 20*time.Second, "--fd", "3", "--bogus")
	cmd.Stderr, cmd.ExtraFiles = stderr, []*os.File{w}
	err = cmd.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	line, _ := io.ReadAll(r) // ends, at the latest, when cgshim is killed
	_ = cmd.Wait()
	if len(line) == 0 || parseResult(t, string(line)).Verdict != "error" {
		t.Errorf("%v, result %q", cmd.ProcessState, line)
	}
}

// fullPipe is the writing end of a pipe that takes no more, and that nobody reads. A write to it waits, as pipes have it.
func fullPipe(t *testing.T) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Close()
		w.Close()
	})
	fd := int(w.Fd())
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{4096, 1} { // by pages, and then what is left of the last one
		for err = nil; err == nil; {
			_, err = unix.Write(fd, make([]byte, n))
		}
		if !errors.Is(err, unix.EAGAIN) {
			t.Fatal(err)
		}
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
	return w
}

// A FIFO that nobody opens for reading: an error in bounded time, not a cgshim that hangs.
func TestOutputFIFO(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := commandWithin(t, 20*time.Second, "--output", path, "--bogus")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if _ = cmd.Run(); cmd.ProcessState.ExitCode() != 125 {
		t.Errorf("%v, stderr %q, want exit status 125", cmd.ProcessState, stderr.String())
	}
}

// The result's descriptor is checked before anything runs: the default one too.
func TestUnwritableStderr(t *testing.T) {
	marker := filepath.Join(t.TempDir(), "ran")
	stderr, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	cmd := command(t, "--parent", newParent(t), "--", "/bin/sh", "-c", `echo >"$0"`, marker)
	cmd.Stderr = stderr
	_ = cmd.Run()
	if cmd.ProcessState.ExitCode() != 125 {
		t.Errorf("%v, want exit status 125", cmd.ProcessState)
	}
	if _, err := os.Stat(marker); err == nil {
		t.Error("the program ran, though its result can't be written")
	}
}
