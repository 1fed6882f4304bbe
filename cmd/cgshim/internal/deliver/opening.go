package deliver

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

	"github.com/cgshim/cgshim/cmd/cgshim/internal/flags"
	"github.com/cgshim/cgshim/shim"
)

// open(2) may take for ever: for a FIFO whose other end nobody opens, or on a file system that does not answer. Nothing
// ends that from outside. So files are opened in the background, and the waiting for it ends when the wall time is over,
// or when cgshim is told to stop.

const (
	// leastOpening is how long opening may always take, whatever the wall time is, because a disk may be busy.
	leastOpening = time.Second
	// mostOpening is how many openings there may be at once. In a batch those that were given up go on, and each has a thread.
	mostOpening = 256
)

var openings = make(chan struct{}, mostOpening)

// An Opener opens the files of one run.
type Opener struct {
	Flag  flags.Reader    // names the files
	Wall  time.Duration   // the run's wall time; 0 is no limit
	Ctx   context.Context // its end stops the waiting
	Taken Channels        // none of the files may be one of these

	signals chan os.Signal // some of these stop the waiting, too; the others stay there; may be nil
	at      atomic.Value   // the file that is being opened, as a string, for messages
}

// fileFlags are the flags that name files.
var fileFlags = []string{"output", "stdin", "stdout", "stderr"}

// Needed reports whether there is anything to open.
func (o *Opener) Needed() bool {
	return slices.ContainsFunc(fileFlags, func(name string) bool {
		_, given := o.Flag(name)
		return given
	})
}

// Open opens the files of a request as the standard descriptors of cfg. It never waits for the other end of a FIFO. On error, cfg has
// the files that were opened, unless the error is context.Canceled or unix.ETIMEDOUT: then they are closed as soon as that is possible.
func (o *Opener) Open(cfg *shim.Config) error {
	files := *cfg
	err := o.do(func() error { return o.files(&files, unix.O_NONBLOCK) }, func() { Close(&files) })
	if errors.Is(err, context.Canceled) || errors.Is(err, unix.ETIMEDOUT) {
		return err // files may still be written to
	}
	TakeFiles(cfg, &files)
	return err
}

// TakeFiles has a configuration take what was opened for another one.
func TakeFiles(cfg, from *shim.Config) {
	cfg.Stdin, cfg.Stdout, cfg.Stderr, cfg.MadeFiles = from.Stdin, from.Stdout, from.Stderr, from.MadeFiles
}

// Close closes the standard descriptors of a configuration.
func Close(cfg *shim.Config) {
	for _, file := range []*os.File{cfg.Stdin, cfg.Stdout, cfg.Stderr} {
		if file != nil {
			_ = file.Close() // which is an error the second time, if two are the same
		}
	}
}

// do calls open in the background, and waits for it. If cgshim was told to stop, the error is context.Canceled; if the wall time was
// over, it wraps ETIMEDOUT. In both cases late is called when open has returned.
func (o *Opener) do(open func() error, late func()) error {
	var patience <-chan time.Time
	if o.Wall > 0 {
		timer := time.NewTimer(max(o.Wall, leastOpening))
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
			if !begun { // because too many others hang
				what = "no file"
			}
			return fmt.Errorf("%s: not open when the wall time was over: %w", what, unix.ETIMEDOUT)
		case <-o.Ctx.Done():
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

// offMainThread calls a function that may hang in the kernel, but not on the process's first thread. The kernel gives signals to that
// one, unless it blocks them, and they would not arrive while it sleeps without being interruptible.
func offMainThread(hang func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if unix.Gettid() != os.Getpid() {
		hang()
		return
	}
	done := make(chan struct{})
	go func() { // which can't run on this thread, because that is locked
		defer close(done)
		hang()
	}()
	<-done
}

// giveUp no longer waits. If open has begun, late is called after it.
func (o *Opener) giveUp(begun bool, done <-chan error, late func()) {
	if begun {
		go func() {
			<-done
			late()
		}()
	}
}

// keep keeps a signal for the program, which has not been started: each signal once, as the kernel does. Ctrl-Z stops cgshim itself,
// because there is no program yet that it could stop.
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

func (o *Opener) giveBack(kept []os.Signal) {
	for _, sig := range kept {
		select {
		case o.signals <- sig:
		default: // the channel is full of others
		}
	}
}

// files opens the program's standard descriptors. With O_NONBLOCK it does not wait for the other end of a FIFO.
func (o *Opener) files(cfg *shim.Config, nonblock int) error {
	const write = unix.O_WRONLY | unix.O_CREAT
	exclusive := 0
	if _, asOther := o.Flag("user"); asOther { // which needs to know: see shim.Config.MadeFiles
		exclusive = unix.O_EXCL
	}
	for _, f := range []struct {
		name  string
		flags int
		file  **os.File
	}{
		{"stdin", unix.O_RDONLY, &cfg.Stdin}, {"stdout", write | exclusive, &cfg.Stdout}, {"stderr", write | exclusive, &cfg.Stderr},
	} {
		path, given := o.Flag(f.name)
		if !given {
			continue
		}
		o.at.Store(fmt.Sprintf("--%s %q", f.name, path))
		fd, made, err := openFile(path, f.flags, nonblock, o.Taken)
		if err != nil {
			return fmt.Errorf("--%s %q: %w", f.name, path, err)
		}
		if *f.file = os.NewFile(uintptr(fd), path); made {
			cfg.MadeFiles = append(cfg.MadeFiles, *f.file)
		}
	}
	if cfg.Stdout != nil && cfg.Stderr != nil {
		out, outErr := cfg.Stdout.Stat()
		errs, errsErr := cfg.Stderr.Stat()
		if outErr == nil && errsErr == nil && os.SameFile(out, errs) {
			cfg.Stderr = cfg.Stdout // with a position of its own, each would overwrite the other
		}
	}
	return o.Taken.CheckKept(cfg.KeepFDs)
}

// openFile opens a file. It empties a file that is to be written, but only after it has checked that this is no channel, because a
// channel would lose its content. With O_EXCL it says whether it has made the file; one that is there it opens without that.
func openFile(path string, flags, nonblock int, taken Channels) (fd int, made bool, err error) {
	for fd, err = -1, unix.EINTR; errors.Is(err, unix.EINTR); {
		// os.OpenFile would make a FIFO non-blocking, and the program shares that flag.
		fd, err = unix.Open(path, flags|nonblock|unix.O_CLOEXEC|unix.O_NOCTTY, 0o666)
		if flags&unix.O_EXCL != 0 && err != nil {
			flags, err = flags&^unix.O_EXCL, unix.EINTR
		}
	}
	if err != nil {
		return -1, false, err
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	regular, writes := st.Mode&unix.S_IFMT == unix.S_IFREG, flags&unix.O_ACCMODE != unix.O_RDONLY
	if err == nil && (writes || !regular) { // reading a regular file does not take anything away
		err = taken.check(&st)
	}
	if err == nil && writes && regular && st.Size > 0 {
		err = unix.Ftruncate(fd, 0)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, false, err
	}
	if nonblock != 0 { // because the program shares that flag
		_ = unix.SetNonblock(fd, false)
	}
	return fd, flags&unix.O_EXCL != 0, nil
}
