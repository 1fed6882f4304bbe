package main

import (
	"reflect"
	"strings"
	"testing"

	"github.com/cgshim/cgshim/cmd/cgshim/internal/flags"
)

// Each subcommand has a help of its own, with its flags; --help may stand anywhere among its arguments.
func TestSubcommandHelp(t *testing.T) {
	usage := invoke(t, "--help").stdout
	for _, s := range subcommands {
		if !strings.Contains(usage, " "+s.name) && s.name != "run" {
			t.Errorf("cgshim --help has no %s", s.name)
		}
		for _, args := range [][]string{{s.name, "--help"}, {s.name, "-h"}, {"help", s.name}} {
			out := invoke(t, args...)
			if out.status != 0 || out.stderr != "" || out.fd3 != "" {
				t.Errorf("%q: %+v", args, out)
			}
			if s.name == "run" || s.name == "help" {
				if out.stdout != usage {
					t.Errorf("%q: %s", args, out.stdout)
				}
				continue
			}
			if !strings.HasPrefix(out.stdout, "Usage: cgshim "+s.name) || !strings.Contains(out.stdout, s.about) {
				t.Errorf("%q: %s", args, out.stdout)
			}
			for _, flag := range s.command(nil).Flags {
				if !strings.Contains(out.stdout, "\n  --"+flag.Names()[0]) {
					t.Errorf("%q: no --%s", args, flag.Names()[0])
				}
			}
		}
	}
	for _, args := range []string{"kill --signal KILL x --help", "stat x -h", "batch --jobs --help --help", "gc --parent=x --help", "version x --help"} {
		words := strings.Fields(args)
		if out := invoke(t, words...); out.status != 0 || !strings.HasPrefix(out.stdout, "Usage: cgshim "+words[0]) {
			t.Errorf("%s: %+v", args, out)
		}
	}
	if out := invoke(t, "help", "prog"); out.stdout != usage {
		t.Errorf("help prog: %+v", out)
	}
}

// What is no flag is not --help, either.
func TestNoSubcommandHelp(t *testing.T) {
	for args, mention := range map[string]string{
		"kill --bogus --help": `"--bogus"`, "ps --parent --help": `--parent "--help"`, "batch --jobs -h": `--jobs "-h"`, "stat -- --help": "--help",
		"doctor --help=1": `"--help"`, "completion --help=1": "completion --help=1: want",
	} {
		if out := invoke(t, strings.Fields(args)...); out.status != 125 || out.stdout != "" || !strings.Contains(out.stderr, mention) {
			t.Errorf("%s: %+v", args, out)
		}
	}
	for _, args := range []string{"version --bogus --help", "version -- --help", "--version --help"} {
		if out := invoke(t, strings.Fields(args)...); out.stdout != "cgshim "+version+"\n" {
			t.Errorf("%s: %+v", args, out)
		}
	}
}

// A flag that a subcommand has is one that it reads.
func TestSubcommandFlags(t *testing.T) {
	for _, s := range subcommands {
		if s.run == nil || s.flags == nil {
			continue
		}
		for _, flag := range s.flags() {
			name := flag.Names()[0]
			args := []string{"--" + name}
			if flags.KindOf(flag) != flags.Switch {
				args = append(args, map[string]string{"parent": "/x", "manager": "cgroupfs", "jobs": "7", "signal": "KILL"}[name])
			}
			c, err := parseMixed(s.name, args, s.command(nil).Flags)
			none, _ := parseMixed(s.name, nil, nil)
			if err != nil || reflect.DeepEqual(none, c) {
				t.Errorf("%s %q: %+v, %v", s.name, args, c, err)
			}
		}
	}
}
