package shim

import (
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// User is whom a program runs as, see credentials(7).
type User struct {
	UID, GID uint32
	Groups   []uint32 // supplementary groups; all others are dropped
	// Name and Home are what the program learns of its user: see Environ. Empty are the number, and "/".
	Name, Home string
}

// Environ are the variables that are about a user: HOME, USER and LOGNAME, "key=value".
func (u *User) Environ() []string {
	name, home := u.Name, u.Home
	if name == "" {
		name = strconv.FormatUint(uint64(u.UID), 10)
	}
	if home == "" {
		home = "/"
	}
	return []string{"HOME=" + home, "USER=" + name, "LOGNAME=" + name}
}

// String is the user's number, with the name if that is known: for messages.
func (u *User) String() string {
	number := strconv.FormatUint(uint64(u.UID), 10)
	if u.Name == "" {
		return number
	}
	return number + " (" + u.Name + ")"
}

// The access that a program needs to open one of its standard descriptors once more: of its group, in the mode.
const (
	groupReads  = 0o040
	groupWrites = 0o020
	groupBits   = 0o070
)

// mayOpen says whether the user has that access, by the rules of path_resolution(7) for those that are not root.
func (u *User) mayOpen(st *unix.Stat_t, access uint32) bool {
	switch {
	case u.UID == 0:
		return true
	case st.Uid == u.UID:
		access <<= 3
	case st.Gid != u.GID && !slices.Contains(u.Groups, st.Gid):
		access >>= 3
	}
	return st.Mode&access != 0
}

// shareStdio lets the program's user open the program's standard descriptors by /dev/stdin, /dev/stdout and /dev/stderr, as shells,
// Node and Perl do. A pipe, and a new file, is its maker's alone (0600, or by the umask). They get the user's group, which may only
// read the input and only write the output. Its user must not own them, because an owner can open the other end too, and read what others
// have written.
//
// Where that can't be done, because it takes CAP_CHOWN, the program goes on as it is: most write to their descriptors only.
func (res *resources) shareStdio(stdio *[3]int) {
	if res.cfg.User == nil {
		return
	}
	for i, fd := range stdio {
		access := uint32(groupWrites)
		if i == 0 {
			access = groupReads
		}
		var st unix.Stat_t
		if unix.Fstat(fd, &st) != nil || res.cfg.User.mayOpen(&st, access) {
			continue
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFIFO:
			if isAnonymous(fd) && !res.cfg.isResult(&st) {
				_ = res.cfg.User.share(fd, &st, access)
			}
		case unix.S_IFREG:
			res.lend(fd, &st, access)
		}
	}
}

// share gives the user's group access to a file. If the file's group changes, the old group loses its access; if it is the
// user's already, it keeps the access that it has.
func (u *User) share(fd int, st *unix.Stat_t, access uint32) error {
	mode := st.Mode&0o7777 | access
	if st.Gid != u.GID {
		mode = mode&^groupBits | access
		if err := unix.Fchown(fd, -1, int(u.GID)); err != nil {
			return err
		}
	}
	return unix.Fchmod(fd, mode)
}

// lend shares a file that was made for this run, until everything of it is dead: a file has a path, by which later programs of
// that group would find it.
func (res *resources) lend(fd int, st *unix.Stat_t, access uint32) {
	for _, file := range res.cfg.MadeFiles {
		if file == nil || int(file.Fd()) != fd {
			continue
		}
		err := res.cfg.User.share(fd, st, access)
		res.later(func() {
			_ = file.Chown(-1, int(st.Gid))
			_ = file.Chmod(os.FileMode(st.Mode & 0o777))
		})
		if err == nil {
			return
		}
	}
}

// isAnonymous says whether a FIFO is a pipe without a name.
func isAnonymous(fd int) bool {
	var fs unix.Statfs_t
	return unix.Fstatfs(fd, &fs) == nil && fs.Type == unix.PIPEFS_MAGIC
}

// isResult says whether results go to a file.
func (c *Config) isResult(st *unix.Stat_t) bool {
	return slices.ContainsFunc(c.ResultFDs, func(fd int) bool {
		var result unix.Stat_t
		return unix.Fstat(fd, &result) == nil && result.Dev == st.Dev && result.Ino == st.Ino
	})
}

// callersEnv is the caller's environment, as a program of the user has it.
func (c *Config) callersEnv() []string {
	env := os.Environ()
	if c.User == nil || c.KeepEnv {
		return env
	}
	return append(env, c.User.Environ()...)
}
