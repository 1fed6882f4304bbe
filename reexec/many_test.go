package reexec

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func countFDs(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// launchTrue launches and awaits one program and reports by error: it is called from other goroutines.
func launchTrue() error {
	program, err := launch(&Spec{Args: []string{"/bin/sh", "-c", "exit 7"}}, Join{})
	if err != nil {
		return err
	}
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(program.PID, &status, 0, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err == nil && status.ExitStatus() != 7 {
			err = errors.New("the program did not exit with 7")
		}
		return err
	}
}

// many is fewer on an emulated CPU.
func many(n int) int {
	if os.Getenv("CGSHIM_EMULATED") != "" {
		return n / 10
	}
	return n
}

func TestManyLaunches(t *testing.T) {
	lock(t)
	if err := launchTrue(); err != nil { // once, for whatever is opened on first use
		t.Fatal(err)
	}
	before := countFDs(t)
	for i := range many(200) {
		if err := launchTrue(); err != nil {
			t.Fatalf("launch %d: %v", i, err)
		}
	}
	if after := countFDs(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	noChildren(t)
}

// A socket that a stage inherited from another one's start would keep Launch from seeing its end.
func TestParallelLaunches(t *testing.T) {
	before := countFDs(t)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			for i := range many(50) {
				if err := launchTrue(); err != nil {
					t.Errorf("launch %d: %v", i, err)
					return
				}
			}
		})
	}
	group.Wait()
	if after := countFDs(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	noChildren(t)
}

// Failures must not leak either.
func TestManyFailures(t *testing.T) {
	lock(t)
	_, _ = launch(&Spec{Args: []string{"/nonexistent"}}, Join{})
	before := countFDs(t)
	for range 20 {
		for _, prog := range []string{"/nonexistent", "/dev/null"} { // from the stage, from execve
			if _, err := launch(&Spec{Args: []string{prog}}, Join{}); err == nil {
				t.Fatalf("launched %q", prog)
			}
		}
	}
	if after := countFDs(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	noChildren(t)
}
