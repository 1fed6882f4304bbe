package shim

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/reexec"
	"github.com/cgshim/cgshim/shim/internal/advice"
)

// Explain is what a Result would say of an error that was met before there could be one: of NewPool, for example.
func Explain(err error) *ErrorInfo {
	step := "cgroup"
	var e *reexec.Error
	if errors.As(err, &e) {
		step = e.Step.String()
	}
	return explain(&Config{}, step, err)
}

func explain(cfg *Config, step string, err error) *ErrorInfo {
	var e *reexec.Error
	if errors.As(err, &e) {
		advice.NameRefused(e)
	}
	info := &ErrorInfo{Step: step, Message: message(step, err), cause: err}
	info.Hint = optional(advice.About(step, err, cfg.program()).Hint())
	var errno unix.Errno
	if errors.As(err, &errno) {
		info.Errno = optional(errnoName(errno))
	}
	return info
}

// program is what advice depends on, of a Config; nil if that has none.
func (c *Config) program() *advice.Program {
	if len(c.Args) == 0 {
		return nil
	}
	p := &advice.Program{Name: c.Args[0], Env: c.Env, Dir: c.Dir, Rlimits: c.Rlimits}
	if c.Env == nil {
		p.Env = os.Environ()
	}
	if policy := c.policy(); policy.Files() {
		p.Beneath = policy.Paths()
	}
	if c.User != nil {
		p.UID = &c.User.UID
	}
	return p
}

func errnoName(errno unix.Errno) string {
	if name := unix.ErrnoName(errno); name != "" {
		return name
	}
	return strconv.Itoa(int(errno))
}

// oneLine is for errors.Join, which puts each error on a line of its own.
func oneLine(err error) string { return escapeBytes(strings.ReplaceAll(err.Error(), "\n", "; ")) }

// escapeBytes writes bytes that are no UTF-8 as %q does: a name may have some, and JSON would have U+FFFD for all of them.
func escapeBytes(text string) string {
	if utf8.ValidString(text) {
		return text
	}
	var b strings.Builder
	for i, r := range text {
		_, size := utf8.DecodeRuneInString(text[i:])
		if r == utf8.RuneError && size == 1 {
			fmt.Fprintf(&b, `\x%02x`, text[i])
			continue
		}
		b.WriteString(text[i : i+size])
	}
	return b.String()
}

// message puts the step first, unless the error says it itself, or is about the caller's own words.
func message(step string, err error) string {
	text := oneLine(err)
	if words, ok := strings.CutPrefix(text, ErrConfig.Error()+": "); ok {
		return words
	}
	if step == "usage" || strings.HasPrefix(text, step) {
		return text
	}
	return step + ": " + text
}

// exitStatus tells a program that is not there (127) and one that is but can't be executed (126) from
// everything else (125).
func exitStatus(err error) int {
	var e *reexec.Error
	if !errors.As(err, &e) {
		return ExitFailed
	}
	switch {
	case e.Step == reexec.StepLookup && errors.Is(e.Errno, unix.ENOENT):
		return ExitNotFound
	case e.Step == reexec.StepLookup, e.Step == reexec.StepExec:
		return ExitCannotExec
	}
	return ExitFailed
}

// A stepError is an error with the step at which it occurred, see ErrorInfo.
type stepError struct {
	step string
	err  error
}

// unstepped is the error without a step.
func unstepped(err error) error {
	var e *stepError
	if errors.As(err, &e) {
		return e.err
	}
	return err
}

func at(step string, err error) error { return &stepError{step, err} }

func (e *stepError) Error() string { return e.step + ": " + e.err.Error() }

func (e *stepError) Unwrap() error { return e.err }

// errUnwanted is for a run that was cancelled, or whose pool was stopped, before its program was started.
var errUnwanted = errors.New("cancelled before it was started")
