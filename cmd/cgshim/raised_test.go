package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const nobody = 65534

// A copy of cgshim, in a directory where everybody may write.
type copied struct {
	dir, path string
}

func newCopy(t *testing.T) *copied {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("requires root")
	}
	c := &copied{dir: t.TempDir()}
	var fs unix.Statfs_t
	if err := unix.Statfs(c.dir, &fs); err != nil || fs.Flags&unix.ST_NOSUID != 0 {
		t.Skip("requires a file system for set-user-ID programs")
	}
	self, err := os.ReadFile("/proc/self/exe")
	c.path = filepath.Join(c.dir, "cgshim")
	err = errors.Join(err, os.WriteFile(c.path, self, 0o755),
		os.Chmod(filepath.Dir(c.dir), 0o755), os.Chmod(c.dir, 0o777)) //nolint:gosec // nobody is to use it
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// command is that copy as nobody's process.
func (c *copied) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := command(t, args...)
	cmd.Path, cmd.Dir = c.path, c.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	return cmd
}

func (c *copied) exists(name string) bool {
	_, err := os.Lstat(filepath.Join(c.dir, name))
	return err == nil
}

// raise gives a file privileges.
var raise = map[string]func(path string) error{
	"set-user-ID":  func(path string) error { return os.Chmod(path, 0o755|os.ModeSetuid) },
	"set-group-ID": func(path string) error { return os.Chmod(path, 0o755|os.ModeSetgid) },
	"set-user-ID of another": func(path string) error {
		return errors.Join(os.Chown(path, 1, 1), os.Chmod(path, 0o755|os.ModeSetuid))
	},
	// See linux/capability.h, struct vfs_ns_cap_data without a namespace: revision 2, effective.
	"file capabilities": func(path string) error {
		data := []byte{1, 0, 0, 2, 1<<unix.CAP_SETUID | 1<<unix.CAP_DAC_OVERRIDE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
		return unix.Setxattr(path, "security.capability", data, 0)
	},
}

// A copy that has privileges which its caller has not runs nothing for anybody, and says so where the result is due.
func TestRaised(t *testing.T) {
	for how, raise := range raise {
		t.Run(how, func(t *testing.T) {
			c := newCopy(t)
			if err := raise(c.path); err != nil {
				t.Fatal(err)
			}
			how, _, _ := strings.Cut(how, " of ")
			for _, args := range [][]string{{"--fd", "3", "--best-effort", "--", "touch", "ran"}, {"run", "--fd=3", "touch", "ran"}} {
				out := invokeCommand(t, c.command(t, args...))
				assertRefused(t, out.status, out.fd3, how)
				if !strings.HasPrefix(out.stderr, "cgshim: error: ") {
					t.Errorf("%q: stderr %q", args, out.stderr)
				}
			}
			for _, args := range []string{"batch", "doctor", "ps", "stat x", "kill x", "freeze x", "thaw x", "gc"} {
				out := invokeCommand(t, c.command(t, strings.Fields(args)...))
				if out.status != 125 || out.stdout != "" || !strings.Contains(out.stderr, how) {
					t.Errorf("%s: exit status %d, %q, %q", args, out.status, out.stdout, out.stderr)
				}
			}
			if out := invokeCommand(t, c.command(t, "version")); out.status != 0 || out.stdout == "" {
				t.Errorf("version: exit status %d, %q", out.status, out.stderr)
			}
			if c.exists("ran") {
				t.Error("the program was run")
			}
		})
	}
}

func assertRefused(t *testing.T, status int, line, how string) {
	t.Helper()
	r := parseResult(t, line)
	if status != 125 || r.Verdict != "error" || r.Error == nil || r.Error.Step != "privileges" || !strings.Contains(r.Error.Message, how) || r.Error.Hint == nil {
		t.Errorf("exit status %d, %s", status, line)
	}
}

// The file of --output is written with the caller's rights, or not at all.
func TestRaisedOutput(t *testing.T) {
	for _, how := range []string{"set-user-ID", "file capabilities"} {
		c := newCopy(t)
		if err := errors.Join(raise[how](c.path), os.Mkdir(c.dir+"/roots", 0o700)); err != nil {
			t.Fatal(err)
		}
		out := invokeCommand(t, c.command(t, "--output", "r.json", "--", "touch", "ran"))
		line, err := os.ReadFile(c.dir + "/r.json")
		if err != nil {
			t.Fatal(err, out)
		}
		assertRefused(t, out.status, string(line), how)
		var st unix.Stat_t
		if err := unix.Stat(c.dir+"/r.json", &st); err != nil || st.Uid != nobody {
			t.Errorf("the result is user %d's: %v", st.Uid, err)
		}
		out = invokeCommand(t, c.command(t, "--output", "roots/r.json", "--", "touch", "ran"))
		assertRefused(t, out.status, out.stderr, how)
		if c.exists("roots/r.json") || c.exists("ran") {
			t.Errorf("%s: it was written, or run", how)
		}
	}
}

// Nobody gives a privileged copy orders, as if he were cgshim and it the stage, or the guardian.
func TestRaisedStage(t *testing.T) {
	c := newCopy(t)
	if err := raise["set-user-ID"](c.path); err != nil {
		t.Fatal(err)
	}
	for _, variable := range []string{"CGSHIM_STAGE=on", "CGSHIM_GUARDIAN=4"} {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
		cmd := c.command(t)
		cmd.Env = []string{variable}
		cmd.ExtraFiles = []*os.File{theirs, theirs}
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		err = cmd.Run()
		_ = theirs.Close()
		said := make([]byte, 100)
		n, _ := ours.Read(said)
		_ = ours.Close()
		if cmd.ProcessState.ExitCode() != 125 || n > 0 || stderr.Len() > 0 {
			t.Errorf("%s: %v, it says %q, stderr %q", variable, err, said[:n], &stderr)
		}
	}
}

// Ambient capabilities are the caller's own: no reason to refuse anything. Nor are a file's if root calls it.
func TestNotRaised(t *testing.T) {
	c := newCopy(t)
	cmd := c.command(t, "--fd", "3", "--best-effort", "--", "touch", "ran")
	cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_SETUID, unix.CAP_NET_RAW}
	if out := invokeCommand(t, cmd); out.status != 0 || !c.exists("ran") {
		t.Errorf("ambient capabilities: exit status %d, %s", out.status, out.fd3)
	}
	if err := raise["file capabilities"](c.path); err != nil {
		t.Fatal(err)
	}
	cmd = c.command(t, "--fd", "3", "--best-effort", "--", "touch", "root")
	cmd.SysProcAttr = nil
	if out := invokeCommand(t, cmd); out.status != 0 || !c.exists("root") {
		t.Errorf("root: exit status %d, %s", out.status, out.fd3)
	}
}
