package main

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A signal to cgshim reaches the program, and the result says that this is what ended the run.
func TestCancel(t *testing.T) {
	cmd := command(t, "--parent", newParent(t), "--stop-timeout", "1h", "--", "/bin/sh", "-c", "echo ready; exec sleep 10000")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Signal(unix.SIGTERM)
	_ = cmd.Wait()
	if r := parseResult(t, stderr.String()); cmd.ProcessState.ExitCode() != 143 || r.Verdict != "cancelled" {
		t.Errorf("%v, %s", cmd.ProcessState, stderr.String())
	}
}

// SIGHUP and SIGINT that the caller ignores stay ignored, as under nohup, and do not cancel the run. (Of
// other signals Go does not tell.) SIGCHLD, which comes with every run, is not the program's.
func TestIgnoredSignals(t *testing.T) {
	inner := command(t, "--fd", "3", "--parent", newParent(t), "--")
	inner.Args = append(inner.Args, inner.Path)
	script := `trap "" HUP INT; exec "$@"`
	cmd := exec.Command("/bin/sh", append([]string{"-c", script, "sh", inner.Path}, inner.Args[1:]...)...)
	cmd.Env = append(inner.Env, helperEnv+"=chld")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	ready, stdout, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer ready.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.Stdout, cmd.ExtraFiles = stdout, []*os.File{w}
	err = cmd.Start()
	w.Close()
	stdout.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(safety, func() { _ = cmd.Process.Kill() }).Stop()
	if _, err := bufio.NewReader(ready).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	for _, sig := range []unix.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGCHLD} {
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	stdin.Close()
	line, _ := io.ReadAll(r)
	_ = cmd.Wait()
	if res := parseResult(t, string(line)); res.Verdict != "ok" {
		t.Errorf("%s", line)
	}
}
