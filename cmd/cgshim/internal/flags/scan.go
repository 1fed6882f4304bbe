package flags

import (
	"slices"
	"strconv"
	"strings"
)

// A Reader returns a flag's value, and whether the flag was given.
type Reader func(name string) (value string, given bool)

// Read returns a Reader of Values.
func Read(v Values) Reader {
	return func(name string) (string, bool) { return v.String(name), v.IsSet(name) }
}

// IsOn reports whether a switch is given, and not as --flag=false.
func (read Reader) IsOn(name string) bool {
	value, given := read(name)
	on, err := strconv.ParseBool(value)
	return given && (value == "" || err == nil && on)
}

// Without returns a Reader that lacks one flag.
func (read Reader) Without(name string) Reader {
	return func(asked string) (string, bool) {
		if asked == name {
			return "", false
		}
		return read(asked)
	}
}

// Scan reads the flags of a command line that is refused. The flag library stops at the first bad flag, but the error has to reach
// the place for the result also if a later flag names it. Scan reads like the library, and guesses twice:
//
// An unknown flag may or may not have a value. The word after it is taken for its value if "--" comes later, because then more
// flags are likely to follow. If there is no "--", the word is the program: in "cgshim --pritty cc --output a.o" the file is cc's.
//
// A known flag lacks its value if "--" or a known flag follows: in "cgshim --mem --fd 3 -- prog" the result goes to 3.
func Scan(args []string) Reader {
	if end := slices.Index(args, "--"); end >= 0 {
		return scanBefore(args[:end], true)
	}
	return scanBefore(args, false)
}

// scanBefore reads flags until the program. If more is true, "--" comes after args.
func scanBefore(args []string, more bool) Reader {
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

// A scannedFlag is an argument, looked at without its neighbours.
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

func lookupFlag(name string) (known, takesValue bool) {
	for _, f := range Run() {
		if slices.Contains(f.Names(), name) {
			return true, KindOf(f) != Switch
		}
	}
	return false, false
}
