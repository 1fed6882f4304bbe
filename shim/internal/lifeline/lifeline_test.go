package lifeline

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/internal/testpipe"
)

func socketPair(t *testing.T, kind int) (a, b *os.File) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	a, b = os.NewFile(uintptr(pair[0]), "a"), os.NewFile(uintptr(pair[1]), "b")
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func pidfd(t *testing.T) (file *os.File, end func()) {
	t.Helper()
	child := exec.Command("/bin/sleep", "1000")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	end = func() { _ = child.Process.Kill(); _ = child.Wait() }
	t.Cleanup(end)
	fd, err := unix.PidfdOpen(child.Process.Pid, 0)
	if err != nil {
		t.Skipf("requires pidfd_open: %v", err)
	}
	file = os.NewFile(uintptr(fd), "pidfd")
	t.Cleanup(func() { file.Close() })
	return file, func() { _ = child.Process.Kill(); _, _ = child.Process.Wait() }
}

func TestCheck(t *testing.T) {
	r, w := testpipe.New(t)
	a, _ := socketPair(t, unix.SOCK_STREAM)
	packets, _ := socketPair(t, unix.SOCK_SEQPACKET)
	datagrams, _ := socketPair(t, unix.SOCK_DGRAM)
	process, _ := pidfd(t)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	fifo := t.TempDir() + "/fifo"
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	both, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer both.Close()
	listening, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(listening)
	if err := unix.Bind(listening, &unix.SockaddrUnix{Name: t.TempDir() + "/s"}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(listening, 1); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		fd int
		ok bool
	}{
		"a pipe": {int(r.Fd()), true}, "its other end": {int(w.Fd()), false}, "a FIFO, both ends": {int(both.Fd()), false},
		"a stream": {int(a.Fd()), true}, "packets": {int(packets.Fd()), true}, "datagrams": {int(datagrams.Fd()), false},
		"one that listens": {listening, false}, "a process": {int(process.Fd()), true}, "/dev/null": {int(null.Fd()), false},
		"closed": {1 << 20, false},
	} {
		if err := Check(test.fd); (err == nil) != test.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Each of them ends when the other end is closed, and not before; bytes are thrown away, so that poll does not tell of them for ever.
func TestEnded(t *testing.T) {
	r, w := testpipe.New(t)
	a, b := socketPair(t, unix.SOCK_STREAM)
	c, d := socketPair(t, unix.SOCK_STREAM)
	packets, others := socketPair(t, unix.SOCK_SEQPACKET)
	process, end := pidfd(t)
	for name, test := range map[string]struct {
		file, write *os.File
		end         func()
	}{
		"a pipe":        {r, w, func() { w.Close() }},
		"a socket":      {a, b, func() { b.Close() }},
		"half a socket": {c, d, func() { _ = unix.Shutdown(int(d.Fd()), unix.SHUT_WR) }},
		"packets":       {packets, others, func() { others.Close() }},
		"a process":     {process, nil, end},
	} {
		files := Watch([]*os.File{test.file})
		if files.Ended() {
			t.Errorf("%s: ended before", name)
		}
		if test.write != nil {
			if name == "packets" {
				_ = unix.Send(int(test.write.Fd()), nil, 0)
			}
			for range 3 {
				if _, err := test.write.Write([]byte("still here")); err != nil {
					t.Fatal(err)
				}
			}
			for range 10 {
				if files.Ended() {
					t.Errorf("%s: bytes are taken for the end", name)
				}
			}
			fds := files.PollFds(nil)
			if n, err := unix.Poll(fds, 0); n != 0 || err != nil {
				t.Errorf("%s: the bytes are still there: %v, %v", name, fds, err)
			}
		}
		test.end()
		if !files.Ended() || !files.End() || files.End() {
			t.Errorf("%s: not ended, or not told of once", name)
		}
	}
	if Watch(nil).Ended() || Watch(nil).End() {
		t.Error("nothing has ended")
	}
}

func TestContext(t *testing.T) {
	r, w := testpipe.New(t)
	ctx, stop := Watch([]*os.File{r}).Context(context.Background())
	defer stop()
	select {
	case <-ctx.Done():
		t.Fatal("ended before")
	case <-time.After(20 * time.Millisecond):
	}
	w.Close()
	select {
	case <-ctx.Done():
	case <-time.After(time.Minute):
		t.Fatal("not ended")
	}
	// One that is stopped leaves the file to the next.
	r, w = testpipe.New(t)
	files := Watch([]*os.File{r})
	_, stop = files.Context(context.Background())
	stop()
	if files.Ended() {
		t.Error("ended by stop")
	}
	w.Close()
	if !files.Ended() {
		t.Error("not ended")
	}
}

// Regression: a file that nobody else had any more was closed by the garbage collector, and its number became another one's.
func TestFilesStayOpen(t *testing.T) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	ctx, stop := Watch([]*os.File{os.NewFile(uintptr(fds[0]), "read end")}).Context(context.Background())
	defer stop()
	for range 5 {
		runtime.GC()
		time.Sleep(10 * time.Millisecond)
	}
	if _, err := unix.FcntlInt(uintptr(fds[0]), unix.F_GETFD, 0); err != nil {
		t.Fatalf("the descriptor: %v", err)
	}
	_ = unix.Close(fds[1])
	select {
	case <-ctx.Done():
	case <-time.After(time.Minute):
		t.Error("the end of the pipe was not seen")
	}
}
