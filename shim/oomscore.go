package shim

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// When the memory of a limit above the run's is used up, one that cgshim is below as well, the kernel kills the process
// with most memory: of a program with many small ones that is cgshim, and next its guardian. And a process with an
// oom_score_adj of -1000 it never kills: a program that has inherited that from a service is at its limit for good. So the
// program gets a higher one than cgshim.
//
// A process has it from its parent. The stage is given the program's while it creates that, by its file in /proc, and
// then its own again; the program itself has neither to look for a file, nor to have the right to write it.

// The range of Config.OOMScoreAdj. The least one that the kernel knows, -1000, is left out.
const (
	MinOOMScoreAdj = -999
	MaxOOMScoreAdj = 1000
)

// An oomScore is a stage's oom_score_adj.
type oomScore struct {
	path string
	file int // -1 if it can't be had
	err  error
	own  int // as it was found
}

// openOOMScore opens the file of a stage's.
func openOOMScore(pid int) *oomScore {
	s := &oomScore{path: fmt.Sprintf("/proc/%d/oom_score_adj", pid), file: -1}
	// In a pid namespace with the /proc of another one the number is another process's.
	if self, err := os.Readlink("/proc/self"); err != nil || self != strconv.Itoa(os.Getpid()) {
		s.err = errors.Join(errors.New("/proc is not that of this pid namespace"), err)
		return s
	}
	if s.file, s.err = unix.Open(s.path, unix.O_RDWR|unix.O_CLOEXEC, 0); s.err != nil {
		s.file = -1
		s.err = &os.PathError{Op: "open", Path: s.path, Err: s.err}
		return s
	}
	var text [16]byte
	n, err := unix.Pread(s.file, text[:], 0)
	if err == nil {
		s.own, err = strconv.Atoi(strings.TrimSpace(string(text[:n])))
	}
	if err != nil {
		s.close()
		s.err = &os.PathError{Op: "read", Path: s.path, Err: err}
	}
	return s
}

// forProgram is the program's unless the caller has said another: halfway from cgshim's to the highest, so that it is
// higher, also for a cgshim in a cgshim; and never one that protects the program.
func (s *oomScore) forProgram() int {
	own := max(s.own, 0)
	return own + (MaxOOMScoreAdj-own+1)/2
}

// raise gives the stage the program's, asked for or not (nil). It is an error only if it was asked for.
func (s *oomScore) raise(asked *int) error {
	value := s.forProgram()
	if asked != nil {
		value = *asked
	}
	err := s.err
	if err == nil {
		err = s.write(value)
	}
	if asked == nil {
		return nil
	}
	return err
}

// restore gives the stage its own again.
func (s *oomScore) restore() {
	if s.file >= 0 {
		_ = s.write(s.own) // of one that is gone by now there is none
	}
}

func (s *oomScore) write(value int) error {
	if _, err := unix.Pwrite(s.file, strconv.AppendInt(nil, int64(value), 10), 0); err != nil {
		return fmt.Errorf("write %d to %q: %w", value, s.path, err)
	}
	return nil
}

func (s *oomScore) close() {
	if s != nil && s.file >= 0 {
		unix.Close(s.file)
		s.file = -1
	}
}
