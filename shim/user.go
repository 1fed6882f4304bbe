package shim

import (
	"os"
	"strconv"
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

// callersEnv is the caller's environment, as a program of the user has it.
func (c *Config) callersEnv() []string {
	env := os.Environ()
	if c.User == nil || c.KeepEnv {
		return env
	}
	return append(env, c.User.Environ()...)
}
