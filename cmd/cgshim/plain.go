package main

import "strings"

// A plain command line is read without the flag library, which takes a twentieth of a short run to get ready. Plain is what
// it would read in the same way without a doubt: --flag VALUE, --flag=VALUE and switches, each flag by its first name (or
// -m), and once unless it can be repeated. Everything else is left to it, mistakes too.

// plainKind is how a flag is given.
type plainKind int

const (
	notPlain plainKind = iota
	plainText
	plainList
	plainSwitch
)

// plainFlag knows the flags of flags(), which takes too long to make; a test holds the two against each other.
func plainFlag(name string) plainKind {
	switch name {
	case "mem", "swap", "pids", "cpus", "cpu-weight", "cpu-shares", "cpuset-cpus", "cpuset-mems", "cpu-time", "wall-time", "grace",
		"output-limit", "net", "chdir", "stdin", "stdout", "stderr", "user", "oom-score-adj", "fd", "output", "sample", "name", "parent",
		"manager", "stop-timeout":
		return plainText
	case "device-read-bps", "device-write-bps", "device-read-iops", "device-write-iops", "ulimit", "env", "keep-fd":
		return plainList
	case "clear-env", "allow-new-privs", "pretty", "events", "nest", "best-effort", "wait-all":
		return plainSwitch
	}
	return notPlain
}

// readPlain reads a plain command line: its flags, and the program with its arguments.
func readPlain(args []string) (given givenFlags, program []string, ok bool) {
	given = givenFlags{}
	for len(args) > 0 && args[0] != "--" {
		name, value, hasValue := strings.Cut(args[0], "=")
		if name == "-m" {
			name = "--mem"
		}
		name, dashed := strings.CutPrefix(name, "--")
		if !dashed {
			return given, args, !strings.HasPrefix(args[0], "-")
		}
		kind := plainFlag(name)
		args = args[1:]
		switch {
		case kind == notPlain, kind == plainSwitch && hasValue, kind != plainList && given.IsSet(name):
			return nil, nil, false
		case kind != plainSwitch && !hasValue:
			if len(args) == 0 {
				return nil, nil, false
			}
			value, args = args[0], args[1:]
		}
		given[name] = append(given[name], value)
	}
	if len(args) > 0 {
		args = args[1:]
	}
	return given, args, true
}
