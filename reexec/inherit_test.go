package reexec

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fallback is a Join with which the program is made by plain clone, as on a kernel without clone3, and
// joins nothing: what it writes to in place of cgroup.procs is a regular file.
func fallback(t *testing.T) Join {
	t.Helper()
	procs := openFile(t, filepath.Join(t.TempDir(), "procs"), os.O_WRONLY|os.O_CREATE)
	return Join{Into: openFile(t, "/", os.O_RDONLY), Procs: procs, noInto: true}
}

// openFile returns a descriptor that is closed when the test ends.
func openFile(t *testing.T, path string, flags int) int {
	t.Helper()
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0o644)
	if err != nil {
		t.Fatalf("open %q: %v", path, err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// everyWay runs a test for clone3, for its fallback, and with the kernel refusing what is newer: the
// program reaches execve in different states.
func everyWay(t *testing.T, test func(t *testing.T, join Join)) {
	t.Helper()
	t.Run("clone3", func(t *testing.T) { lock(t); test(t, Join{}) })
	t.Run("clone", func(t *testing.T) { lock(t); test(t, fallback(t)) })
	t.Run("old kernel", func(t *testing.T) { oldKernel(t); test(t, Join{}) })
}

func TestDescriptors(t *testing.T) {
	everyWay(t, func(t *testing.T, join Join) {
		for range 3 { // leaks, as C code in the caller may make them
			leak, err := unix.Dup(1) // dup clears close-on-exec
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(leak)
		}
		high, err := unix.FcntlInt(1, unix.F_DUPFD, 900)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(high)
		// The shell lists its own descriptors, by ls; the last command keeps it from becoming ls.
		got := output(t, &Spec{Args: []string{"/bin/sh", "-c", "ls /proc/$$/fd; :"}}, join)
		if got != "0\n1\n2\n" {
			t.Errorf("the program has descriptors %q", strings.Fields(got))
		}
	})
}

// A descriptor may have a number above the limit, which was lowered after it was opened, or raised by a Go runtime.
func TestDescriptorsAboveLimit(t *testing.T) {
	for name, env := range map[string][]string{"new kernel": {"LEAK=1"}, "old kernel": {"LEAK=1", oldKernelEnv + "=1"}} {
		got := underShellWith(t, env, Join{}, "ulimit -Sn 64", "/bin/sh", "-c", "ls /proc/$$/fd; :")
		if got != "0\n1\n2\n" {
			t.Errorf("%s: the program has descriptors %q", name, strings.Fields(got))
		}
	}
}

// What the caller blocks is not for the program: its alarm would never fire.
func TestSignalMask(t *testing.T) {
	t.Run("harmless", func(t *testing.T) { testSignalMask(t, unix.SIGUSR1, unix.SIGCONT) })
	// These a starting Go runtime, the stage's, unblocks.
	t.Run("deadly", func(t *testing.T) { testSignalMask(t, unix.SIGTERM, unix.SIGINT, unix.SIGHUP) })
}

func testSignalMask(t *testing.T, signals ...unix.Signal) {
	everyWay(t, func(t *testing.T, join Join) {
		var set, old unix.Sigset_t
		for _, sig := range signals {
			set.Val[0] |= 1 << (sig - 1)
		}
		if err := unix.PthreadSigmask(unix.SIG_BLOCK, &set, &old); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil) }()
		if ownStatus(t)["SigBlk"] == noSignals {
			t.Fatal("this thread blocks nothing")
		}
		if got := status(t, join, false)["SigBlk"]; got != noSignals {
			t.Errorf("SigBlk: %s, want none", got)
		}
	})
}

const noSignals = "0000000000000000"

// ownStatus is the calling thread's.
func ownStatus(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		t.Fatal(err)
	}
	return parseStatus(string(text))
}

