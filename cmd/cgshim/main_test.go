package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/internal/plain"
	"github.com/cgshim/cgshim/internal/testgroup"
)

const (
	// mainEnv makes the test binary cgshim itself, so that what runs is what was compiled with -race and
	// for coverage, also where there is no Go toolchain.
	mainEnv = "CGSHIM_TEST_MAIN"
	// helperEnv makes it one of the helper programs.
	helperEnv = "CGSHIM_TEST_HELPER"
	// safety is how long anything may take before a test calls it hung.
	safety = 60 * time.Second
)

var helpers = map[string]func(){"chld": reportChildSignals, "args": reportArguments}

// Package-level variables have their values before the package's init is called.
var _ = func() bool {
	underTest = true
	return underTest
}()

// As the command is, see main.go, it is on the process's first thread.
func init() {
	if os.Getenv(mainEnv) != "" {
		runtime.LockOSThread()
	}
}

func TestMain(m *testing.M) {
	if os.Getenv(mainEnv) != "" {
		_ = os.Unsetenv(mainEnv) // not for the program, which may be a helper
		main()
	}
	if name := os.Getenv(helperEnv); name != "" {
		helpers[name]()
		os.Exit(0)
	}
	plain.Exec()
	os.Exit(m.Run())
}

// reportChildSignals says "ready", and after the end of its input exits with 9 if it was sent a SIGCHLD,
// which it has no children for.
func reportChildSignals() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGCHLD)
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	select {
	case <-signals:
		os.Exit(9)
	case <-time.After(200 * time.Millisecond): // one that is late goes unnoticed; none is never taken for one
	}
}

// reportArguments writes its arguments and its variable A, each with a NUL byte after it.
func reportArguments() {
	for _, text := range append(os.Args, os.Getenv("A")) {
		fmt.Print(text, "\x00")
	}
}

// command is cgshim with the arguments, as a process to be.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	return commandWithin(t, safety, args...)
}

// commandWithin is killed if it takes longer.
func commandWithin(t *testing.T, timeout time.Duration, args ...string) *exec.Cmd {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), mainEnv+"=1", "GORACE=atexit_sleep_ms=0") // or -race takes a second to exit
	cmd.WaitDelay = safety
	return cmd
}

// An outcome is all that a caller of cgshim gets.
type outcome struct {
	status         int
	stdout, stderr string
	fd3            string
}

// invoke runs cgshim with a pipe as descriptor 3.
func invoke(t *testing.T, args ...string) outcome {
	t.Helper()
	return invokeCommand(t, command(t, args...))
}

func invokeCommand(t *testing.T, cmd *exec.Cmd) outcome {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = &stdout, &stderr, []*os.File{w}
	err = cmd.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	// While it runs, as callers do: the result may be longer than the pipe. The end of the file says also
	// that no process of the run holds the descriptor.
	_ = r.SetReadDeadline(time.Now().Add(safety))
	result, readErr := io.ReadAll(r)
	err = cmd.Wait()
	var exit *exec.ExitError
	if readErr != nil || err != nil && !errors.As(err, &exit) {
		t.Fatalf("%q: %v, %v", cmd.Args, err, readErr)
	}
	return outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String(), string(result)}
}

// A result is what these tests look at in the JSON.
type result struct {
	Type          string            `json:"type"`
	Verdict       string            `json:"verdict"`
	ExitCode      *int              `json:"exit_code"`
	Argv          []string          `json:"argv"`
	ArgvTruncated bool              `json:"argv_truncated"`
	Cgroup        *string           `json:"cgroup"`
	Limits        map[string]any    `json:"limits"`
	Enforced      map[string]string `json:"enforced"`
	Error         *struct {
		Step    string  `json:"step"`
		Message string  `json:"message"`
		Hint    *string `json:"hint"`
	} `json:"error"`
}

// parseResult fails the test unless the text is exactly one line with one result.
func parseResult(t *testing.T, text string) result {
	t.Helper()
	noteResult(t, text)
	var r result
	if strings.Count(text, "\n") != 1 || !strings.HasSuffix(text, "\n") {
		t.Fatalf("not exactly one line: %q", text)
	}
	if err := json.Unmarshal([]byte(text), &r); err != nil || r.Type != "result" {
		t.Fatalf("no result: %v: %q", err, text)
	}
	return r
}

// noteResult lets tests/suite hold the result against the schema.
func noteResult(t *testing.T, text string) {
	t.Helper()
	path := os.Getenv("CGSHIM_RESULTS")
	if path == "" {
		return
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = file.WriteString(text)
		_ = file.Close()
	}
	if err != nil {
		t.Error(err)
	}
}

// assertUsage fails unless the result went to descriptor 3, says that the command line is wrong, and why.
func assertUsage(t *testing.T, out outcome, mentions ...string) {
	t.Helper()
	r := parseResult(t, out.fd3)
	if out.status != 125 || r.Verdict != "error" || r.Error == nil || r.Error.Step != "usage" || r.ExitCode != nil || r.Cgroup != nil {
		t.Fatalf("exit status %d, %s", out.status, out.fd3)
	}
	for _, text := range mentions {
		if !strings.Contains(r.Error.Message, text) {
			t.Errorf("message %q does not mention %s", r.Error.Message, text)
		}
	}
	if !strings.HasPrefix(out.stderr, "cgshim: error: ") || out.stdout != "" {
		t.Errorf("stdout %q, stderr %q", out.stdout, out.stderr)
	}
}

func newParent(t *testing.T) string { t.Helper(); return testgroup.NewParent(t) }
