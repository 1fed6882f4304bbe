package flags

import (
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/cgshim/cgshim/reexec"
	"github.com/cgshim/cgshim/shim"
)

// What is accepted is what its name says, and the same when it is written as numbers.
func FuzzParseUlimit(f *testing.F) {
	for _, seed := range []string{"nofile=1024:2048", "stack=8M", "core=unlimited", "as=-1", "nofile=2:1", "cpu=", "=1", "x=1", "nice=-2", "rss=1:unlimited"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		limit, err := parseUlimit(value)
		if err != nil {
			return
		}
		name := shim.RlimitNames()[limit.Resource]
		if !strings.HasPrefix(value, name+"=") || limit.Soft > limit.Hard {
			t.Errorf("%q is %s %+v", value, name, limit)
		}
		if again, err := parseUlimit(formatUlimit(limit)); limit.Hard < 1<<53 && (err != nil || again != limit) {
			t.Errorf("%q is %+v, and %q %+v, %v", value, limit, formatUlimit(limit), again, err)
		}
		if err := (&shim.Config{Args: []string{"x"}, Rlimits: []reexec.Rlimit{limit}}).Validate(); err != nil {
			t.Errorf("%q is refused later: %v", value, err)
		}
	})
}

func formatUlimit(l reexec.Rlimit) string {
	return shim.RlimitNames()[l.Resource] + "=" + strconv.FormatUint(l.Soft, 10) + ":" + strconv.FormatUint(l.Hard, 10)
}

func FuzzParseDeviceRate(f *testing.F) {
	for _, seed := range []string{"/dev/null:1M", "/dev/disk/by-path/pci-0:00:1", ":1", "a:", "/dev/null:-1", "\x00:1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		d, err := parseDeviceRate(value, parsePositiveSize)
		if err == nil && (d.rate == 0 || !strings.Contains(value, ":")) {
			t.Errorf("%q is %+v", value, d)
		}
	})
}

// Names become directories, and are shown in tables.
func FuzzCheckName(f *testing.F) {
	for _, seed := range []string{"a", "run-1", "..", ".", "a/b", "", "-x", "a\x00", "ä", strings.Repeat("x", 300)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if shim.CheckName(name) != nil {
			return
		}
		if name == "" || len(name) > 200 || strings.ContainsAny(name, "/\x00\n\t \"") || strings.Trim(name, ".") == "" || name[0] == '-' {
			t.Errorf("%q is accepted", name)
		}
	})
}

// Whatever is wrong with a command line, nothing that follows "--" or PROG says where the result goes.
func FuzzScanFlags(f *testing.F) {
	for _, seed := range []string{"--fd 3 -- x", "--bogus --fd 3 prog --output f", "--fd=3 -- --fd 4", "-- --output x", "--mem", "- --fd 1", "--env A --fd 2", "--mem --fd 3"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		const secret = "behind-the-program"
		args := strings.Fields(line)
		all := slices.Concat(args, []string{"--", "prog", "--output", secret, "--fd=" + secret})
		read := Scan(all)
		for _, name := range []string{"output", "fd"} {
			if value, _ := read(name); value == secret {
				t.Errorf("%q: --%s is the program's", all, name)
			}
		}
	})
}

// What is read from a command line that is right is what the parser reads. With an unknown flag put in anywhere, with a value
// or without, it is the same still.
func FuzzScanFlagsRight(f *testing.F) {
	for _, seed := range []string{"--fd 3", "--output=f --pretty", "-m 1 --env A=1", "--env -1 --env= --stdin - --fd=", "--output a --output b --clear-env", "--wall-time=-1s -fd 4"} {
		f.Add(seed, uint(1))
	}
	f.Fuzz(func(t *testing.T, line string, at uint) {
		args := strings.Fields(line)
		parsed := map[string]string{}
		var rest []string
		app := &cli.App{
			Flags: Run(), HideHelp: true, DisableSliceFlagSeparator: true, Writer: io.Discard, ErrWriter: io.Discard,
			OnUsageError: func(_ *cli.Context, err error, _ bool) error { return err },
			Action: func(c *cli.Context) error {
				for _, name := range []string{"output", "fd"} {
					if c.IsSet(name) {
						parsed[name] = c.String(name)
					}
				}
				rest = c.Args().Slice()
				return nil
			},
		}
		lacking := func(arg string) bool { return splitFlag(arg).known && strings.HasPrefix(arg, "-") }
		if err := app.Run(slices.Concat([]string{"cgshim"}, args, []string{"--", "prog"})); err != nil || !slices.Equal(rest, []string{"prog"}) {
			return
		}
		var starts []int // of the flags
		for i := 0; i < len(args); i++ {
			starts = append(starts, i)
			if flag := splitFlag(args[i]); flag.takesValue && !flag.hasValue {
				if i++; i == len(args) || args[i] == "--" || lacking(args[i]) {
					return // the parser takes for a value what is none
				}
			}
		}
		starts = append(starts, len(args))
		i := starts[int(at%uint(len(starts)))]
		for _, unknown := range [][]string{nil, {"--bogus"}, {"-bogus=1"}, {"--bogus", "1"}, {"--bogus", "1", "-x"}} {
			all := slices.Concat(args[:i], unknown, args[i:], []string{"--", "prog", "--fd", "9"})
			read := Scan(all)
			for _, name := range []string{"output", "fd"} {
				want, wantGiven := parsed[name]
				if value, given := read(name); value != want || given != wantGiven {
					t.Errorf("%q: --%s is %q, %v, want %q, %v", all, name, value, given, want, wantGiven)
				}
			}
		}
	})
}

// What goes in as bytes comes out as the same bytes, whichever flag and form it is.
func FuzzFlagBytes(f *testing.F) {
	for _, seed := range []string{"A= x ", "\t", "\xff", "a,b", "--fd", "-", "=", "sl:::", "\u2003A=1\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		for _, flag := range Run() {
			if _, isBool := flag.(switchFlag); isBool {
				continue
			}
			name := flag.Names()[0]
			for _, args := range [][]string{{"--" + name, value, "--", value}, {"-" + name + "=" + value, "--", value}} {
				if got, rest := flagValue(t, flag, args); !slices.Equal(got, []string{value}) || !slices.Equal(rest, []string{value}) {
					t.Errorf("%q: %q and %q", args, got, rest)
				}
			}
		}
	})
}
