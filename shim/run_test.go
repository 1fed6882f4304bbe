package shim

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
)

func TestRunExit(t *testing.T) {
	parent := newParent(t)
	for name, test := range map[string]struct {
		script     string
		verdict    Verdict
		exitCode   any
		signal     any
		exitStatus int
	}{
		"exit 0":    {"exit 0", OK, 0, nil, 0},
		"exit 3":    {"exit 3", NonzeroExit, 3, nil, 3},
		"exit 127":  {"exit 127", NonzeroExit, 127, nil, 127},
		"exit 137":  {"exit 137", NonzeroExit, 137, nil, 137}, // by the exit status alone it is the next one
		"kill -9":   {"kill -9 $$", Signaled, nil, 9, 137},
		"kill -SEG": {"kill -SEGV $$", Signaled, nil, 11, 139},
	} {
		res := mustRun(t, shell(parent, test.script))
		if res.Verdict != test.verdict || deref(res.ExitCode) != test.exitCode || deref(res.Signal) != test.signal ||
			res.ExitStatus() != test.exitStatus || res.Error != nil {
			t.Errorf("%s: %s", name, res.JSON(false))
		}
		checkLine(t, res.JSON(false))
	}
}

func TestRunCannotStart(t *testing.T) {
	parent := newParent(t)
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	noInterpreter := filepath.Join(dir, "script")
	for path, content := range map[string]string{text: "no program\n", noInterpreter: "#!/nonexistent/interpreter\n"} {
		if err := os.WriteFile(path, []byte(content), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		cfg        Config
		step       string
		errno      string
		exitStatus int
	}{
		"not found":       {Config{Args: []string{"cgshim-no-such-program"}}, "exec", "ENOENT", ExitNotFound},
		"path not found":  {Config{Args: []string{dir + "/none"}}, "exec", "ENOENT", ExitNotFound},
		"directory":       {Config{Args: []string{dir}}, "exec", "EACCES", ExitCannotExec},
		"not executable":  {Config{Args: []string{plain}}, "exec", "EACCES", ExitCannotExec},
		"text file":       {Config{Args: []string{text}}, "exec", "ENOEXEC", ExitCannotExec},
		"no interpreter":  {Config{Args: []string{noInterpreter}}, "exec", "ENOENT", ExitCannotExec},
		"long argument":   {Config{Args: []string{"/bin/true", strings.Repeat("x", 1<<20)}}, "exec", "E2BIG", ExitCannotExec},
		"bad directory":   {Config{Args: []string{"/bin/true"}, Dir: dir + "/none"}, "chdir", "ENOENT", ExitFailed},
		"file as a dir":   {Config{Args: []string{"/bin/true"}, Dir: text}, "chdir", "ENOTDIR", ExitFailed},
		"PATH of the env": {Config{Args: []string{"sh"}, Env: []string{"PATH=" + dir}}, "exec", "ENOENT", ExitNotFound},
	} {
		test.cfg.Parent = parent
		test.cfg.Limits = cgroup.Limits{Memory: 64 << 20, PIDs: 4}
		res := mustRun(t, test.cfg)
		if res.Verdict != Failed || res.ExitStatus() != test.exitStatus || res.ExitCode != nil || res.Signal != nil || res.PID != nil {
			t.Errorf("%s: exit status %d, %.999s", name, res.ExitStatus(), res.JSON(false))
			continue
		}
		if res.Error.Step != test.step || deref(res.Error.Errno) != test.errno {
			t.Errorf("%s: %s %v, want %s %s", name, res.Error.Step, deref(res.Error.Errno), test.step, test.errno)
		}
		// Nothing ran, so nothing was measured.
		if res.WallSeconds != nil || res.CPUSeconds != nil || res.PeakMemoryBytes != nil || res.StartedAt != nil || res.LeftoverKilled != nil {
			t.Errorf("%s: figures of a program that never ran: %.999s", name, res.JSON(false))
		}
		checkLine(t, res.JSON(false))
		assertNoChild(t)
	}
}

// assertNoChild fails if a zombie, or a process, is left. Only for tests that no other one runs beside.
func assertNoChild(t *testing.T) {
	t.Helper()
	if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.ECHILD {
		t.Errorf("a child is left: wait4 returns %d, %v", pid, err)
	}
}

func TestRunConfigError(t *testing.T) {
	res := mustRun(t, Config{Args: []string{"true"}, Name: "a/b"})
	if res.Verdict != Failed || res.ExitStatus() != ExitFailed || res.Error.Step != "usage" || res.Cgroup != nil {
		t.Errorf("%s", res.JSON(false))
	}
	assertNoChild(t) // the stage is not even started
}

// A group that is there belongs to somebody: neither its process nor its limits may change.
func TestRunNameTaken(t *testing.T) {
	parent := newParent(t)
	host, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	group, err := host.Create(parent+"/taken", cgroup.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := group.Remove(); err != nil {
			t.Error(err)
		}
	}()
	if err := group.Set(cgroup.Limits{PIDs: 77}); err != nil {
		t.Fatal(err)
	}
	occupant := exec.Command("sleep", "10000")
	if err := occupant.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = occupant.Process.Kill()
		_ = occupant.Wait()
	}()
	if err := group.Add(occupant.Process.Pid); err != nil {
		t.Fatal(err)
	}

	cfg := shell(parent, "exit 0")
	cfg.Name, cfg.Limits = "taken", cgroup.Limits{PIDs: 5, Memory: 1 << 26}
	res := mustRun(t, cfg)
	if res.Verdict != Failed || deref(res.Error.Errno) != "EEXIST" || res.Error.Hint == nil || res.ExitStatus() != ExitFailed {
		t.Errorf("%s", res.JSON(false))
	}
	if pids, err := group.Procs(); err != nil || !slices.Equal(pids, []int{occupant.Process.Pid}) {
		t.Errorf("processes in the group: %v, %v, want %d", pids, err, occupant.Process.Pid)
	}
	limit, err := os.ReadFile(host.MountPoint(cgroup.PIDs) + parent + "/taken/pids.max")
	if err != nil || strings.TrimSpace(string(limit)) != "77" {
		t.Errorf("the group's limit: %s, %v, want 77", limit, err)
	}
}

