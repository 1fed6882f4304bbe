package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var shells = []string{"bash", "zsh", "fish"}

// A script knows every flag of a run, each subcommand, and the flags of that.
func TestCompletionScripts(t *testing.T) {
	for _, shell := range shells {
		out := invoke(t, "completion", shell)
		if out.status != 0 || out.stderr != "" || out.fd3 != "" {
			t.Errorf("%s: exit status %d, stderr %q", shell, out.status, out.stderr)
		}
		for _, s := range subcommands {
			if !slices.Contains(strings.FieldsFunc(out.stdout, notOfWord), s.name) {
				t.Errorf("%s: no %s", shell, s.name)
			}
			for _, f := range s.command(nil).Flags {
				for _, name := range f.Names() {
					if !strings.Contains(out.stdout, flagIn(shell, name)) {
						t.Errorf("%s: no --%s, a flag of %s", shell, name, s.name)
					}
				}
			}
		}
	}
	for _, args := range [][]string{{"completion"}, {"completion", "csh"}, {"completion", "bash", "zsh"}} {
		if out := invoke(t, args...); out.status != 125 || out.stdout != "" || !strings.Contains(out.stderr, "want bash, zsh or fish") {
			t.Errorf("%q: %+v", args, out)
		}
	}
}

func notOfWord(c rune) bool { return strings.ContainsRune(" ()'\n\t", c) }

// flagIn is a flag as a shell's script has it.
func flagIn(shell, name string) string {
	switch {
	case shell != "fish":
		return dashed(name)
	case len(name) == 1:
		return " -s " + name
	}
	return " -l " + name
}

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// script is a shell's completion script as a file.
func script(t *testing.T, shell string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), shell)
	if err := os.WriteFile(path, []byte(invoke(t, "completion", shell).stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func shellOutput(t *testing.T, dir, shell string, args ...string) []string {
	t.Helper()
	if _, err := exec.LookPath(shell); err != nil {
		t.Skip("requires ", shell)
	}
	cmd := exec.Command(shell, args...)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v", shell, args, err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// A completion is what a line, whose last word is being typed, completes to.
type completion struct {
	line string
	want []string // all there is; nil: see has
	has  string
	not  string
}

var completions = []completion{
	{"cgshim --me", []string{"--mem", "--mem-high", "--memory"}, "", ""},
	{"cgshim --mem 64M --pi", []string{"--pids", "--pids-limit"}, "", ""},
	{"cgshim --net ", []string{"host", "none"}, "", ""},
	{"cgshim --shield ", []string{"auto", "off", "on"}, "", ""},
	{"cgshim --fs-ro ", nil, "file-of-mine", "--mem"},
	{"cgshim --ulimit nofi", []string{"nofile="}, "", ""},
	{"cgshim --output ", nil, "file-of-mine", "--mem"},
	{"cgshim --chdir ", nil, "dir-of-mine", "file-of-mine"},
	{"cgshim comp", nil, "completion", ""},
	{"cgshim --manager ", []string{"auto", "cgroupfs", "systemd"}, "", ""},
	{"cgshim ba", nil, "batch", ""},
	{"cgshim batch --", []string{"--alive-fd", "--die-with-caller", "--events", "--help", "--jobs", "--manager", "--nest", "--parent", "--pin"}, "", ""},
	{"cgshim batch --pin --ma", []string{"--manager"}, "", ""},
	{"cgshim batch --manager ", []string{"auto", "cgroupfs", "systemd"}, "", ""},
	{"cgshim batch --jobs ", nil, "", "--pin"},
	{"cgshim completion ", []string{"bash", "fish", "zsh"}, "", ""},
	{"cgshim completion --", []string{"--help"}, "", ""},
	{"cgshim help b", []string{"batch"}, "", ""},
	{"cgshim ps --", []string{"--help", "--json", "--parent"}, "", ""},
	{"cgshim kill --signal US", []string{"USR1", "USR2"}, "", ""},
	{"cgshim thaw --", []string{"--help", "--parent"}, "", "--mem"},
	{"cgshim doctor --manager ", []string{"auto", "cgroupfs", "systemd"}, "", ""},
	{"cgshim version --", []string{"--help"}, "", ""},
	{"cgshim run --cpu-t", []string{"--cpu-time"}, "", ""},
	{"cgshim -- cat fil", nil, "file-of-mine", ""},
	{"cgshim --mem 64M cat --me", nil, "", "--mem"}, // the program's
}

func (c *completion) check(t *testing.T, shell string, got []string) {
	t.Helper()
	for i := range got {
		got[i], _, _ = strings.Cut(got[i], "\t") // fish describes them
	}
	slices.Sort(got)
	got = slices.Compact(got)
	contains := func(word string) bool {
		return slices.ContainsFunc(got, func(s string) bool { return strings.TrimSuffix(s, "/") == word })
	}
	if c.want != nil && !slices.Equal(got, c.want) || c.has != "" && !contains(c.has) || c.not != "" && contains(c.not) {
		t.Errorf("%s: %q completes to %.300q", shell, c.line, got)
	}
}

func completionDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/file-of-mine", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir+"/dir-of-mine", 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestBashCompletion(t *testing.T) {
	dir, path := completionDir(t), script(t, "bash")
	for _, c := range completions {
		words := strings.Split(c.line, " ")
		args := append([]string{
			"-c", `source "$0"; COMP_CWORD=$1; shift; COMP_WORDS=("$@"); _cgshim; printf '%s\n' "${COMPREPLY[@]}"`,
			path, strconv.Itoa(len(words) - 1),
		}, words...)
		c.check(t, "bash", shellOutput(t, dir, "bash", args...))
	}
}

func TestFishCompletion(t *testing.T) {
	dir, path := completionDir(t), script(t, "fish")
	t.Setenv("HOME", t.TempDir()) // fish writes there
	for _, c := range completions {
		c.check(t, "fish", shellOutput(t, dir, "fish", "-c", "source "+path+"; complete -C '"+c.line+"'"))
	}
}

func TestZshCompletion(t *testing.T) {
	path := script(t, "zsh")
	shellOutput(t, "/", "zsh", "-n", path)
	// That compinit and _arguments take it: the specs are parsed when the function runs in a completion.
	out := shellOutput(t, "/", "zsh", "-f", "-c", `autoload -U compinit; compinit -u -D; source "$0"; print -r -- $_comps[cgshim]`, path)
	if !slices.Equal(out, []string{"_cgshim"}) {
		t.Errorf("%q", out)
	}
}
