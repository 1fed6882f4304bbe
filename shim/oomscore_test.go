package shim

import (
	"errors"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOOMScoreForProgram(t *testing.T) {
	for own, want := range map[int]int{-1000: 500, -999: 500, -1: 500, 0: 500, 1: 501, 300: 650, 500: 750, 998: 999, 999: 1000, 1000: 1000} {
		if got := (&oomScore{own: own}).forProgram(); got != want {
			t.Errorf("of a caller with %d: %d, want %d", own, got, want)
		}
	}
}

// A process has the program's score between raise and restore only.
func TestOOMScore(t *testing.T) {
	cmd := exec.Command("/bin/sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = cmd.Process.Kill(), cmd.Wait() }()
	s := openOOMScore(cmd.Process.Pid)
	defer s.close()
	asked := s.own + 1
	for _, test := range []struct {
		asked *int
		want  int
	}{{nil, s.forProgram()}, {&asked, asked}} {
		if err := s.raise(test.asked); err != nil {
			t.Fatal(err)
		}
		raised := openOOMScore(cmd.Process.Pid)
		s.restore()
		restored := openOOMScore(cmd.Process.Pid)
		if raised.own != test.want || restored.own != s.own {
			t.Errorf("it is %d, and then %d; want %d and %d", raised.own, restored.own, test.want, s.own)
		}
		raised.close()
		restored.close()
	}
}

// What can't be set is an error only for who has asked for it.
func TestOOMScoreUnknown(t *testing.T) {
	s := openOOMScore(1 << 29) // above the largest pid
	asked := 5
	if err := s.raise(nil); err != nil {
		t.Error(err)
	}
	if err := s.raise(&asked); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such process: %v", err)
	}
	s.restore()
	s.close()
	(*oomScore)(nil).close()
	cmd := exec.Command("/bin/true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s = openOOMScore(cmd.Process.Pid)
	defer s.close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := s.raise(&asked); !errors.Is(err, unix.ESRCH) {
		t.Errorf("a process that is gone: %v", err)
	}
}
