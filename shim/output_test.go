package shim

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// outputOf runs a shell script with an output limit, its stdout and stderr in a file that is opened with
// the flags.
func outputOf(t *testing.T, parent string, flags int, limit int64, script string) (*Result, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "out")
	file, err := os.OpenFile(path, flags|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cfg := shell(parent, script)
	cfg.Stdout, cfg.Stderr, cfg.OutputLimit = file, file, limit
	res := mustRun(t, cfg)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(content)
}

// Byte for byte, also where splice is refused (O_APPEND).
func TestOutputLimit(t *testing.T) {
	parent := newParent(t)
	for _, flags := range []int{os.O_WRONLY, os.O_WRONLY | os.O_APPEND} {
		for _, limit := range []int64{1, 4095, 4096, 4097, 100000, 299999, 300000, 300001} {
			res, content := outputOf(t, parent, flags, limit, "head -c 300000 /dev/zero | tr '\\0' x")
			want, verdict := strings.Repeat("x", int(min(limit, 300000))), OK
			if limit < 300000 {
				verdict = OutputLimit
			}
			if content != want || res.Verdict != verdict || deref(res.OutputBytes) != uint64(len(want)) {
				t.Errorf("limit %d, flags %#x: %d bytes, %s", limit, flags, len(content), res.JSON(false))
			}
		}
	}
}

func TestOutputKeepsOrder(t *testing.T) {
	res, content := outputOf(t, newParent(t), os.O_WRONLY, 1000, "for i in 1 2 3 4 5; do echo out$i; echo err$i >&2; done")
	if want := "out1\nerr1\nout2\nerr2\nout3\nerr3\nout4\nerr4\nout5\nerr5\n"; content != want || res.Verdict != OK {
		t.Errorf("%q, %s", content, res.JSON(false))
	}
}

// Two files have one limit.
func TestOutputOfTwoFiles(t *testing.T) {
	dir := t.TempDir()
	out, err := os.Create(dir + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	errs, err := os.Create(dir + "/err")
	if err != nil {
		t.Fatal(err)
	}
	defer errs.Close()
	cfg := shell(newParent(t), "while :; do echo 1234567; echo 1234567 >&2; done")
	cfg.Stdout, cfg.Stderr, cfg.OutputLimit = out, errs, 100001
	res := mustRun(t, cfg)
	first, _ := os.ReadFile(out.Name())
	second, _ := os.ReadFile(errs.Name())
	if len(first)+len(second) != 100001 || len(first) < 8 || len(second) < 8 || res.Verdict != OutputLimit {
		t.Errorf("%d and %d bytes, %s", len(first), len(second), res.JSON(false))
	}
}

// A pipe whose reader is slow gets everything.
func TestOutputToSlowReader(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	received := make(chan []byte)
	go func() {
		var all []byte
		buf := make([]byte, 8192)
		for {
			n, err := r.Read(buf)
			if err != nil {
				received <- all
				return
			}
			all = append(all, buf[:n]...)
			time.Sleep(time.Millisecond)
		}
	}()
	cfg := shell(newParent(t), "head -c 1000000 /dev/zero")
	cfg.Stdout, cfg.OutputLimit = w, 1<<30
	res := mustRun(t, cfg)
	w.Close()
	if got := <-received; len(got) != 1000000 || res.Verdict != OK {
		t.Errorf("%d bytes, %s", len(got), res.JSON(false))
	}
	r.Close()
}

// A receiver that somebody has made non-blocking, and that is full for a while.
func TestOutputToNonblockingPipe(t *testing.T) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(pipe[1], true); err != nil {
		t.Fatal(err)
	}
	r, w := os.NewFile(uintptr(pipe[0]), "r"), os.NewFile(uintptr(pipe[1]), "w")
	received := make(chan int)
	go func() {
		time.Sleep(100 * time.Millisecond)
		all, _ := io.ReadAll(r)
		received <- len(all)
	}()
	cfg := shell(newParent(t), "head -c 1000000 /dev/zero")
	cfg.Stdout, cfg.OutputLimit = w, 1<<30
	res := mustRun(t, cfg)
	w.Close()
	if got := <-received; got != 1000000 || res.Verdict != OK {
		t.Errorf("%d bytes, %s", got, res.JSON(false))
	}
	r.Close()
}

// A reader that is gone: the program sees it as it would without us, and it is no error.
func TestOutputToDeadReader(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer w.Close()
	cfg := shell(newParent(t), "while :; do echo x; done")
	cfg.Stdout, cfg.OutputLimit = w, 1<<20
	if res := mustRun(t, cfg); res.Error != nil || deref(res.OutputBytes) != uint64(0) || res.Verdict == OutputLimit {
		t.Errorf("%s", res.JSON(false))
	}
	// With its first write: there may be no second one.
	cfg = Config{Args: []string{"printf", "hello"}, Parent: cfg.Parent, Stdout: w, OutputLimit: 1 << 20}
	for range 10 {
		if res := mustRun(t, cfg); res.Error != nil || deref(res.SignalName) != "SIGPIPE" {
			t.Errorf("%s", res.JSON(false))
		}
	}
}

func TestOutputToFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	cfg := shell(newParent(t), "while :; do echo x; done")
	cfg.Stdout, cfg.OutputLimit = full, 1<<20
	if res := mustRun(t, cfg); res.Verdict != Failed || res.Error.Step != "output" || deref(res.Error.Errno) != "ENOSPC" {
		t.Errorf("%s", res.JSON(false))
	}
	// It has ended before that is known, and has no way to tell.
	cfg = shell(cfg.Parent, "echo x; exit 3")
	cfg.Stdout, cfg.OutputLimit = full, 1<<20
	if res := mustRun(t, cfg); res.Verdict != Failed || res.Error.Step != "output" || deref(res.ExitCode) != 3 || res.ExitStatus() != ExitFailed {
		t.Errorf("%s", res.JSON(false))
	}
}

