package cgroup

import (
	"errors"
	"strconv"
)

var (
	// ErrNotMounted: no cgroup hierarchy is mounted, or none that this process can see.
	ErrNotMounted = errors.New("no cgroup hierarchy is mounted")
	// ErrNoController: the host, or the parent group, does not have a controller.
	ErrNoController = errors.New("controller is not available")
	// ErrPopulated: a cgroup v2 parent has processes of its own, and so can't have limited children.
	ErrPopulated = errors.New("cgroup has processes of its own, so the kernel can't enable controllers for its children")
	// ErrSwapAccounting: swap is in use on the host, and the kernel does not account it.
	ErrSwapAccounting = errors.New("the kernel does not account swap")
	// ErrV2Only: a limit that cgroup v1 does not have.
	ErrV2Only = errors.New("cgroup v1 has no such limit")
	// ErrNotEnforced: the kernel has taken a value, but does not act on it.
	ErrNotEnforced = errors.New("the kernel does not enforce it")
	// ErrInvalid: a limit, or a path, that means nothing.
	ErrInvalid = errors.New("invalid")
	// ErrThreaded: a cgroup v2 parent, or one above it, is for threads of a process only, see cgroup.type.
	ErrThreaded = errors.New("cgroup is threaded, so that its children take no processes")
	// ErrNotEmpty: processes were still alive when the time to kill them was over.
	ErrNotEmpty = errors.New("processes do not die")
	// ErrFrozen: a group above is frozen, and so is everything that enters this one.
	ErrFrozen = errors.New("the cgroup is frozen, and so is all that is below it")
)

// An Error is a failed operation on one file or directory of a cgroup.
type Error struct {
	Op    string // "create", "write", "read", "add", "freeze", "kill", "remove", …
	Path  string // the file or directory; empty if there is none
	Value string // what was written, or the name of what was missing; empty if neither
	Err   error
}

func (e *Error) Error() string {
	msg := e.Op
	if e.Value != "" {
		msg += " " + strconv.Quote(e.Value)
	}
	if e.Path != "" {
		if e.Op == "write" {
			msg += " to"
		} else if e.Value != "" {
			msg += " in"
		}
		msg += " " + strconv.Quote(e.Path)
	}
	return msg + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// A QuotaError says that a group above has a CPU quota which is lower than the one asked for. Cgroup v1 refuses that.
type QuotaError struct {
	Group string  // the directory of the one above that has the least
	CPUs  float64 // of it, as in Limits
	Err   error
}

func (e *QuotaError) Error() string {
	return "the quota of " + strconv.Quote(e.Group) + ", above it, is " + strconv.FormatFloat(e.CPUs, 'g', -1, 64) + " CPUs: " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *QuotaError) Unwrap() error { return e.Err }
