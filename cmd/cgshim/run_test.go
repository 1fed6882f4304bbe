package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRunExitStatus(t *testing.T) {
	parent := newParent(t)
	for script, want := range map[string]int{"exit 0": 0, "exit 3": 3, "exit 127": 127, "kill -9 $$": 137, "kill -TERM $$": 143} {
		out := invoke(t, "--fd", "3", "--parent", parent, "--", "/bin/sh", "-c", script)
		if out.status != want || out.stderr != "" || out.stdout != "" {
			t.Errorf("%s: %+v", script, out)
		}
		if r := parseResult(t, out.fd3); r.Error != nil {
			t.Errorf("%s: %s", script, out.fd3)
		}
	}
}

// What a user gets to see: everything that the program writes and nothing else, and the result's place.
func TestRunOutputs(t *testing.T) {
	parent := newParent(t)
	script := []string{"--parent", parent, "--", "/bin/sh", "-c", "cat; echo err >&2"}
	cmd := command(t, append([]string{"--fd", "3"}, script...)...)
	cmd.Stdin = strings.NewReader("in")
	out := invokeCommand(t, cmd)
	if out.stdout != "in" || out.stderr != "err\n" || parseResult(t, out.fd3).Verdict != "ok" {
		t.Errorf("--fd 3: %+v", out)
	}

	cmd = command(t, append([]string{"--fd", "3"}, script...)...)
	cmd.Args = append(cmd.Args[:1], script...) // to stderr, by default
	cmd.Stdin = strings.NewReader("in")
	out = invokeCommand(t, cmd)
	line, ok := strings.CutPrefix(out.stderr, "err\n")
	if out.stdout != "in" || out.fd3 != "" || !ok || parseResult(t, line).Verdict != "ok" {
		t.Errorf("default: %+v", out)
	}

	file := filepath.Join(t.TempDir(), "result")
	cmd = command(t, append([]string{"--output", file}, script...)...)
	cmd.Stdin = strings.NewReader("in")
	out = invokeCommand(t, cmd)
	content, err := os.ReadFile(file)
	if err != nil || out.stdout != "in" || out.stderr != "err\n" || out.fd3 != "" || parseResult(t, string(content)).Verdict != "ok" {
		t.Errorf("--output: %+v, %q, %v", out, content, err)
	}
}

// An error is told to people only where they would not see the result.
func TestRunErrorText(t *testing.T) {
	parent := newParent(t)
	out := invoke(t, "--fd", "3", "--parent", parent, "--", "cgshim-no-such-program")
	r := parseResult(t, out.fd3)
	if out.status != 127 || r.Error == nil || r.Error.Hint == nil {
		t.Fatalf("%+v", out)
	}
	if want := "cgshim: error: " + r.Error.Message + "\ncgshim: hint: " + *r.Error.Hint + "\n"; out.stderr != want {
		t.Errorf("stderr %q, want %q", out.stderr, want)
	}
	out = invoke(t, "--parent", parent, "--", "cgshim-no-such-program")
	if out.status != 127 || parseResult(t, out.stderr).Verdict != "error" { // nothing but the line
		t.Errorf("%+v", out)
	}
}

// The variable is an order to this cgshim. The program may run a cgshim itself, and has no such descriptor.
func TestFDVariable(t *testing.T) {
	cmd := command(t, "--parent", newParent(t), "--", "/bin/sh", "-c", "echo ${CGSHIM_FD-unset}")
	cmd.Env = append(cmd.Env, "CGSHIM_FD=3")
	out := invokeCommand(t, cmd)
	if out.status != 0 || out.stdout != "unset\n" || out.stderr != "" || parseResult(t, out.fd3).Verdict != "ok" {
		t.Errorf("%+v", out)
	}
}

// What the program can't reach it can't forge.
func TestProgramHasNoResultFD(t *testing.T) {
	out := invoke(t, "--fd", "3", "--parent", newParent(t), "--", "/bin/sh", "-c",
		`ls /proc/$$/fd; echo '{"type":"result"}' 2>/dev/null >&3`)
	if out.stdout != "0\n1\n2\n" {
		t.Errorf("the program's descriptors: %q", out.stdout)
	}
	if r := parseResult(t, out.fd3); len(r.Argv) == 0 {
		t.Errorf("forged: %s", out.fd3)
	}
}

// The program has arguments that a pipe would not take, and the result, which has argv, says that it has not all of them.
func TestLongResult(t *testing.T) {
	const pipe = 64 << 10
	long := strings.Repeat("x", 100_000)
	out := invoke(t, "--fd", "3", "--parent", newParent(t), "--", "/bin/sh", "-c", `echo ${#1} ${#2}`, "sh", long, long)
	r := parseResult(t, out.fd3)
	if out.status != 0 || out.stdout != "100000 100000\n" || len(out.fd3) > pipe {
		t.Errorf("exit status %d, output %q, %d bytes", out.status, out.stdout, len(out.fd3))
	}
	if n := len(r.Argv); !r.ArgvTruncated || n != 5 || r.Argv[3] != "sh" || !strings.HasPrefix(r.Argv[4], "xxx") {
		t.Errorf("truncated: %v, %d arguments", r.ArgvTruncated, n)
	}
}

// A bad descriptor is found before anything is created or run.
func TestBadFD(t *testing.T) {
	parent := newParent(t)
	for _, args := range [][]string{{"--fd", "77"}, {"--fd", "x"}, {"--fd", "4"}} {
		cmd := command(t, append(args, "--parent", parent, "--", "/bin/echo", "ran")...)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		_ = cmd.Run()
		r := parseResult(t, stderr.String())
		if cmd.ProcessState.ExitCode() != 125 || r.Error == nil || r.Error.Step != "usage" || r.Cgroup != nil || stdout.Len() != 0 {
			t.Errorf("%q: %v, stdout %q, %s", args, cmd.ProcessState, stdout.String(), stderr.String())
		}
	}
}
