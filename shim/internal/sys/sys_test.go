package sys

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseProcess(t *testing.T) {
	// As Linux 6.12 writes it, but for the end of the line.
	const rest = " S 4321 77 77 34816 77 4194560 100 0 0 0 1 2 3 4 20 0 5 0 123456 1000 200 18446744073709551615 1 1 0 0 0 0 0 0 65536"
	for name, test := range map[string]struct {
		content string
		want    Process
	}{
		"plain":            {"10 (cat)" + rest, Process{PID: 10, Parent: 4321, Terminal: true, Threads: 5, Started: 123456}},
		"a name with ) in": {"10 (a) Z 1 (b c)" + rest, Process{PID: 10, Parent: 4321, Terminal: true, Threads: 5, Started: 123456}},
		"a zombie":         {"10 (cat)" + strings.Replace(rest, "S", "Z", 1), Process{PID: 10, Parent: 4321, Zombie: true, Exiting: true, Terminal: true, Threads: 5, Started: 123456}},
		"dead":             {"10 (cat)" + strings.Replace(rest, "S", "X", 1), Process{PID: 10, Parent: 4321, Zombie: true, Exiting: true, Terminal: true, Threads: 5, Started: 123456}},
		"exiting":          {"10 (cat)" + strings.Replace(rest, "4194560", "4194564", 1), Process{PID: 10, Parent: 4321, Exiting: true, Terminal: true, Threads: 5, Started: 123456}},
		"stopped":          {"10 (cat)" + strings.Replace(rest, "S", "T", 1), Process{PID: 10, Parent: 4321, Stopped: true, Terminal: true, Threads: 5, Started: 123456}},
		"no terminal":      {"10 (cat)" + strings.Replace(rest, "34816", "0", 1), Process{PID: 10, Parent: 4321, Threads: 5, Started: 123456}},
	} {
		if got, err := parseProcess(10, test.content); err != nil || got != test.want {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, test.want)
		}
	}
	for _, content := range []string{"", "10 (cat", "10 (cat)", "10 (cat) S 1 2 3"} {
		if p, err := parseProcess(10, content); !errors.Is(err, unix.ESRCH) {
			t.Errorf("%q: %+v, %v", content, p, err)
		}
	}
}

func TestReadProcess(t *testing.T) {
	if p, err := ReadProcess(os.Getpid()); err != nil || p.PID != os.Getpid() || p.Parent != os.Getppid() || p.Zombie || p.Started == 0 {
		t.Errorf("this process: %+v, %v", p, err)
	}
	if p, err := ReadProcess(1 << 30); !errors.Is(err, unix.ENOENT) {
		t.Errorf("no such process: %+v, %v", p, err)
	}
}

func TestWaitid(t *testing.T) {
	child := exec.Command("/bin/sh", "-c", "kill -9 $$")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	info, err := Waitid(unix.P_PID, child.Process.Pid, unix.WEXITED|unix.WNOWAIT)
	if err != nil || info.PID() != child.Process.Pid || !info.Ended() || !info.Signaled() || info.Signal() != unix.SIGKILL {
		t.Errorf("killed: %+v, %v", info, err)
	}
	other := exec.Command("/bin/sleep", "1000")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer other.Wait()
	defer other.Process.Kill()
	if info, err := Waitid(unix.P_PID, other.Process.Pid, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG); err != nil || info.PID() != 0 {
		t.Errorf("alive: %+v, %v", info, err)
	}
}

func TestIgnoringEINTR(t *testing.T) {
	calls := 0
	n, err := IgnoringEINTR(func() (int, error) {
		if calls++; calls < 3 {
			return -1, unix.EINTR
		}
		return 7, unix.EIO
	})
	if n != 7 || !errors.Is(err, unix.EIO) || calls != 3 {
		t.Errorf("%d, %v after %d calls", n, err, calls)
	}
}
