// Package fault has the errors of a run that one package of shim meets, and another one knows something about: package
// advice, above all.
package fault

import (
	"errors"
	"fmt"
)

var (
	// ErrOthers is for a group that would do, but for processes of others in it.
	ErrOthers = errors.New("the cgroup that we are in has processes of others, too")
	// ErrForeign is for a run, a batch job or a service that we are in, whose limits are to hold, and that we may not
	// make groups in.
	ErrForeign = errors.New("the cgroup that we are in, and whose limits are to hold, is somebody else's")
	// ErrNotDelegated is for a controller that a user's manager does not have.
	ErrNotDelegated = errors.New("systemd has not delegated it to this user")
	// ErrNoSystemd is for a systemd that can't be talked to.
	ErrNoSystemd = errors.New("systemd can't be reached")
	// ErrUnanswered is for one that is there, and was waited for long enough.
	ErrUnanswered = errors.New("systemd does not answer")
	// ErrThreads is for threads that can't be had.
	ErrThreads = errors.New("make threads")

	// A launch is given up for ErrToldToStop or ErrNotStarted. It takes a millisecond, unless the program's file,
	// interpreter or directory is on a file system that does not answer.
	ErrToldToStop = errors.New("told to stop before the program had started")
	ErrNotStarted = errors.New("the program had not started when its wall time was over")
)

// ErrConfig is in the chain of every error about a configuration that makes no sense.
var ErrConfig = errors.New("bad configuration")

// Config is an error about a configuration that makes no sense.
func Config(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrConfig, fmt.Errorf(format, args...))
}
