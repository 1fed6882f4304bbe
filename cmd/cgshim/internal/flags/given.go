package flags

// Values are the flags that were given, on a command line or in a request. A flag is known by its first name.
type Values interface {
	// IsSet reports whether the flag was given.
	IsSet(name string) bool
	// String returns a flag's value.
	String(name string) string
	// StringSlice returns the values of a flag that can be repeated.
	StringSlice(name string) []string
	// Bool reports whether a switch is on.
	Bool(name string) bool
}

// Given are Values by their first names. A switch that is on has any value.
type Given map[string][]string

// IsSet implements Values.
func (g Given) IsSet(name string) bool { return len(g[name]) > 0 }

// String implements Values.
func (g Given) String(name string) string {
	if len(g[name]) == 0 {
		return ""
	}
	return g[name][0]
}

// StringSlice implements Values.
func (g Given) StringSlice(name string) []string { return g[name] }

// Bool implements Values.
func (g Given) Bool(name string) bool { return g.IsSet(name) }
