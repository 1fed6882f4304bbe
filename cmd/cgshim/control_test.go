package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cmd/cgshim/internal/flags"
	"github.com/cgshim/cgshim/shim"
)

func TestParseControl(t *testing.T) {
	list := []cli.Flag{
		flags.NewSwitch("", "json", "x"), flags.NewList("", "parent", "CGROUP", "x"), flags.NewText("", "signal", "SIGNAL", "x"), flags.Help(),
	}
	for _, test := range []struct {
		args string
		want control
	}{
		{"", control{signal: unix.SIGTERM}},
		{"a --json b", control{json: true, signal: unix.SIGTERM, names: []string{"a", "b"}}},
		{"--parent /x --parent=/y a", control{parents: []string{"/x", "/y"}, signal: unix.SIGTERM, names: []string{"a"}}},
		{"--signal 9", control{signal: unix.SIGKILL}},
		{"--signal=usr1", control{signal: unix.SIGUSR1}},
		{"--signal SIGHUP", control{signal: unix.SIGHUP}},
		{"-- --json", control{signal: unix.SIGTERM, names: []string{"--json"}}},
	} {
		c, err := parseMixed("x", strings.Fields(test.args), list)
		if err != nil {
			t.Errorf("%q: %v", test.args, err)
			continue
		}
		if c.json != test.want.json || c.signal != test.want.signal || !slices.Equal(c.parents, test.want.parents) || !slices.Equal(c.names, test.want.names) {
			t.Errorf("%q: %+v, want %+v", test.args, *c, test.want)
		}
	}
	for args, want := range map[string]string{
		"--all":          `"--all": no such flag; there is --json, --parent, --signal`,
		"--help=1":       `"--help": no such flag; there is --json, --parent, --signal`,
		"-j":             `"-j"`,
		"--json x -p":    `"-p"`,
		"--json=no":      "takes no value",
		"--parent":       "no value",
		"--parent x":     `"x"`,
		"--signal":       "no value",
		"--signal SEGV":  "HUP, INT, KILL",
		"--signal 0":     "HUP, INT, KILL",
		"--signal KILLX": "HUP, INT, KILL",
		"--signal=":      "HUP, INT, KILL",
	} {
		if c, err := parseMixed("x", strings.Fields(args), list); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v, want an error about %s", args, c, err, want)
		}
	}
	if _, err := parseMixed("x", []string{"--signal", "TERM"}, list[1:2]); err == nil {
		t.Error("a flag of another subcommand was taken")
	}
}

func TestPrintable(t *testing.T) {
	for word, want := range map[string]string{
		"./prog": "./prog", "é": "é", "--a=b:c": "--a=b:c",
		"": `""`, "a b": `"a b"`, "\x1b[2J": `"\x1b[2J"`, "a\nb": `"a\nb"`, "\xff": `"\xff"`, `a"b`: `"a\"b"`, "\u202e": `"\u202e"`,
	} {
		if got := printable(word); got != want {
			t.Errorf("%q: %s, want %s", word, got, want)
		}
	}
	if got := commandLine(nil); got != "-" {
		t.Errorf("no command: %q", got)
	}
}

func TestElapsed(t *testing.T) {
	seconds := func(s float64) *shim.Seconds { v := shim.Seconds(s); return &v }
	for want, s := range map[string]*shim.Seconds{"-": nil, "0s": seconds(0), "1.235s": seconds(1.2346), "1h1m1s": seconds(3661.4)} {
		if got := elapsed(s); got != want {
			t.Errorf("%v: %q, want %q", s, got, want)
		}
	}
}
