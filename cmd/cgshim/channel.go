package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/shim"
)

// A program that has the file which results go to can write results of its own there. A number says little about that: 3
// is another name of 1 after "3>&1", and "2>&1" makes one of two.

// A channel is a file that no program may have, because it is for results or requests.
type channel struct {
	dev, ino uint64
	name     string // for messages
}

// newChannel is the channel of a descriptor: a pipe, a socket or a regular file. Others are none: a terminal is for
// people, and what is written to /dev/null nobody reads.
func newChannel(fd int, name string) (c channel, ok bool) {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return c, false
	}
	return channel{st.Dev, st.Ino, name}, slices.Contains([]uint32{unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFREG}, st.Mode&unix.S_IFMT)
}

// channels are those that a program is kept from.
type channels []channel

// add adds a descriptor's, if it is a channel.
func (all channels) add(fd int, name string) channels {
	if c, ok := newChannel(fd, name); ok {
		return append(all, c)
	}
	return all
}

// check returns an error if the file is one of them.
func (all channels) check(st *unix.Stat_t) error {
	for _, c := range all {
		if c.dev == st.Dev && c.ino == st.Ino {
			return fmt.Errorf("this is %s: the program could forge what is there", c.name)
		}
	}
	return nil
}

func (all channels) checkFD(fd int) error {
	if len(all) == 0 {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil // then it is no file at all
	}
	return all.check(&st)
}

// checkKept returns an error if the program keeps a descriptor of one of them.
func (all channels) checkKept(fds []int) error {
	for _, fd := range fds {
		if err := all.checkFD(fd); err != nil {
			return fmt.Errorf("--keep-fd %q: %w", strconv.Itoa(fd), err)
		}
	}
	return nil
}

// resultChannels are where the result goes, if somebody has said where. Without that it is standard error, where the
// program can write, too: for people, and for callers that trust the program.
func resultChannels(flag flagReader, out sink) channels {
	value, asked := flag("fd")
	variable, set := os.LookupEnv(fdVariable)
	path, file := flag("output")
	switch {
	case file && out.name != "":
		return nil // a new file, which gets this name in the end
	case file:
		return channels{}.add(out.fd, "the result's --output "+strconv.Quote(path))
	case asked:
		return channels{}.add(out.fd, "the result's --fd "+value)
	case set:
		return channels{}.add(out.fd, "the result's $"+fdVariable+"="+variable)
	}
	return nil
}

// checkInherited returns an error if a standard descriptor that the program has from cgshim is one of them.
func (all channels) checkInherited(cfg *shim.Config) error {
	for fd, file := range []*os.File{cfg.Stdin, cfg.Stdout, cfg.Stderr} {
		if file != nil {
			continue
		}
		if err := all.checkFD(fd); err != nil {
			return fmt.Errorf("the program's %s: %w; give the result a file or pipe of its own (--fd 3 3>FILE, or --output FILE), or the program one (--%s FILE)",
				[]string{"standard input", "standard output", "standard error"}[fd], err, []string{"stdin", "stdout", "stderr"}[fd])
		}
	}
	return nil
}
