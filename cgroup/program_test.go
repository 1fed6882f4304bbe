package cgroup

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cgshim/cgshim/internal/testpipe"
)

// A program is a helper that runs, seen from the test.
type program struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    *os.File
	out   *bufio.Reader
	reap  sync.Once
	state *os.ProcessState
}

// start starts a helper outside of any group, and returns when it is ready. The end of the test kills it.
func start(t *testing.T, name string, args ...string) *program {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", args...)
	return startCmd(t, name, cmd)
}

// startIn starts a helper in a group.
func startIn(t *testing.T, g *Group, name string, args ...string) *program {
	t.Helper()
	p := start(t, name, args...)
	if err := g.Add(p.pid()); err != nil {
		t.Fatal(err)
	}
	return p
}

func startCmd(t *testing.T, name string, cmd *exec.Cmd) *program {
	t.Helper()
	if _, ok := helpers[name]; !ok {
		t.Fatalf("no helper %q", name)
	}
	used[name] = true
	stdin, in := testpipe.New(t)
	out, stdout := testpipe.New(t)
	// Without a deadline a helper that hangs would hang the test.
	if err := out.SetReadDeadline(time.Now().Add(2 * patience)); err != nil {
		t.Fatal(err)
	}
	// Under -race a program would sleep for a second before it exits.
	cmd.Env = append(os.Environ(), helperEnv+"="+name, "GORACE=atexit_sleep_ms=0")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stdin.Close()
	stdout.Close()
	p := &program{t: t, cmd: cmd, in: in, out: bufio.NewReader(out)}
	t.Cleanup(func() { _ = cmd.Process.Kill(); p.wait() })
	if line := p.read(); line != "ready" {
		t.Fatalf("%s: %q instead of ready", name, line)
	}
	return p
}

func (p *program) pid() int { return p.cmd.Process.Pid }

// goOn lets the helper do its work.
func (p *program) goOn() {
	p.t.Helper()
	if _, err := p.in.WriteString("go\n"); err != nil {
		p.t.Fatal(err)
	}
}

// read reads one line of the helper's.
func (p *program) read() string {
	p.t.Helper()
	line, err := p.out.ReadString('\n')
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// finish lets the helper exit, and waits for it.
func (p *program) finish() {
	p.in.Close()
	p.wait()
}

// wait reaps the helper, once.
func (p *program) wait() syscall.WaitStatus {
	p.reap.Do(func() { _ = p.cmd.Wait(); p.state = p.cmd.ProcessState })
	return p.state.Sys().(syscall.WaitStatus)
}

// mustBeKilled fails the test unless SIGKILL ended the helper.
func (p *program) mustBeKilled() {
	p.t.Helper()
	if status := p.wait(); !status.Signaled() || status.Signal() != syscall.SIGKILL {
		p.t.Errorf("the program ended with %v, not by SIGKILL", p.state)
	}
}
