package reexec

import (
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A launch whose stage never answers ends when it is interrupted, and leaves nothing.
func TestInterrupt(t *testing.T) {
	lock(t)
	stage := start(t)
	if err := unix.Kill(stage.pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := stage.Prepare(&Spec{Args: []string{"/bin/true"}}); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, stage.Interrupt)
	program, err := stage.Launch(Join{}, Descriptors{})
	var e *Error
	if !errors.As(err, &e) || e.Step != StepStage || e.Errno != unix.EINTR || program.PID != 0 {
		t.Errorf("Launch returned %v, %v", program, err)
	}
	if stuck := stage.Stuck(); len(stuck) > 0 {
		t.Errorf("%v are stuck", stuck)
	}
	stage.Dismiss()
	noChildren(t)
}

// When the launch is over, the socket's number may be another file's: Interrupt leaves it alone.
func TestInterruptAfterLaunch(t *testing.T) {
	lock(t)
	stage := start(t)
	sock := stage.sock
	if err := stage.Prepare(&Spec{Args: []string{"/bin/true"}}); err != nil {
		t.Fatal(err)
	}
	program, err := stage.Launch(Join{}, Descriptors{})
	if err != nil {
		t.Fatal(err)
	}
	wait(t, program.PID)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range pair {
		defer os.NewFile(uintptr(fd), "socket").Close()
	}
	if pair[0] != sock && pair[1] != sock {
		t.Fatalf("the sockets are %v, and neither is %d again", pair, sock)
	}
	stage.Interrupt()
	if _, err := unix.Write(pair[0], []byte("x")); err != nil {
		t.Errorf("somebody else's socket was shut down: %v", err)
	}
	stage.Dismiss()
	noChildren(t)
}