// A name is one path element below the parent, and free again after the run.
func TestRunName(t *testing.T) {
	cfg := shell(newParent(t), "exit 0")
	cfg.Name = "judge-1.memory.max"
	for range 2 {
		if res := mustRun(t, cfg); res.Verdict != OK || deref(res.Cgroup) != cfg.Parent+"/"+cfg.Name {
			t.Errorf("%s", res.JSON(false))
		}
	}
}

// The program sees the environment and directory of the Config, nothing of the stage.
func TestRunProgramSees(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cfg := shell(newParent(t), `{ pwd; tr '\0' '\n' </proc/$$/environ; } >seen`)
	cfg.Dir, cfg.Env = dir, []string{"PATH=/bin:/usr/bin", "A=1", "A=2"}
	if res := mustRun(t, cfg); res.Verdict != OK {
		t.Fatalf("%s", res.JSON(false))
	}
	seen, err := os.ReadFile(filepath.Join(dir, "seen"))
	if want := dir + "\nPATH=/bin:/usr/bin\nA=2\n"; err != nil || string(seen) != want {
		t.Errorf("%q, %v, want %q", seen, err, want)
	}
}

// The program is inside its group when it runs, in every hierarchy that the figures come from.
func TestRunIsInItsGroup(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cgroup")
	cfg := shell(newParent(t), `cat /proc/$$/cgroup >"$0"`, file)
	cfg.Name = "mine"
	cfg.Limits = cgroup.Limits{Memory: 64 << 20, PIDs: 8}
	if res := Run(context.Background(), cfg); res.Verdict != OK {
		t.Fatalf("%s", res.JSON(false))
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	host, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	wanted := []string{":memory:", ":pids:", ":cpuacct:"}
	switch {
	case host.Version() == cgroup.V2:
		wanted = []string{"0::"}
	case strings.Contains(string(content), "0::"+cfg.Parent): // a hybrid host, where that tells the CPU time, too
		wanted = []string{":memory:", ":pids:", "0::"}
	}
	for _, hierarchy := range wanted {
		if !strings.Contains(string(content), hierarchy+cfg.Parent+"/mine\n") {
			t.Errorf("not in the group of %s\n%s", hierarchy, content)
		}
	}
}