// What is written by who outlives the program is passed on until it is killed, and no descriptor stays open.
func TestOutputOfLeftover(t *testing.T) {
	parent := newParent(t)
	before := openFiles(t)
	for i := range 3 {
		told := fmt.Sprintf("%s/%d", t.TempDir(), i)
		script := fmt.Sprintf("(echo child; : >%s; exec sleep 1000) & until [ -e %[1]s ]; do sleep 0.01; done; echo main", told)
		res, content := outputOf(t, parent, os.O_WRONLY, 1000, script)
		if res.Verdict != OK || content != "child\nmain\n" || deref(res.LeftoverKilled) != uint64(1) {
			t.Errorf("%q, %s", content, res.JSON(false))
		}
	}
	if after := openFiles(t); len(after) > len(before) {
		t.Errorf("open before: %q, and after: %q", before, after)
	}
}

// stuck are receivers that take nothing, and that a write would wait for.
var stuck = map[string]func(t *testing.T) int{
	"pipe":   func(t *testing.T) int { return fullPipe(t) },
	"socket": func(t *testing.T) int { return fullSocket(t) },
	"terminal that was stopped": func(t *testing.T) int {
		pty, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(pty) })
		if err := unix.IoctlSetPointerInt(pty, unix.TIOCSPTLCK, 0); err != nil {
			t.Fatal(err)
		}
		number, err := unix.IoctlGetInt(pty, unix.TIOCGPTN)
		if err != nil {
			t.Fatal(err)
		}
		tty, err := unix.Open(fmt.Sprintf("/dev/pts/%d", number), unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
		if err != nil {
			t.Fatal(err)
		}
		const tcxonc, tcooff = 0x540a, 0 // see ioctl_tty(2)
		if err := unix.IoctlSetInt(tty, tcxonc, tcooff); err != nil {
			t.Fatal(err)
		}
		return tty
	},
}

func fullPipe(t *testing.T) int {
	t.Helper()
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(pipe[0]) })
	fill(t, pipe[1])
	return pipe[1]
}

func fullSocket(t *testing.T) int {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(pair[0]) })
	fill(t, pair[1])
	return pair[1]
}

// fill writes until nothing more fits, not a byte, and leaves the descriptor one that waits.
func fill(t *testing.T, fd int) {
	t.Helper()
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	for size := 4096; size > 0; {
		if _, err := unix.Write(fd, make([]byte, size)); err != nil {
			size /= 2
		}
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
}

// A reader that is stuck costs its run some of the output and some seconds, and this process neither a descriptor nor a
// thread. Regression: the one that was blocked in a write stayed, with its descriptors.
func TestOutputToStuckReader(t *testing.T) {
	parent := newParent(t)
	mustRun(t, Config{Args: []string{"/bin/true"}, Parent: parent, OutputLimit: 1})
	before := openFiles(t)
	var runs sync.WaitGroup
	for name, receiver := range stuck {
		file := os.NewFile(uintptr(receiver(t)), name)
		for range 3 {
			runs.Go(func() {
				cfg := shell(parent, "head -c 50000 /dev/zero; echo err >&2")
				cfg.Stdout, cfg.Stderr, cfg.OutputLimit = file, file, 1<<20
				res := Run(context.Background(), cfg)
				if res.Error == nil || res.Error.Step != "output" || !strings.Contains(res.Error.Message, "nobody reads") {
					t.Errorf("%s: %s", name, res.JSON(false))
				}
			})
		}
		defer file.Close()
	}
	runs.Wait()
	var left []string
	for _, file := range openFiles(t) {
		if strings.Contains(file, "pipe:") || strings.Contains(file, "socket:") || strings.Contains(file, "/pts/") || strings.Contains(file, "eventfd") {
			left = append(left, file)
		}
	}
	if most := len(before) + 2*len(stuck); len(left) > most { // both ends of each are the test's
		t.Errorf("open before: %q, and after: %q", before, left)
	}
	stacks := make([]byte, 1<<20)
	if stacks = stacks[:runtime.Stack(stacks, true)]; bytes.Contains(stacks, []byte("shim.(*stream)")) {
		t.Errorf("somebody still passes on output:\n%s", stacks)
	}
}

// A run that never starts leaves no pipe.
func TestOutputNotStarted(t *testing.T) {
	parent := newParent(t)
	before := openFiles(t)
	cfg := Config{Args: []string{"/nonexistent"}, Parent: parent, OutputLimit: 1}
	if res := mustRun(t, cfg); res.ExitStatus() != ExitNotFound || res.OutputBytes != nil {
		t.Errorf("%s", res.JSON(false))
	}
	if after := openFiles(t); len(after) > len(before) {
		t.Errorf("open before: %q, and after: %q", before, after)
	}
}

// The program's own files are not inherited by anybody else, and Config's stay open.
func TestStdio(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/in", []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(dir + "/in")
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(dir + "/out")
	if err != nil {
		t.Fatal(err)
	}
	cfg := shell(newParent(t), "cat; echo err >&2")
	cfg.Stdin, cfg.Stdout, cfg.Stderr = in, out, out
	res := Run(context.Background(), cfg)
	if err := out.Close(); err != nil {
		t.Error(err)
	}
	if content, _ := os.ReadFile(dir + "/out"); !bytes.Equal(content, []byte("texterr\n")) || res.Verdict != OK {
		t.Errorf("%q, %s", content, res.JSON(false))
	}
}
