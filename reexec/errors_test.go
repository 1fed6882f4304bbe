package reexec

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// launchError launches a program that must not start, and checks that nothing is left of it.
func launchError(t *testing.T, spec *Spec, join Join) *Error {
	t.Helper()
	stage := start(t)
	program, err := stage.Launch(spec, join, Descriptors{})
	if err == nil {
		_ = unix.Kill(program.PID, unix.SIGKILL)
		wait(t, program.PID)
		t.Fatal("Launch succeeded")
	}
	if program != (Program{}) {
		t.Errorf("Launch returned %+v along with an error", program)
	}
	noChildren(t)
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("Launch returned a %T, %v, not an *Error", err, err)
	}
	return e
}

func TestErrors(t *testing.T) {
	lock(t)
	dir := t.TempDir()
	for name, file := range map[string]struct {
		text string
		mode fs.FileMode
	}{
		"text":    {"no interpreter here\n", 0o755},
		"orphan":  {"#!/nonexistent/interpreter\n", 0o755},
		"plain":   {"#!/bin/sh\n", 0o644},
		"sub/dir": {},
	} {
		if file.mode == 0 {
			if err := os.MkdirAll(dir+"/"+name, 0o755); err != nil {
				t.Fatal(err)
			}
		} else if err := os.WriteFile(dir+"/"+name, []byte(file.text), file.mode); err != nil {
			t.Fatal(err)
		}
	}
	path := []string{"PATH=" + dir + ":" + dir + "/sub"}
	// More than the kernel's 6 MiB for all, whatever RLIMIT_STACK is; no single one above its 128 KiB.
	long := append([]string{"/bin/true"}, strings.Split(strings.Repeat(strings.Repeat("x", 100_000)+" ", 64), " ")...)

	for _, c := range []struct {
		name string
		spec Spec
		want Error
	}{
		{"not in PATH", Spec{Args: []string{"missing"}, Env: path}, Error{Step: StepLookup, Errno: unix.ENOENT, Arg: "missing"}},
		{"missing, with a slash", Spec{Args: []string{dir + "/missing"}}, Error{Step: StepLookup, Errno: unix.ENOENT, Arg: dir + "/missing"}},
		{"below a file", Spec{Args: []string{"/dev/null/x"}}, Error{Step: StepLookup, Errno: unix.ENOTDIR, Arg: "/dev/null/x"}},
		{"directory", Spec{Args: []string{dir}}, Error{Step: StepExec, Errno: unix.EACCES, Arg: dir}},
		{"directory in PATH", Spec{Args: []string{"dir"}, Env: path}, Error{Step: StepLookup, Errno: unix.EACCES, Arg: "dir"}},
		{"not executable", Spec{Args: []string{dir + "/plain"}}, Error{Step: StepExec, Errno: unix.EACCES, Arg: dir + "/plain"}},
		{"not executable in PATH", Spec{Args: []string{"plain"}, Env: path}, Error{Step: StepLookup, Errno: unix.EACCES, Arg: "plain"}},
		{"text without #!", Spec{Args: []string{"text"}, Env: path}, Error{Step: StepExec, Errno: unix.ENOEXEC, Arg: "text"}},
		// The program was found: that execve says ENOENT too must not read as "program not found".
		{"missing interpreter", Spec{Args: []string{"orphan"}, Env: path}, Error{Step: StepExec, Errno: unix.ENOENT, Arg: "orphan"}},
		{"missing Dir", Spec{Args: []string{"/bin/true"}, Dir: dir + "/missing"}, Error{Step: StepChdir, Errno: unix.ENOENT, Arg: dir + "/missing"}},
		{"Dir is a file", Spec{Args: []string{"/bin/true"}, Dir: dir + "/text"}, Error{Step: StepChdir, Errno: unix.ENOTDIR, Arg: dir + "/text"}},
		{"arguments too long", Spec{Args: long}, Error{Step: StepExec, Errno: unix.E2BIG, Arg: "/bin/true"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			lock(t) // subtests have goroutines of their own
			got := launchError(t, &c.spec, Join{})
			if *got != c.want {
				t.Errorf("got %+v, want %+v", *got, c.want)
			}
			if missing := c.want.Errno == unix.ENOENT; errors.Is(got, fs.ErrNotExist) != missing {
				t.Errorf("errors.Is(%v, fs.ErrNotExist) = %v", got, !missing)
			}
		})
	}
}

func TestNoArgs(t *testing.T) {
	lock(t)
	if got := launchError(t, &Spec{Env: []string{"K=V"}}, Join{}); *got != (Error{Step: StepExec, Errno: unix.EINVAL}) {
		t.Errorf("got %+v, want EINVAL", *got)
	}
}

// A string with a NUL can't be an argument. Cut in two, its rest would become another argument, and the
// last arguments environment variables: another program than the caller asked for.
func TestNUL(t *testing.T) {
	for name, spec := range map[string]Spec{
		"Args": {Args: []string{"/bin/true", "a\x00b"}},
		"Env":  {Args: []string{"/bin/true"}, Env: []string{"A=1\x00INJECTED=x"}},
		"Dir":  {Args: []string{"/bin/true"}, Dir: "/\x00/tmp"},
	} {
		t.Run(name, func(t *testing.T) {
			lock(t)
			program, err := start(t).Launch(&spec, Join{}, Descriptors{})
			var e *Error
			if !errors.As(err, &e) || e.Errno != unix.EINVAL {
				t.Errorf("got %+v, %v, want EINVAL", program, err)
			}
			if err == nil {
				wait(t, program.PID)
			}
			noChildren(t)
		})
	}
}

func TestErrorText(t *testing.T) {
	for want, e := range map[string]*Error{
		`exec "prog": no such file or directory`: {Step: StepLookup, Errno: syscall.ENOENT, Arg: "prog"},
		`exec "prog": permission denied`:         {Step: StepExec, Errno: syscall.EACCES, Arg: "prog"},
		`chdir "/x": not a directory`:            {Step: StepChdir, Errno: syscall.ENOTDIR, Arg: "/x"},
		`join: no such device`:                   {Step: StepJoin, Errno: syscall.ENODEV, Index: 1},
	} {
		if got := e.Error(); got != want {
			t.Errorf("%#v reads %q, want %q", e, got, want)
		}
	}
}
