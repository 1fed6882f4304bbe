package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cgshim/cgshim/cmd/cgshim/internal/flags"
)

// There is a result whatever is wrong with the command line, and at the place asked for, wherever in it
// that is.
func TestUsageErrors(t *testing.T) {
	for _, test := range []struct{ args, mention string }{
		{"--bogus --fd 3 -- true", "bogus"}, // the parser gives up before it sees --fd
		{"--fd 3 --bogus -- true", "bogus"},
		{"--fd=3 --mem 64X true", `--mem "64X"`},
		{"--mem 64X --pids 0 -fd=3 true", `--mem "64X"`},
		{"--fd 3 --pids", "pids"},
		{"--fd 3", "no program"},
		{"--fd 3 --", "no program"},
		{"run --fd 3", "no program"},
		{"--fd 3 --env A true", "--env"},
		{"--fd 3 --swap 1M true", "--mem"},
		{"--fd 3 --name a/b true", "a/b"},    // regression: "bad configuration", and not a word more
		{"--fd 3 --parent a true", "parent"}, // the same
		{"--fd 3 --cpus NaN true", "--cpus"}, // regression: panicked
		{"--fd 3 --cpus Inf -- true", "Inf"}, // the same
		{"--fd 3 --wall-time -1s true", "-1s"},
	} {
		out := invoke(t, strings.Fields(test.args)...)
		if out.fd3 == "" {
			t.Errorf("%s: no result; exit status %d, stderr %.200q", test.args, out.status, out.stderr)
			continue
		}
		assertUsage(t, out, test.mention)
	}
}

// Two places for one result: it goes to exactly one of them, and says that this is wrong.
func TestOutputAndFD(t *testing.T) {
	file := filepath.Join(t.TempDir(), "result")
	out := invoke(t, "--fd", "3", "--output", file, "--", "/bin/sh", "-c", "echo ran")
	content, _ := os.ReadFile(file)
	r := parseResult(t, out.fd3+string(content))
	if out.status != 125 || r.Verdict != "error" || !strings.Contains(r.Error.Message, "--output") || out.stdout != "" {
		t.Errorf("exit status %d, stdout %q, %+v", out.status, out.stdout, r)
	}
}

func TestHelp(t *testing.T) {
	for _, args := range []string{"--help", "-h", "help", "run --help", "--mem 64M --help"} {
		out := invoke(t, strings.Fields(args)...)
		if out.status != 0 || out.stderr != "" || out.fd3 != "" || !strings.HasPrefix(out.stdout, "Usage: cgshim ") {
			t.Errorf("%s: exit status %d, stderr %q, stdout %.50q", args, out.status, out.stderr, out.stdout)
		}
		words := strings.FieldsFunc(out.stdout, func(c rune) bool { return strings.ContainsRune(" \n\t,=", c) })
		for _, flag := range flags.Run() {
			for _, name := range flag.Names() {
				dashed := "--" + name
				if len(name) == 1 {
					dashed = "-" + name
				}
				if !slices.Contains(words, dashed) {
					t.Errorf("%s: %s is not there", args, dashed)
				}
			}
		}
	}
}

func TestVersion(t *testing.T) {
	for _, arg := range []string{"version", "--version"} {
		out := invoke(t, arg)
		if out.status != 0 || out.stdout != "cgshim "+version+"\n" || out.stderr != "" || out.fd3 != "" {
			t.Errorf("%s: %+v", arg, out)
		}
	}
}

// A subcommand is one only as the very first argument: a judge must be able to run a program of any name.
func TestProgramsNamedLikeSubcommands(t *testing.T) {
	parent := newParent(t)
	path := "PATH=" + t.TempDir() // has no such program, on no machine
	for _, args := range []string{
		"-- version", "-- help", "-- run", "-- schema", "run completion", "--pretty=false schema", "run version", "run -- help", "run run",
		"--mem 64M version", "--mem 64M -- --version", "--pretty=false help",
	} {
		list := strings.Fields(args)
		program := list[len(list)-1]
		own := []string{"--fd", "3", "--parent", parent, "--env", path}
		if list[0] == "run" {
			list = slices.Insert(list, 1, own...)
		} else {
			list = append(own, list...)
		}
		out := invoke(t, list...)
		r := parseResult(t, out.fd3)
		if out.status != 127 || r.Error == nil || r.Error.Step != "exec" || !slices.Equal(r.Argv, []string{program}) || out.stdout != "" {
			t.Errorf("%s: exit status %d, %s", args, out.status, out.fd3)
		}
	}
	// And without a flag in front, so that the first argument is "--".
	cmd := command(t, "--", "version")
	cmd.Env = append(cmd.Env, "CGSHIM_FD=3", path)
	if out := invokeCommand(t, cmd); out.status != 127 || !slices.Equal(parseResult(t, out.fd3).Argv, []string{"version"}) {
		t.Errorf("-- version: %+v", out)
	}
}

