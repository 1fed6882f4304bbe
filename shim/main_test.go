package shim

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/internal/plain"
	"github.com/cgshim/cgshim/internal/testgroup"
)

// helperEnv makes the test binary one of the programs below instead of running tests.
const helperEnv = "SHIM_TEST_HELPER"

// safety is how long anything may take before a test calls it hung. No test measures time by it: the
// same tests run in an emulated machine that is 20 times slower.
const safety = 60 * time.Second

var helpers = map[string]func(args []string){
	"eat":            eat,
	"hold":           func([]string) { eat(nil); time.Sleep(slowly(300 * time.Millisecond)) },
	"leave":          leave,
	"sleep":          func([]string) { time.Sleep(time.Hour) },
	"closed-signals": closedSignals,
	"descriptors":    descriptorsRunOut,
	"no-network":     withoutNetwork,
	"pool":           poolDies,
	"zombies":        zombies,
}

func TestMain(m *testing.M) {
	if name := os.Getenv(helperEnv); name != "" {
		helpers[name](os.Args[1:]) // panics if there is none: a typo must not pass for a program
		os.Exit(0)
	}
	plain.Exec()
	os.Exit(m.Run())
}

// eat touches 128 MiB.
func eat([]string) {
	block := make([]byte, 128<<20)
	for i := 0; i < len(block); i += 1024 {
		block[i] = 1
	}
	runtime.KeepAlive(block)
}

// leave starts two processes in sessions of their own, writes their pids to a file, and ends.
func leave(args []string) {
	var pids []string
	for range 2 {
		cmd := exec.Command("sleep", "10000")
		cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			panic(err)
		}
		pids = append(pids, fmt.Sprint(cmd.Process.Pid))
	}
	if err := os.WriteFile(args[0], []byte(strings.Join(pids, " ")), 0o600); err != nil {
		panic(err)
	}
}

// self is a Config whose program is one of the helpers.
func self(t *testing.T, parent, helper string, args ...string) Config {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Args:   append([]string{path}, args...),
		Env:    append(os.Environ(), helperEnv+"="+helper, "GORACE=atexit_sleep_ms=0"), // -race takes a second to exit
		Parent: parent,
	}
}

// shell is a Config whose program is a shell script.
func shell(parent, script string, args ...string) Config {
	return Config{Args: append([]string{"/bin/sh", "-c", script}, args...), Parent: parent}
}

// mustRun is Run, with a bound on its time.
func mustRun(t *testing.T, cfg Config) *Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), safety)
	defer cancel()
	r := Run(ctx, cfg)
	if ctx.Err() != nil {
		t.Fatalf("the run took longer than %v: %s", safety, r.JSON(false))
	}
	assertValid(t, r.JSON(false))
	return r
}

// These are of package testgroup; many tests use them.
func newParent(t *testing.T) string          { t.Helper(); return testgroup.NewParent(t) }
func assertNoGroup(t *testing.T, dir string) { t.Helper(); testgroup.AssertGone(t, dir) }
func cgroupMounts(t *testing.T) []string     { t.Helper(); return testgroup.Mounts(t) }

// readiness is a FIFO that a program writes to when it is ready, and a function that waits for that.
func readiness(t *testing.T) (path string, wait func()) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "ready")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	// For reading and writing: without a writer of our own, Read would return before the program opens it.
	fifo, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { fifo.Close() })
	return path, func() {
		t.Helper()
		_ = fifo.SetReadDeadline(time.Now().Add(safety))
		if _, err := fifo.Read(make([]byte, 16)); err != nil {
			t.Fatal("the program did not get ready: ", err)
		}
	}
}

// emulated says whether the CPU is, as in tests/suite's machines.
func emulated() bool { return os.Getenv("CGSHIM_EMULATED") != "" }

// slowly is the time to give a program, or ourselves, for something that has to happen within it: an emulated CPU takes longer, and
// longer still while its host is busy.
func slowly(d time.Duration) time.Duration {
	if emulated() {
		return 5 * d
	}
	return d
}

// held is a Config whose program, a shell alone, ends when it is released.
func held(t *testing.T, parent string) (cfg Config, release func()) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "held")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	fifo, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { fifo.Close() })
	return shell(parent, `read -r _ <"$0"`, path), func() {
		if _, err := fifo.WriteString("\n"); err != nil {
			t.Error(err)
		}
	}
}

// deref is what a pointer of a Result says: nil for unknown.
func deref[T any](p *T) any {
	if p == nil {
		return nil
	}
	return *p
}
