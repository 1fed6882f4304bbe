package flags

import "errors"

// Hinted is an error with advice for the user.
type Hinted struct {
	error
	hint string
}

// WithHint adds advice to an error.
func WithHint(err error, hint string) Hinted { return Hinted{err, hint} }

// Hint returns the advice; package shim puts it into the result.
func (e Hinted) Hint() string { return e.hint }

// Unwrap returns the error without the advice.
func (e Hinted) Unwrap() error { return e.error }

// ErrNotOpen says that a flag names a descriptor that the caller has not opened.
var ErrNotOpen = errors.New("the descriptor is not open")
