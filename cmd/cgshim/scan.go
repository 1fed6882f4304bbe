package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// A flagReader returns a flag's value, and whether the flag was given.
type flagReader func(name string) (value string, given bool)

// parsedFlags reads flags from the flag parser.
func parsedFlags(c *cli.Context) flagReader {
	return func(name string) (string, bool) { return c.String(name), c.IsSet(name) }
}

// scanFlags reads flags from arguments that the parser has refused: it stops at the first bad one, and
// the error has to reach a result descriptor that is named after it, too.
//
// An unknown flag may or may not have a value. What follows it is taken for one only if a "--" comes
// later, which makes it likely that flags are still to come; and even then --output is not obeyed any
// more: in "cgshim --memroy 64M cc --output a.o" the file is the program's.
func scanFlags(args []string) flagReader {
	end := slices.Index(args, "--")
	unsure := false
	given := map[string]string{}
	for i := 0; i < len(args) && i != end; i++ {
		text, dashed := strings.CutPrefix(args[i], "-")
		if !dashed || text == "" {
			break // the program
		}
		name, value, hasValue := strings.Cut(strings.TrimPrefix(text, "-"), "=")
		known, takesValue := lookupFlag(name)
		next := i + 1
		hasNext := next < len(args) && next != end
		switch {
		case hasValue || known && !takesValue:
		case known && hasNext:
			value, i = args[next], next
		case known:
			continue // its value is missing
		case end > next && !strings.HasPrefix(args[next], "-"):
			i, unsure = next, true
		}
		if name != "output" || !unsure {
			given[name] = value
		}
	}
	return func(name string) (string, bool) {
		value, ok := given[name]
		return value, ok
	}
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
