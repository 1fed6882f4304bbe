package main

import (
	"slices"
	"strconv"
	"strings"
)

// A flagReader returns a flag's value, and whether the flag was given.
type flagReader func(name string) (value string, given bool)

// parsedFlags reads flags that were parsed.
func parsedFlags(c flagValues) flagReader {
	return func(name string) (string, bool) { return c.String(name), c.IsSet(name) }
}

// scanFlags reads flags from arguments that are refused: the parser stops at the first bad one, and the error has to reach
// the place for the result also if that is named after it. It reads like the parser, with two guesses more:
//
// An unknown flag may or may not have a value. A word after it is one if "--" comes later, which makes it likely that flags
// are still to come; without, the word is the program: in "cgshim --pritty cc --output a.o" the file is not ours.
//
// A known flag lacks its value where "--" or a known flag follows: in "cgshim --mem --fd 3 -- prog" the result goes to 3.
func scanFlags(args []string) flagReader {
	if end := slices.Index(args, "--"); end >= 0 {
		return scanBefore(args[:end], true)
	}
	return scanBefore(args, false)
}

// scanBefore reads the arguments before "--", if that comes after them.
func scanBefore(args []string, more bool) flagReader {
	given := map[string]string{}
	for i := 0; i < len(args); i++ {
		flag := splitFlag(args[i])
		if !flag.dashed {
			break // the program
		}
		if i+1 < len(args) && !flag.hasValue {
			next := splitFlag(args[i+1])
			switch {
			case flag.known && flag.takesValue && !next.known, !flag.known && more && !next.dashed:
				i++
				flag.value, flag.hasValue = args[i], true
			}
		}
		if flag.hasValue || !flag.takesValue {
			given[flag.name] = flag.value
		}
	}
	return func(name string) (string, bool) {
		value, ok := given[name]
		return value, ok
	}
}

// A scannedFlag is what an argument is, seen by itself.
type scannedFlag struct {
	name, value       string
	dashed, hasValue  bool // "-x", "-x=value"
	known, takesValue bool
}

func splitFlag(arg string) (f scannedFlag) {
	text, dashed := strings.CutPrefix(arg, "-")
	if f.dashed = dashed && text != ""; !f.dashed {
		return f
	}
	f.name, f.value, f.hasValue = strings.Cut(strings.TrimPrefix(text, "-"), "=")
	f.known, f.takesValue = lookupFlag(f.name)
	return f
}

// isOn says whether a flag without a value is given, and not as --flag=false.
func (read flagReader) isOn(name string) bool {
	value, given := read(name)
	on, err := strconv.ParseBool(value)
	return given && (value == "" || err == nil && on)
}

func lookupFlag(name string) (known, takesValue bool) {
	for _, f := range flags() {
		if slices.Contains(f.Names(), name) {
			_, isBool := f.(onFlag)
			return true, !isBool
		}
	}
	return false, false
}