func TestSignalsAndMemoryByDefault(t *testing.T) {
	everyWay(t, func(t *testing.T, join Join) {
		mine, got := ownStatus(t), status(t, join, false)
		if got["SigCgt"] != "0000000000000000" {
			t.Errorf("SigCgt: %s, want none", got["SigCgt"])
		}
		// THP_enabled: the stage turns huge pages off for its own heap only. Seccomp and Groups: nothing
		// of the launch may narrow what the program can do.
		for _, key := range []string{"THP_enabled", "Seccomp", "Groups", "Uid", "Gid", "CapEff", "Cpus_allowed", "Umask"} {
			if got[key] != mine[key] {
				t.Errorf("%s: %q, want this process's %q", key, got[key], mine[key])
			}
		}
	})
}

// Under nohup the program ignores SIGHUP, and in a shell's background SIGINT, as it would without us. Of the others a Go
// process can't tell most, and no other is ignored: not those of job control either, nor a real-time signal.
func TestIgnoredSignals(t *testing.T) {
	const hupInt = 1<<(unix.SIGHUP-1) | 1<<(unix.SIGINT-1)
	mine, err := strconv.ParseUint(ownStatus(t)["SigIgn"], 16, 64) // those of nohup go test
	if err != nil {
		t.Fatal(err)
	}
	everyWay(t, func(t *testing.T, join Join) {
		for ignored, want := range map[string]uint64{
			"HUP INT":             hupInt,
			"INT QUIT":            1 << (unix.SIGINT - 1),
			"TERM PIPE CHLD":      0,
			"TSTP TTIN TTOU CONT": 0,
			"34 35 50 64":         0,
			"HUP $(seq 3 8) TSTP": 1 << (unix.SIGHUP - 1),
		} {
			got := parseStatus(underShell(t, join, `trap "" `+ignored, "/bin/cat", "/proc/self/status"))
			if want |= mine & hupInt; got["SigIgn"] != fmt.Sprintf("%016x", want) || got["SigCgt"] != noSignals {
				t.Errorf("%s: SigIgn %s, SigCgt %s, want %016x and none", ignored, got["SigIgn"], got["SigCgt"], want)
			}
		}
	})
}

// The Go runtime raises the soft limit of its own process, twice on the way to the program.
func TestNofileAsStarted(t *testing.T) {
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &own); err != nil {
		t.Fatal(err)
	}
	if own.Max <= 512 {
		t.Skip("requires nofile_above_512")
	}
	everyWay(t, func(t *testing.T, join Join) {
		got := underShell(t, join, "ulimit -Sn 512", "/bin/sh", "-c", "ulimit -Sn; ulimit -Hn")
		hard := underShell(t, join, ":", "/bin/sh", "-c", "ulimit -Hn")
		if got != "512\n"+hard {
			t.Errorf("soft and hard RLIMIT_NOFILE are %q, want 512 and %q", strings.Fields(got), hard)
		}
	})
}

// A limit that the shim has set itself since it was started is the program's.
func TestNofileSetSince(t *testing.T) {
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &own); err != nil {
		t.Fatal(err)
	}
	if own.Max < 600 {
		t.Skip("requires nofile_above_512")
	}
	for _, limit := range []string{"300 400", "512 512", "600 600", fmt.Sprint(own.Max, " ", own.Max)} {
		got := underShellWith(t, []string{"NOFILE=" + limit}, Join{}, "ulimit -Sn 512", "/bin/sh", "-c", "echo $(ulimit -Sn) $(ulimit -Hn)")
		if strings.TrimSpace(got) != limit {
			t.Errorf("soft and hard RLIMIT_NOFILE are %s, want %s", got, limit)
		}
	}
}

func TestNoNewPrivs(t *testing.T) {
	if ownStatus(t)["NoNewPrivs"] != "0" {
		t.Skip("requires no_new_privs_unset")
	}
	everyWay(t, func(t *testing.T, join Join) {
		if got := status(t, join, false)["NoNewPrivs"]; got != "1" {
			t.Errorf("NoNewPrivs: %q by default, want 1", got)
		}
		if got := status(t, join, true)["NoNewPrivs"]; got != "0" {
			t.Errorf("NoNewPrivs: %q with AllowNewPrivs, want 0", got)
		}
	})
}
