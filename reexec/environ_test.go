package reexec

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The environment is what was asked for, byte by byte: nothing of this process's, nothing of the stage's.
func TestEnvVerbatim(t *testing.T) {
	t.Setenv("REEXEC_TEST_OWN", "must not appear")
	for name, env := range map[string][]string{
		"nil":        nil,
		"ordinary":   {"PATH=/bin", "HOME=/", "EMPTY="},
		"duplicates": {"A=1", "A=2", "A=1"},
		"odd":        {"\xff\xfe=\x80", "no equals sign", "=x", "", "newline=\n", "K=a=b"},
		// Variables of these names belong to the stage. A program's own must still arrive.
		"like the stage's": {stageVar, "GOGC=1", "GODEBUG=x"},
	} {
		t.Run(name, func(t *testing.T) {
			lock(t)
			want := ""
			if len(env) > 0 {
				want = strings.Join(env, "\x00") + "\x00"
			}
			if got := output(t, &Spec{Args: []string{"/bin/cat", "/proc/self/environ"}, Env: env}, Join{}); got != want {
				t.Errorf("environment %q, want %q", got, want)
			}
		})
	}
}

func TestDir(t *testing.T) {
	lock(t)
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if wd, err = filepath.EvalSymlinks(wd); err != nil {
		t.Fatal(err)
	}
	parent, base := filepath.Split(dir)
	for _, c := range []struct{ in, want string }{
		{"", wd},
		{dir, dir},
		{"..", filepath.Dir(wd)},
	} {
		if got := output(t, &Spec{Args: []string{"/bin/sh", "-c", "pwd -P"}, Dir: c.in}, Join{}); got != c.want+"\n" {
			t.Errorf("with Dir %q the program is in %q, want %q", c.in, got, c.want)
		}
	}
	t.Chdir(parent) // a relative Dir is relative to the caller's
	if got := output(t, &Spec{Args: []string{"/bin/sh", "-c", "pwd -P"}, Dir: base}, Join{}); got != dir+"\n" {
		t.Errorf("with Dir %q the program is in %q, want %q", base, got, dir)
	}
}
