package deliver

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// safety is how long anything may take before a test calls it hung.
const safety = 60 * time.Second

// within fails the test if the call takes longer than anything may.
func within(t *testing.T, what string, call func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- call() }()
	select {
	case err := <-done:
		return err
	case <-time.After(safety):
		t.Fatalf("%s: no end after %v", what, safety)
		return nil
	}
}

func fileSink(t *testing.T, path string) sink {
	t.Helper()
	s, err := checkFile(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(s.fd) })
	return s
}

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "result")
	for _, line := range []string{"a first result\n", "another\n"} {
		if err := fileSink(t, path).write([]byte(line)); err != nil {
			t.Fatal(err)
		}
		if content, err := os.ReadFile(path); err != nil || string(content) != line {
			t.Errorf("%q, %v, want %q", content, err, line)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("a temporary file is left: %v, %v", entries, err)
	}
}

// A reader sees the old result or the new one. With a full disk it is the old one, not half of the new.
func TestWriteFileFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4096"); err != nil {
		t.Skip("requires mount: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	path := filepath.Join(dir, "result")
	old := bytes.Repeat([]byte("old\n"), 1024) // all there is
	if err := os.WriteFile(path, old, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := fileSink(t, path).write([]byte("new\n")); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("%v, want ENOSPC", err)
	}
	if content, err := os.ReadFile(path); err != nil || !bytes.Equal(content, old) {
		t.Errorf("the old result is gone: %.20q, %v", content, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("a temporary file is left: %v, %v", entries, err)
	}
}

// Where the result goes was settled before the program ran: it can put something else in its place, and not have that
// written to.
func TestWriteFileReplaced(t *testing.T) {
	const precious = "precious\n"
	for name, put := range map[string]func(path, target string) error{
		"a link":            func(path, target string) error { return os.Symlink(target, path) },
		"a link to nothing": func(path, target string) error { return os.Symlink(target+"none", path) },
		"a hard link":       func(path, target string) error { return os.Link(target, path) },
		"a FIFO":            func(path, _ string) error { return unix.Mkfifo(path, 0o600) },
		"a link as directory": func(path, target string) error {
			dir := filepath.Dir(path)
			return errors.Join(os.Rename(dir, dir+".moved"), os.Symlink(filepath.Dir(target), dir))
		},
	} {
		for _, before := range []bool{false, true} {
			top := t.TempDir()
			target, path := filepath.Join(top, "result"), filepath.Join(top, "dir", "result")
			if err := errors.Join(os.Mkdir(filepath.Dir(path), 0o755), os.WriteFile(target, []byte(precious), 0o600)); err != nil {
				t.Fatal(err)
			}
			if before {
				if err := os.WriteFile(path, []byte("old\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s := fileSink(t, path)
			_ = os.Remove(path)
			if err := put(path, target); err != nil {
				t.Fatal(err)
			}
			if err := within(t, name, func() error { return s.write([]byte("new\n")) }); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if content, _ := os.ReadFile(target); string(content) != precious {
				t.Errorf("%s: %q was written to", name, content)
			}
			if name == "a link as directory" {
				path = filepath.Join(filepath.Dir(path)+".moved", "result")
			}
			if content, err := os.ReadFile(path); err != nil || string(content) != "new\n" {
				t.Errorf("%s: %q, %v", name, content, err)
			}
			if _, err := os.Stat(target + "none"); err == nil {
				t.Errorf("%s: what it named was made", name)
			}
		}
	}
}

// A device can't be replaced by a file of its name.
func TestWriteDevice(t *testing.T) {
	if err := fileSink(t, "/dev/full").write([]byte("x\n")); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("/dev/full: %v, want ENOSPC", err)
	}
	if err := fileSink(t, "/dev/null").write([]byte("x\n")); err != nil {
		t.Errorf("/dev/null: %v", err)
	}
	for _, path := range []string{"/dev/full", "/dev/null"} {
		if info, err := os.Stat(path); err != nil || info.Mode()&os.ModeCharDevice == 0 {
			t.Fatalf("%s is no device any more: %v, %v", path, info, err)
		}
	}
}

func TestWriteDeadPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r.Close()
	if err := (sink{fd: int(w.Fd())}).write([]byte("x\n")); !errors.Is(err, unix.EPIPE) {
		t.Errorf("%v, want EPIPE", err)
	}
}

func TestWriteClosedFD(t *testing.T) {
	err := within(t, "a closed descriptor", func() error { return writeFD(1<<20, []byte("x\n")) })
	if !errors.Is(err, unix.EBADF) {
		t.Errorf("%v, want EBADF", err)
	}
}

// fill writes to a descriptor until it takes no more, and leaves it blocking, as pipes are.
func fill(t *testing.T, fd int) {
	t.Helper()
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{4096, 1} { // by pages, and then what is left of the last one
		for {
			if _, err := unix.Write(fd, make([]byte, n)); err != nil {
				if !errors.Is(err, unix.EAGAIN) {
					t.Fatal(err)
				}
				break
			}
		}
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
}

// Nobody reads a full pipe: an error after deliveryTimeout, instead of a cgshim that hangs.
func TestWriteFullPipe(t *testing.T) {
	t.Parallel()
	_, w := inheritable(t, 0)
	fill(t, w)
	if err := within(t, "a full pipe", func() error { return writeFD(w, []byte("x\n")) }); err == nil {
		t.Error("no error")
	}
}

// The same with a result of which the first part still fits.
func TestWriteFullPipeHalfWay(t *testing.T) {
	t.Parallel()
	_, w := inheritable(t, 0)
	if err := within(t, "a full pipe", func() error { return writeFD(w, make([]byte, 1<<20)) }); err == nil {
		t.Error("no error")
	}
}

// A pipe that can't be opened once more, because another user has made it, and that somebody fills after poll has said that there
// is room: a write of its last page would wait. Regression: it was a write.
func TestWriteOthersPipe(t *testing.T) {
	t.Parallel()
	r, w := inheritable(t, 0)
	others := &writer{fd: w, format: unix.S_IFIFO}
	line := pattern(3 * pipeBuf)
	if err := within(t, "an empty pipe", func() error { return others.write(line, -1) }); err != nil {
		t.Error(err)
	}
	got := make([]byte, len(line))
	if n, err := unix.Read(r, got); err != nil || n != len(line) || !bytes.Equal(got, line) { // a pipe has it all at once
		t.Errorf("other bytes arrive, or %d of %d, %v", n, len(line), err)
	}
	fill(t, w)
	err := within(t, "a full pipe", func() error {
		_, err := others.some(line)
		return err
	})
	if !errors.Is(err, unix.EAGAIN) {
		t.Errorf("%v, want EAGAIN", err)
	}
}

// A terminal that was stopped (Ctrl-S).
func TestWriteStoppedTerminal(t *testing.T) {
	t.Parallel()
	pty, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pty)
	number, err := unix.IoctlGetInt(pty, unix.TIOCGPTN)
	if err = errors.Join(err, unix.IoctlSetPointerInt(pty, unix.TIOCSPTLCK, 0)); err != nil {
		t.Fatal(err)
	}
	tty, err := unix.Open("/dev/pts/"+strconv.Itoa(number), unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(tty)
	const tcxonc, off = 0x540a, 0 // see ioctl_tty(2)
	if err := unix.IoctlSetInt(tty, tcxonc, off); err != nil {
		t.Fatal(err)
	}
	w := newWriter(tty)
	defer w.close()
	if _, err := w.some([]byte("x")); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("%v, want EAGAIN", err)
	}
	if err := within(t, "a stopped terminal", func() error { return w.write([]byte("x\n"), -1) }); !errors.Is(err, errStalled) {
		t.Error(err)
	}
}

// The answers of a batch wait as long as it lasts, until it is told to stop.
func TestAnswersNobodyReads(t *testing.T) {
	t.Parallel()
	_, w := inheritable(t, 0)
	fill(t, w)
	broken := make(chan struct{})
	a, err := NewAnswers(w, func() { close(broken) })
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for range 3 { // the first one finds out
			a.Write([]byte("{}\n"))
		}
	}()
	select {
	case <-broken:
		t.Fatal("given up before it was told to stop")
	case <-time.After(deliveryTimeout + deliveryTimeout/2):
	}
	a.Hurry()
	if err := within(t, "answers that nobody reads", func() error { <-broken; return a.Err() }); !errors.Is(err, errStalled) {
		t.Error(err)
	}
}

func TestWriteFullSocket(t *testing.T) {
	t.Parallel()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	if err := within(t, "a full socket", func() error { return writeFD(pair[0], make([]byte, 8<<20)) }); err == nil {
		t.Error("no error")
	}
}

func TestWriteSocket(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	line := pattern(1 << 20)
	received := make(chan []byte, 1)
	reader := os.NewFile(uintptr(pair[1]), "socket")
	go func() {
		content, _ := io.ReadAll(reader)
		received <- content
	}()
	err = within(t, "a socket", func() error { return writeFD(pair[0], line) })
	unix.Close(pair[0])
	if err != nil {
		t.Error(err)
	}
	if got := <-received; !bytes.Equal(got, line) {
		t.Errorf("%d bytes arrive of %d, or others", len(got), len(line))
	}
	reader.Close()
}

// A peer that has hung up is an error, and no SIGPIPE.
func TestWriteDeadSocket(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	unix.Close(pair[1])
	if err := writeFD(pair[0], []byte("x\n")); !errors.Is(err, unix.EPIPE) {
		t.Errorf("%v, want EPIPE", err)
	}
}

// pattern is n bytes of which no part looks like another one nearby.
func pattern(n int) []byte {
	line := make([]byte, n)
	for i := range line {
		line[i] = byte(i>>8) ^ byte(i*7)
	}
	return line
}

// Longer than the pipe, with a reader that takes little at a time: all of it arrives, in order. A
// non-blocking descriptor is common: Node's and libuv's pipes are.
func TestWriteSlowReader(t *testing.T) {
	for name, flags := range map[string]int{"blocking": 0, "non-blocking": unix.O_NONBLOCK} {
		r, w := inheritable(t, 0)
		if _, err := unix.FcntlInt(uintptr(w), unix.F_SETPIPE_SZ, 4096); err != nil {
			t.Fatal(err)
		}
		if err := unix.SetNonblock(w, flags != 0); err != nil {
			t.Fatal(err)
		}
		line := pattern(64<<10 + 3)
		received := make(chan []byte, 1)
		go func() {
			var got []byte
			buf := make([]byte, 100)
			for len(got) < len(line) {
				n, err := unix.Read(r, buf)
				if errors.Is(err, unix.EINTR) {
					continue
				}
				if n <= 0 {
					break
				}
				got = append(got, buf[:n]...)
			}
			received <- got
		}()
		err := within(t, name, func() error { return writeFD(w, line) })
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := <-received; !bytes.Equal(got, line) {
			t.Errorf("%s: %d bytes arrive of %d, or others", name, len(got), len(line))
		}
	}
}
