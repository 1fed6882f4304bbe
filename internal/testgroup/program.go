package testgroup

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cgshim/cgshim/cgroup"
)

// Patience bounds what must happen sooner or later, also in an emulated machine.
const Patience = 60 * time.Second

var host = sync.OnceValues(func() (*cgroup.Host, error) {
	h, err := cgroup.Detect()
	if err != nil {
		return nil, err
	}
	g, err := h.Create(fmt.Sprintf("/cgshim-test-%d-trial", os.Getpid()), cgroup.Options{})
	if err != nil {
		return nil, err
	}
	return h, g.Remove()
})

// Host is the host, if this process may create groups with every controller there; else the test is skipped.
func Host(t *testing.T) *cgroup.Host {
	t.Helper()
	h, err := host()
	if err != nil {
		t.Skip("requires writable cgroups: ", err)
	}
	return h
}

// RequireV2 skips the test on v1.
func RequireV2(t *testing.T, h *cgroup.Host) {
	t.Helper()
	if h.Version() != cgroup.V2 {
		t.Skip("requires cgroups_v2")
	}
}

var paths atomic.Int64

// Path is a path of the test's own. What the test leaves there fails it.
func Path(t *testing.T, h *cgroup.Host) string {
	t.Helper()
	path := fmt.Sprintf("/cgshim-test-%d-%d-", os.Getpid(), paths.Add(1))
	t.Cleanup(func() {
		for _, m := range h.Mounts() {
			left, _ := filepath.Glob(m.Dir + path + "*")
			for _, dir := range left {
				t.Errorf("left behind: %s", dir)
			}
		}
	})
	return path
}

// Create makes a group that is killed and removed when the test ends.
func Create(t *testing.T, h *cgroup.Host, path string, o cgroup.Options) *cgroup.Group {
	t.Helper()
	g, err := h.Create(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if alive, _ := g.Populated(); alive {
			if err := g.Kill(Context(t)); err != nil {
				t.Error(err)
			}
		}
		if err := g.Remove(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// Context is over when nobody believes in success any more. It does not end before the cleanups run, as that of the test does.
func Context(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	t.Cleanup(cancel)
	return ctx
}

// A Program runs in a group.
type Program struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.Closer
	reap  sync.Once
}

// Start starts a shell command in a group, that has done nothing before it is there. The end of the test kills it.
func Start(t *testing.T, g *cgroup.Group, command string) *Program {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", "read go; "+command)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &Program{t: t, cmd: cmd, stdin: stdin}
	t.Cleanup(func() { _ = cmd.Process.Kill(); p.wait() })
	if err := g.Add(p.PID()); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(stdin, "\n"); err != nil {
		t.Fatal(err)
	}
	return p
}

// Wait is a command that waits for its end by Finish, or a signal.
const Wait = "exec cat"

// PID is the program's.
func (p *Program) PID() int { return p.cmd.Process.Pid }

func (p *Program) wait() { p.reap.Do(func() { _ = p.cmd.Wait() }) }

// Finish lets the program exit, and waits for it.
func (p *Program) Finish() {
	_ = p.stdin.Close()
	p.wait()
}

// MustBeKilled fails the test unless SIGKILL ended the program.
func (p *Program) MustBeKilled() {
	p.t.Helper()
	p.wait()
	if status := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGKILL {
		p.t.Errorf("the program ended with %v, not by SIGKILL", p.cmd.ProcessState)
	}
}
