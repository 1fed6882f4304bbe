package deliver

import (
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cmd/cgshim/internal/flags"
	"github.com/cgshim/cgshim/shim"
)

// A program that has the file to which results go can write results of its own there. The numbers of descriptors say little about
// that: after "3>&1" or "2>&1", two of them are the same file.

// A channel is a file that no program may have, because results or requests go through it.
type channel struct {
	dev, ino uint64
	name     string // for messages
}

// newChannel returns the channel of a descriptor, if it is a pipe, a socket or a regular file. Other files are no Channels: people
// read a terminal, and nobody reads /dev/null.
func newChannel(fd int, name string) (c channel, ok bool) {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return c, false
	}
	return channel{st.Dev, st.Ino, name}, slices.Contains([]uint32{unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFREG}, st.Mode&unix.S_IFMT)
}

// Channels are the Channels of one cgshim. No program may have one of them.
type Channels []channel

// Add adds the channel of a descriptor, if it has one. The name is for messages.
func (all Channels) Add(fd int, name string) Channels {
	if c, ok := newChannel(fd, name); ok {
		return append(all, c)
	}
	return all
}

// check returns an error if the file is one of them.
func (all Channels) check(st *unix.Stat_t) error {
	for _, c := range all {
		if c.dev == st.Dev && c.ino == st.Ino {
			return fmt.Errorf("this is %s: the program could forge what is there", c.name)
		}
	}
	return nil
}

// CheckFD returns an error if the descriptor's file is one of them.
func (all Channels) CheckFD(fd int) error {
	if len(all) == 0 {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil // because the descriptor is not open
	}
	return all.check(&st)
}

// CheckKept returns an error if the program would keep a descriptor of one of them.
func (all Channels) CheckKept(fds []int) error {
	for _, fd := range fds {
		if err := all.CheckFD(fd); err != nil {
			return fmt.Errorf("--keep-fd %q: %w", strconv.Itoa(fd), err)
		}
	}
	return nil
}

// resultChannels returns the channel of the result, if the caller has named a place for it. The default is standard error, where
// the program can write, too: that is for people, and for callers that trust the program.
func resultChannels(flag flags.Reader, out sink) Channels {
	value, asked := flag("fd")
	variable, set := os.LookupEnv(flags.FDVariable)
	path, file := flag("output")
	switch {
	case file && out.name != "":
		return nil // it will be a new file
	case file:
		return Channels{}.Add(out.fd, "the result's --output "+strconv.Quote(path))
	case asked:
		return Channels{}.Add(out.fd, "the result's --fd "+value)
	case set:
		return Channels{}.Add(out.fd, "the result's $"+flags.FDVariable+"="+variable)
	}
	return nil
}

// checkInherited returns an error if one of the standard descriptors that the program inherits from cgshim is one of them.
func (all Channels) checkInherited(cfg *shim.Config) error {
	for fd, file := range []*os.File{cfg.Stdin, cfg.Stdout, cfg.Stderr} {
		if file != nil {
			continue
		}
		if err := all.CheckFD(fd); err != nil {
			return fmt.Errorf("the program's %s: %w; give the result a file or pipe of its own (--fd 3 3>FILE, or --output FILE), or the program one (--%s FILE)",
				[]string{"standard input", "standard output", "standard error"}[fd], err, []string{"stdin", "stdout", "stderr"}[fd])
		}
	}
	return nil
}
