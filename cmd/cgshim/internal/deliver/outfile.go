package deliver

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cmd/cgshim/internal/flags"
)

// checkFile checks, as far as that is possible before, that the file of --output can be written at the end. It also fixes which
// file that is: a program that may write to the directory could otherwise make a link of that name, and have a privileged cgshim
// write somewhere else. For a regular file, or one that does not exist yet, the sink has an open directory and a name in it; for a
// device or a FIFO it has the file itself, opened, but not for writing.
func checkFile(path string) (sink, error) {
	fail := func(err error) (sink, error) { return stderr, fmt.Errorf("--output %q: %w", path, err) }
	info, err := os.Stat(path)
	link, _ := os.Readlink(path)
	switch {
	case path == "":
		return fail(errors.New("the name is empty"))
	case link != "" && errors.Is(err, fs.ErrNotExist):
		return fail(errors.New("a symbolic link to nothing"))
	case err == nil && info.IsDir():
		return fail(unix.EISDIR)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fail(errors.Unwrap(err))
	}
	s := sink{path: path}
	at, mode, flags, real := path, uint32(unix.W_OK), unix.O_PATH|unix.O_CLOEXEC, path
	if err != nil || info.Mode().IsRegular() {
		if target, err := filepath.EvalSymlinks(path); err == nil {
			real = target // so that the link stays
		}
		s.name, at = filepath.Base(real), filepath.Dir(real)
		mode |= unix.X_OK
		flags |= unix.O_DIRECTORY
	}
	if err := unix.Access(at, mode); err != nil {
		return fail(err)
	}
	if s.fd, err = unix.Open(at, flags, 0); err != nil {
		return fail(err)
	}
	if s.name != "" {
		if err := checkReplaceable(s.fd, s.name); err != nil {
			return fail(err)
		}
	}
	return s, nil
}

// checkReplaceable asks the kernel whether another file could be renamed to a name in a directory. It could not if that is a mount
// point (since Linux 5.8 statx(2) tells; before, that is found out at the end), if the directory is append-only, if the directory is
// sticky and the file is another user's, or if the file is immutable. rmdir(2) makes the same checks as rename, and then fails because
// a file is no directory.
func checkReplaceable(dir int, name string) error {
	var st unix.Statx_t
	if err := unix.Statx(dir, "", unix.AT_EMPTY_PATH, 0, &st); err == nil && st.Attributes&unix.STATX_ATTR_APPEND != 0 {
		return flags.WithHint(fmt.Errorf("the directory is append-only: %w", unix.EPERM), "nothing can be replaced there (lsattr -d): choose another directory, or --fd 3 with 3>FILE")
	}
	err := unix.Statx(dir, name, unix.AT_SYMLINK_NOFOLLOW, 0, &st)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil
	case err == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0:
		return flags.WithHint(
			fmt.Errorf("the file itself is mounted there, so that no other can take its place: %w", unix.EBUSY),
			"mount its directory instead, or have it opened for cgshim: --fd 3 with 3>FILE",
		)
	}
	if err := unix.Unlinkat(dir, name, unix.AT_REMOVEDIR); errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return flags.WithHint(
			fmt.Errorf("the file can't be replaced: %w", err),
			"it is another user's in a directory with the sticky bit, or immutable (lsattr): choose another name, or --fd 3 with 3>FILE",
		)
	}
	return nil
}

func (s sink) writeFile(line []byte) error {
	if s.name == "" {
		return s.writeSpecial(line)
	}
	return s.writeWhole(line)
}

// writeWhole writes a new file and renames it, so that a reader sees the old result or the new one. If the name is a link by now, the
// link is replaced, and not followed.
func (s sink) writeWhole(line []byte) error {
	fail := func(op string, err error) error { return &fs.PathError{Op: op, Path: s.path, Err: err} }
	temporary := fmt.Sprintf(".cgshim-%d-%08x", os.Getpid(), rand.Uint32())
	fd, err := unix.Openat(s.fd, temporary, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o666)
	if err != nil {
		return fail("create", err)
	}
	file := os.NewFile(uintptr(fd), temporary)
	_, err = file.Write(line)
	if err = errors.Join(err, file.Close()); err == nil {
		if err = unix.Renameat(s.fd, temporary, s.fd, s.name); err != nil {
			err = fail("rename", err)
		}
	}
	if err != nil {
		_ = unix.Unlinkat(s.fd, temporary, 0)
	}
	return err
}

// writeSpecial writes to a device or a FIFO. A FIFO without a reader can't be opened (ENXIO, fifo(7)). The reader gets as much time to
// open it as the reader of a full one gets to read.
func (s sink) writeSpecial(line []byte) error {
	for deadline := time.Now().Add(deliveryTimeout); ; time.Sleep(10 * time.Millisecond) {
		fd, err := reopen(s.fd)
		if err == nil {
			err = writeFD(fd, line)
			return errors.Join(err, unix.Close(fd))
		}
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ENXIO) || time.Now().After(deadline) {
			return &fs.PathError{Op: "open", Path: s.path, Err: err}
		}
	}
}
