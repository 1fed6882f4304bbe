package shim

import (
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What came first is told however late it is asked for; of a limit that was over from the beginning nothing is.
func TestFinish(t *testing.T) {
	const soon, late = 300 * time.Millisecond, time.Hour
	for name, test := range map[string]struct {
		limit time.Duration // from now
		ends  string        // when the program does
		want  first
	}{
		"the end":                {late, "true", endFirst},
		"the limit":              {soon, "sleep 0.6", limitFirst},
		"the end, and the limit": {soon, "true", endFirst},
		"over already":           {-time.Second, "true", unknownFirst},
	} {
		cmd := exec.Command("sh", "-c", test.ends)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		pidfd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
		if err != nil {
			t.Skipf("requires pidfd_open: %v", err)
		}
		var now unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
			t.Fatal(err)
		}
		var f finish
		f.open(pidfd, time.Duration(now.Nano())+test.limit)
		for !readable(pidfd) {
			time.Sleep(time.Millisecond)
		}
		if test.limit == soon {
			time.Sleep(2 * soon)
		}
		if got := f.first(); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
		f.close()
		if f != (finish{}) || f.first() != unknownFirst {
			t.Errorf("%s: open", name)
		}
		_ = unix.Close(pidfd)
		_ = cmd.Wait()
	}
}
