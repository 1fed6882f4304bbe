package flags

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// What is read by hand is all that the command line has, as it has it.
func TestPlainFlags(t *testing.T) {
	for _, flag := range Run() {
		want := Unknown
		switch flag.(type) {
		case textFlag:
			want = Text
		case listFlag:
			want = List
		case switchFlag:
			want = Switch
		}
		names := flag.Names()
		if names[0] == "help" {
			want = Unknown
		}
		if got := plainKind(names[0]); got != want {
			t.Errorf("--%s is read as %d, want %d", names[0], got, want)
		}
		for _, alias := range names[1:] {
			if plainKind(alias) != Unknown {
				t.Errorf("--%s is a second name", alias)
			}
		}
	}
}

func TestReadPlain(t *testing.T) {
	for line, want := range map[string]bool{
		"--mem 64M --pids 1 -- ./prog --mem 3": true, "--mem=64M ./prog -x": true, "-m 64M -- p": true, "--env A=1 --env B= x -- p": true,
		"--pretty -- p": true, "": true, "--": true, "--mem -5 -- p": true,
		"--mem": false, "--pretty=true -- p": false, "-mem 1 -- p": false, "--memory 1 -- p": false, "--mem 1 --mem 2 -- p": false,
		"--nonsense -- p": false, "-h": false, "--help": false, "- x": false, "--mem 1 -m 1 -- p": false,
	} {
		args := strings.Fields(line)
		if _, _, ok := ReadPlain(args); ok != want {
			t.Errorf("%q is plain: %v", line, ok)
		}
		checkPlain(t, args)
	}
}

// What is plain, the flag library reads in the same way.
func FuzzPlain(f *testing.F) {
	f.Add("--mem\x0064M\x00--env= a \x00--\x00prog\x00--mem")
	f.Add("--best-effort\x00--keep-fd\x007\x00--keep-fd=8\x00prog\x00--")
	f.Add("-m\x00\x00--fd=\x00\x00x")
	f.Fuzz(func(t *testing.T, line string) { checkPlain(t, strings.Split(line, "\x00")) })
}

func checkPlain(t *testing.T, args []string) {
	t.Helper()
	given, program, ok := ReadPlain(args)
	if !ok {
		return
	}
	app := &cli.App{
		HideHelp: true, HideVersion: true, Flags: Run(), DisableSliceFlagSeparator: true, ErrWriter: io.Discard, Writer: io.Discard,
		ExitErrHandler: func(*cli.Context, error) {},
		Action: func(c *cli.Context) error {
			if !slices.Equal(c.Args().Slice(), program) {
				t.Errorf("%q: the program is %q, want %q", args, program, c.Args().Slice())
			}
			for _, flag := range Run() {
				name := flag.Names()[0]
				_, isList := flag.(listFlag)
				_, isSwitch := flag.(switchFlag)
				same := given.IsSet(name) == c.IsSet(name) && given.Bool(name) == c.Bool(name)
				switch {
				case isList:
					same = given.IsSet(name) == c.IsSet(name) && slices.Equal(given.StringSlice(name), c.StringSlice(name))
				case !isSwitch:
					same = given.IsSet(name) == c.IsSet(name) && given.String(name) == c.String(name)
				}
				if !same {
					t.Errorf("%q: --%s is %q", args, name, given[name])
				}
			}
			return nil
		},
	}
	if err := app.Run(append([]string{"cgshim"}, args...)); err != nil {
		t.Errorf("%q: %v", args, err)
	}
}
