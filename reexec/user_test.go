package reexec

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// userTree is lookupTree, everybody's to enter but for
//
//	locked/prog      in a directory that only root may search
//	closed/prog      which only root may execute
//	script/prog      whose interpreter only root may execute
//	theirs/prog      in a directory that only user nobody may search, root not without CAP_DAC_OVERRIDE
func userTree(t *testing.T) {
	t.Helper()
	requireRoot(t)
	lookupTree(t)
	for _, err := range []error{
		os.Chmod("..", 0o755), os.Chmod(".", 0o755),
		os.WriteFile("exe/prog", []byte("#!/bin/sh\necho exe\n"), 0o755),
		os.Mkdir("closed", 0o755), os.WriteFile("closed/prog", []byte("#!/bin/sh\n"), 0o700), os.WriteFile("closed/sh", []byte("#!/bin/sh\n"), 0o700),
		os.Mkdir("script", 0o755), os.WriteFile("script/prog", []byte("#!closed/sh\n"), 0o755),
		os.Mkdir("theirs", 0o700), os.WriteFile("theirs/prog", []byte("#!/bin/sh\necho theirs\n"), 0o755), os.Chown("theirs", nobody, nobody),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A program of another user is looked up as that user, who goes past what he may not execute; by a stage that ends, and one that stays.
func TestLookupAsUser(t *testing.T) {
	userTree(t)
	lock(t)
	stage, end := staying(t, false)
	defer end()
	who := &Credential{UID: nobody, GID: nobody}
	for path, want := range map[string]string{
		"exe": "exe\n", "locked:exe": "exe\n", "closed:exe": "exe\n", "locked:closed:plain:exe": "exe\n", "script:exe": "exe\n",
		"script:closed:theirs:exe": "theirs\n",
	} {
		spec := &Spec{Args: []string{"prog"}, Env: []string{"PATH=" + path}, Credential: who}
		if out := outputOn(t, stage, spec, Join{}); out != want {
			t.Errorf("%s: %q, want %q", path, out, want)
		}
	}
	for path, want := range map[string]Error{
		"locked":               {Step: StepLookup, Errno: unix.EACCES, Arg: "locked/prog"},
		"closed":               {Step: StepLookup, Errno: unix.EACCES, Arg: "closed/prog"},
		"empty:locked:closed":  {Step: StepLookup, Errno: unix.EACCES, Arg: "closed/prog"},
		"closed:locked:script": {Step: StepLookup, Errno: unix.EACCES, Arg: "closed/prog"},
		"locked:script:plain":  {Step: StepLookup, Errno: unix.EACCES, Arg: "script/prog"},
		"empty:missing":        {Step: StepLookup, Errno: unix.ENOENT, Arg: "prog"},
	} {
		spec := &Spec{Args: []string{"prog"}, Env: []string{"PATH=" + path}, Credential: who}
		if got := errorOn(t, stage, spec, Join{}); got != want {
			t.Errorf("%s: %+v, want %+v", path, got, want)
		}
	}
	// What is executed, and fails otherwise, is not gone past.
	if err := os.WriteFile("plain/prog", []byte("#!/nonexistent/interpreter\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod("plain/prog", 0o755); err != nil {
		t.Fatal(err)
	}
	spec := &Spec{Args: []string{"prog"}, Env: []string{"PATH=closed:plain:exe"}, Credential: who}
	if got, want := errorOn(t, stage, spec, Join{}), (Error{Step: StepExec, Errno: unix.ENOENT, Arg: "plain/prog"}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	for prog, step := range map[string]Step{"locked/prog": StepLookup, "closed/prog": StepExec, "script/prog": StepExec} {
		want := Error{Step: step, Errno: unix.EACCES, Arg: prog}
		if got := errorOn(t, stage, &Spec{Args: []string{prog}, Credential: who}, Join{}); got != want {
			t.Errorf("%s: %+v, want %+v", prog, got, want)
		}
	}
}

func TestLookupAsUserOnce(t *testing.T) {
	userTree(t)
	lock(t)
	spec := &Spec{Args: []string{"prog"}, Env: []string{"PATH=locked:closed:exe"}, Credential: &Credential{UID: nobody, GID: nobody}}
	if out := output(t, spec, Join{}); out != "exe\n" {
		t.Errorf("%q", out)
	}
	spec.Env = []string{"PATH=locked:closed"}
	if got := launchError(t, spec, Join{}); *got != (Error{Step: StepLookup, Errno: unix.EACCES, Arg: "closed/prog"}) {
		t.Errorf("%+v", *got)
	}
	// Without another user, what execve refuses is gone past, too, and the program has the name that it was called by.
	if err := os.Chmod("closed/sh", 0o600); err != nil {
		t.Fatal(err)
	}
	spec.Credential, spec.Env = nil, []string{"PATH=script:exe"}
	if out := output(t, spec, Join{}); out != "exe\n" {
		t.Errorf("%q", out)
	}
	spec.Env = []string{"PATH=script"}
	if got := launchError(t, spec, Join{}); *got != (Error{Step: StepLookup, Errno: unix.EACCES, Arg: "prog"}) {
		t.Errorf("%+v", *got)
	}
}

func TestErrorOfUser(t *testing.T) {
	e := &Error{Step: StepLookup, Errno: unix.EACCES, Arg: "/a/prog", User: "7 (seven)"}
	if got, want := e.Error(), `exec "/a/prog" as user 7 (seven): permission denied`; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