// Flags after PROG are the program's: it gets them, and cgshim does not heed them.
func TestFlagsAfterProgram(t *testing.T) {
	parent := newParent(t)
	dir := t.TempDir()
	printer := []string{"/bin/sh", "-c", `printf "%s\n" "$*"`, "sh"}
	for _, own := range [][]string{
		{"--mem", "1"},
		{"--bogus"},
		{"--help"},
		{"--pretty"},
		{"--", "x"},
		{"-h"},
		// Regression: these were taken for cgshim's own, because where the result goes is read separately.
		{"--fd", "9"},
		{"--fd=1"},
		{"--output", dir + "/stolen"},
		{"--output=" + dir + "/stolen"},
	} {
		for _, dashes := range [][]string{nil, {"--"}} {
			args := slices.Concat([]string{"--fd", "3", "--parent", parent}, dashes, printer, own)
			out := invoke(t, args...)
			if out.status != 0 || out.stdout != strings.Join(own, " ")+"\n" {
				t.Errorf("%q: exit status %d, stdout %q, stderr %q", args, out.status, out.stdout, out.stderr)
			}
			if out.fd3 == "" {
				t.Errorf("%q: no result at the descriptor", args)
				continue
			}
			if r := parseResult(t, out.fd3); r.Verdict != "ok" || !slices.Equal(r.Argv, slices.Concat(printer, own)) {
				t.Errorf("%q: %s", args, out.fd3)
			}
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("cgshim wrote to the program's file: %v, %v", entries, err)
	}
}

// Nor is that so when the flags before PROG are wrong. Of an unknown flag nobody knows whether it takes a
// value, but nobody takes two.
func TestFlagsAfterProgramAndBadFlag(t *testing.T) {
	file := filepath.Join(t.TempDir(), "stolen")
	for _, args := range []string{
		"--fd 3 --bogus=1 prog --output " + file,
		"--fd 3 --bogus=1 prog --output=" + file,
		"--fd 3 --memroy 64M prog --output " + file,
		"--fd 3 --memroy 64M prog --fd 1",
		"--fd 3 --bogus --mem 64M prog --fd=1",
		"--fd 3 --bogus -- prog --fd 1",
	} {
		out := invoke(t, strings.Fields(args)...)
		if _, err := os.Stat(file); err == nil || out.fd3 == "" {
			t.Errorf("%s: the result is not at descriptor 3: %v", args, err)
			_ = os.Remove(file)
			continue
		}
		assertUsage(t, out)
	}
}

// wrongFlags are what a command line may have wrong with it.
var wrongFlags = []string{
	"--bogus", "--bogus=1", "--bogus 1", "-x", "-x 1", "---", "--=", "--mem 64X", "--mem=", "--mem 1M -m 2M", "--clear-env=2", "--pids", "--cpus NaN", "--name a/b",
	"--env A", "--env =A", "--keep-fd 999", "--ulimit nofile", "--stdin=", "--swap 1M", "--grace 1", "--sample 1ns", "--bogus --mem 64X --nosuch 5",
}

// Whatever is wrong with a command line, and wherever, the flags that are known are read.
func TestScanFlagsBesideWrongOnes(t *testing.T) {
	for _, wrong := range wrongFlags {
		for _, output := range []string{"--output f", "--output=f", "-output f", "-output=f"} {
			for _, fd := range []string{"--fd 3", "--fd=3", "-fd 3", "-fd=3"} {
				for _, order := range [][]string{
					{wrong, output, fd, "--pretty"}, {output, wrong, fd, "--pretty=1"}, {output, "--pretty", fd, wrong}, {"--pretty", "--events", wrong, fd, wrong, output},
				} {
					line := strings.Join(order, " ") + " -- prog --output stolen --fd=9 -- --pretty=false"
					read := flags.Scan(strings.Fields(line))
					gotOutput, _ := read("output")
					if gotFD, _ := read("fd"); gotOutput != "f" || gotFD != "3" || !read.IsOn("pretty") {
						t.Errorf("%s: --output %q, --fd %q, --pretty %v", line, gotOutput, gotFD, read.IsOn("pretty"))
					}
				}
			}
		}
	}
}

// And so the result goes there.
func TestOutputOfRefusedCommandLine(t *testing.T) {
	for _, wrong := range wrongFlags {
		for _, place := range []string{"--output FILE --pretty", "--pretty -fd=3"} {
			for _, both := range []string{wrong + " " + place, place + " " + wrong} {
				file := filepath.Join(t.TempDir(), "result")
				line := strings.ReplaceAll(both, "FILE", file) + " -- prog --output " + file + ".stolen --fd=1 -- --pretty=false"
				out := invoke(t, strings.Fields(line)...)
				content, _ := os.ReadFile(file)
				text := out.fd3 + string(content)
				if out.status != 125 || out.stdout != "" || !strings.HasPrefix(text, "{\n  \"type\": \"result\",\n") || !strings.Contains(text, `"step": "usage"`) || strings.Count(text, `"verdict"`) != 1 {
					t.Errorf("%s: exit status %d, stdout %q, stderr %q, result %q", line, out.status, out.stdout, out.stderr, text)
				}
				if _, err := os.Stat(file + ".stolen"); err == nil {
					t.Errorf("%s: the program's file was written", line)
				}
			}
		}
	}
}

// A command line that the parser refuses has a result too, and --pretty after PROG is not ours there either.
func TestPrettyOfProgram(t *testing.T) {
	out := invoke(t, "--fd", "3", "--bogus", "--", "prog", "--pretty")
	parseResult(t, out.fd3)                                                          // one line
	for _, off := range []string{"--pretty=false", "--pretty=0", "--pretty=maybe"} { // regression: that was "on"
		parseResult(t, invoke(t, "--fd", "3", off, "--bogus", "--", "prog").fd3)
	}
}

func TestPretty(t *testing.T) {
	out := invoke(t, "--fd", "3", "--pretty", "--parent", newParent(t), "--", "/bin/true")
	if out.status != 0 || strings.Count(out.fd3, "\n") < 30 || !strings.HasPrefix(out.fd3, "{\n  \"type\": \"result\",\n") {
		t.Errorf("exit status %d, %.100q", out.status, out.fd3)
	}
}
