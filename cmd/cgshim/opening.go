package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/shim"
)

// open(2) may take for ever: for a FIFO whose other end nobody opens, or on a file system that does not answer. Nothing
// ends that from outside. So files are opened in the background, and who waits for it gives up when the wall time is over,
// or when it is told to stop.

const (
	// leastOpening is how long opening may take at least, whatever the wall time: a disk that is busy is no FIFO.
	leastOpening = time.Second
	// mostOpening is how many may be at it at once. In a batch those that were given up go on; each has a thread.
	mostOpening = 256
)

var openings = make(chan struct{}, mostOpening)

// An opener opens files of a run.
type opener struct {
	flag    flagReader
	wall    time.Duration   // 0 is no limit
	ctx     context.Context // its end is to stop
	signals chan os.Signal  // so are some of these; the others stay there. Nil is none
	taken   channels        // what none of them may be
	at      atomic.Value    // what is being opened, as a string, for messages
}

// fileFlags are the flags that name files.
var fileFlags = []string{"output", "stdin", "stdout", "stderr"}

// needed says whether there is anything to open.
func (o *opener) needed() bool {
	return slices.ContainsFunc(fileFlags, func(name string) bool {
		_, given := o.flag(name)
		return given
	})
}

// do has open called, and waits for it. context.Canceled is the error if that was told to stop, and one that wraps
// ETIMEDOUT if the wall time was over; then late is called when it has come to its end.
func (o *opener) do(open func() error, late func()) error {
	var patience <-chan time.Time
	if o.wall > 0 {
		timer := time.NewTimer(max(o.wall, leastOpening))
		defer timer.Stop()
		patience = timer.C
	}
	var kept []os.Signal
	defer func() { o.giveBack(kept) }()
	done := make(chan error, 1)
	begin := openings
	for {
		select {
		case begin <- struct{}{}:
			begin = nil
			go func() {
				defer func() { <-openings }()
				offMainThread(func() { done <- open() })
			}()
			continue
		case err := <-done:
			return err
		case <-patience:
			o.giveUp(begin == nil, done, late)
			what, begun := o.at.Load().(string)
			if !begun { // too many others hang
				what = "no file"
			}
			return fmt.Errorf("%s: not open when the wall time was over: %w", what, unix.ETIMEDOUT)
		case <-o.ctx.Done():
		case sig := <-o.signals:
			if !shim.Cancels(sig) {
				kept = keep(kept, sig)
				continue
			}
		}
		o.giveUp(begin == nil, done, late)
		return context.Canceled
	}
}

// offMainThread calls what may hang in the kernel on another thread than the process's first: the kernel gives a signal to
// that one, if it is not blocked there, and an uninterruptible sleep would keep it from us.
func offMainThread(hang func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if unix.Gettid() != os.Getpid() {
		hang()
		return
	}
	done := make(chan struct{})
	go func() { // not here: this thread is ours
		defer close(done)
		hang()
	}()
	<-done
}

// giveUp leaves what was begun to itself.
func (o *opener) giveUp(begun bool, done <-chan error, late func()) {
	if begun {
		go func() {
			<-done
			late()
		}()
	}
}

// keep keeps a signal for the program that there is not yet: each once, as the kernel does. There is nobody else whom
// Ctrl-Z could stop.
func keep(kept []os.Signal, sig os.Signal) []os.Signal {
	switch {
	case sig == unix.SIGTSTP, sig == shim.TerminalSignal(unix.SIGTSTP):
		_ = unix.Kill(os.Getpid(), unix.SIGSTOP)
		return kept
	case sig == unix.SIGCONT, sig == shim.TerminalSignal(unix.SIGCONT), slices.Contains(kept, sig):
		return kept
	}
	return append(kept, sig)
}

func (o *opener) giveBack(kept []os.Signal) {
	for _, sig := range kept {
		select {
		case o.signals <- sig:
		default: // there are plenty
		}
	}
}

// files opens what the program gets as its standard descriptors. With O_NONBLOCK the other end of a FIFO is not waited for.
func (o *opener) files(cfg *shim.Config, nonblock int) error {
	const write = unix.O_WRONLY | unix.O_CREAT
	for _, f := range []struct {
		name  string
		flags int
		file  **os.File
	}{
		{"stdin", unix.O_RDONLY, &cfg.Stdin}, {"stdout", write, &cfg.Stdout}, {"stderr", write, &cfg.Stderr},
	} {
		path, given := o.flag(f.name)
		if !given {
			continue
		}
		o.at.Store(fmt.Sprintf("--%s %q", f.name, path))
		fd, err := openFile(path, f.flags, nonblock, o.taken)
		if err != nil {
			return fmt.Errorf("--%s %q: %w", f.name, path, err)
		}
		*f.file = os.NewFile(uintptr(fd), path)
	}
	if cfg.Stdout != nil && cfg.Stderr != nil {
		out, outErr := cfg.Stdout.Stat()
		errs, errsErr := cfg.Stderr.Stat()
		if outErr == nil && errsErr == nil && os.SameFile(out, errs) {
			cfg.Stderr = cfg.Stdout // with a position of its own, each would overwrite the other
		}
	}
	return o.taken.checkKept(cfg.KeepFDs)
}

// openFile opens one, and empties it if it is to be written: after it is known to be no channel, which would lose what
// is in it.
func openFile(path string, flags, nonblock int, taken channels) (fd int, err error) {
	for fd, err = -1, unix.EINTR; errors.Is(err, unix.EINTR); {
		// Not os.OpenFile, which makes a FIFO non-blocking: the program shares that flag.
		fd, err = unix.Open(path, flags|nonblock|unix.O_CLOEXEC|unix.O_NOCTTY, 0o666)
	}
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	regular, writes := st.Mode&unix.S_IFMT == unix.S_IFREG, flags&unix.O_ACCMODE != unix.O_RDONLY
	if err == nil && (writes || !regular) { // who reads a regular file takes nothing from anybody
		err = taken.check(&st)
	}
	if err == nil && writes && regular && st.Size > 0 {
		err = unix.Ftruncate(fd, 0)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	if nonblock != 0 { // the program shares that flag
		_ = unix.SetNonblock(fd, false)
	}
	return fd, nil
}
