package main

import (
	"slices"
	"strconv"
	"strings"
	"testing"

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
	for _, seed := range []string{"--fd 3 -- x", "--bogus --fd 3 prog --output f", "--fd=3 -- --fd 4", "-- --output x", "--mem", "- --fd 1", "--env A --fd 2"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		const secret = "behind-the-program"
		args := strings.Fields(line)
		for _, end := range [][]string{{"--", "prog"}, {"--pretty", "prog"}} {
			if slices.Contains(args, "--") && end[0] != "--" {
				continue
			}
			all := slices.Concat(args, end, []string{"--output", secret, "--fd=" + secret})
			read := scanFlags(all)
			for _, name := range []string{"output", "fd"} {
				if value, _ := read(name); value == secret && end[0] == "--" {
					t.Errorf("%q: --%s is the program's", all, name)
				}
			}
		}
	})
}
