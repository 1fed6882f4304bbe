package flags

import "strings"

// A command line is plain if the flag library would certainly read it in the same way: --flag VALUE, --flag=VALUE and switches, each
// flag by its first name (or -m), and once unless it can be repeated. All others are left to the library, mistakes included.

// plainKind returns the kind of a run's flag. It does not ask Run, which takes too long; a test compares the two.
func plainKind(name string) Kind {
	switch name {
	case "mem", "swap", "mem-high", "pids", "cpus", "cpu-weight", "cpu-shares", "cpuset-cpus", "cpuset-mems", "cpu-time", "wall-time",
		"grace", "output-limit", "net", "shield", "chdir", "stdin", "stdout", "stderr", "user", "oom-score-adj", "fd", "output", "sample", "name", "parent",
		"manager", "stop-timeout", "alive-fd":
		return Text
	case "device-read-bps", "device-write-bps", "device-read-iops", "device-write-iops", "ulimit", "fs-ro", "fs-rw", "env", "keep-fd":
		return List
	case "fs-system", "clear-env", "keep-env", "allow-new-privs", "pretty", "events", "nest", "best-effort", "wait-all", "die-with-caller":
		return Switch
	}
	return Unknown
}

// ReadPlain reads a plain command line: its flags, and the program with its arguments. If ok is false, the command line is not plain,
// and has to be read by the flag library.
func ReadPlain(args []string) (given Given, program []string, ok bool) {
	given = Given{}
	for len(args) > 0 && args[0] != "--" {
		name, value, hasValue := strings.Cut(args[0], "=")
		if name == "-m" {
			name = "--mem"
		}
		name, dashed := strings.CutPrefix(name, "--")
		if !dashed {
			return given, args, !strings.HasPrefix(args[0], "-")
		}
		kind := plainKind(name)
		args = args[1:]
		switch {
		case kind == Unknown, kind == Switch && hasValue, kind != List && given.IsSet(name):
			return nil, nil, false
		case kind != Switch && !hasValue:
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
