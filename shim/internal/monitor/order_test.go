package monitor

import (
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What came first is told however late it is asked for; of a limit that was over from the beginning nothing is.
func TestFinish(t *testing.T) {
	const soon = 300 * time.Millisecond
	for name, test := range map[string]struct {
		limit time.Duration // from when the finish is opened
		ends  string        // when the program does: before that, at once after it, or when the limit is over
		want  First
	}{
		"the end":                 {time.Hour, "after", EndFirst},
		"the end, which is known": {time.Hour, "before", EndFirst},
		"the end, and the limit":  {soon, "before", EndFirst},
		"the limit":               {soon, "late", LimitFirst},
		"over already":            {-time.Second, "before", UnknownFirst},
	} {
		cmd := exec.Command("sleep", "1000")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		pidfd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
		if err != nil {
			t.Fatal(err) // since Linux 5.3
		}
		end := func(when string) {
			if when == test.ends {
				_ = cmd.Process.Kill()
				for !readable(pidfd) {
					time.Sleep(time.Millisecond)
				}
			}
		}
		end("before")
		var now unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
			t.Fatal(err)
		}
		var f finish
		f.open(pidfd, time.Duration(now.Nano())+test.limit)
		end("after")
		if test.limit == soon {
			time.Sleep(2 * soon)
		}
		end("late")
		if got := f.first(); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
		f.close()
		if f != (finish{}) || f.first() != UnknownFirst {
			t.Errorf("%s: open", name)
		}
		_ = unix.Close(pidfd)
		_ = cmd.Wait()
	}
}
