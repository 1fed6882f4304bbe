package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cgshim/cgshim/internal/limits"
)

// page is a document of the tree.
func page(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../..", name))
	if err != nil {
		t.Skip("requires go toolchain: the sources: ", err)
	}
	return string(text)
}

// Every limit of the table is wherever a user looks for it. README.md and the other flags have their test in tests/readme.bats, and what
// is in a result and in the schema in shim.
func TestLimitNames(t *testing.T) {
	places := map[string]string{
		"--help": invoke(t, "--help").stdout, "cgshim.1": page(t, "docs/cgshim.1"), "cgshim-result.5": page(t, "docs/cgshim-result.5"),
		"flags.md": page(t, "docs/flags.md"), "README.md": page(t, "README.md"),
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		places[shell] = invoke(t, "completion", shell).stdout
	}
	for i := range limits.All {
		l := &limits.All[i]
		for place, pattern := range map[string]string{
			"--help": `(?m)^  --` + l.Flag + ` `, "cgshim.1": `(?m)^\.It Fl -` + l.Flag + `\b`, "flags.md": "(?m)^\\| `--" + l.Flag + "` \\|",
			"README.md": "`--" + l.Flag + `\b`, "bash": `[ "']--` + l.Flag + `[ "')]`, "zsh": `--` + l.Flag + `\b`, "fish": ` -l ` + l.Flag + ` `,
			"cgshim-result.5": `(?m)^\.It Cm (.* , )?` + l.Key + `( , .*)?$`,
		} {
			if !regexp.MustCompile(pattern).MatchString(places[place]) {
				t.Errorf("%s: no --%s: nothing is like %s", place, l.Flag, pattern)
			}
		}
	}

	_, section, _ := strings.Cut(places["--help"], "\nLimits:\n")
	section, _, _ = strings.Cut(section, "\n\n")
	for _, flag := range regexp.MustCompile(`(?m)^  --([a-z-]+)`).FindAllStringSubmatch(section, -1) {
		if !slices.ContainsFunc(limits.All[:], func(l limits.Limit) bool { return l.Flag == flag[1] }) {
			t.Errorf("--%s is a limit, and internal/limits has no line for it", flag[1])
		}
	}

	// The manual lists the names in enforced, and then those in limits_hit.
	lists := regexp.MustCompile(`The names are\n\.Cm (.*) \.\n`).FindAllStringSubmatch(places["cgshim-result.5"], -1)
	if len(lists) != 2 {
		t.Fatalf("cgshim-result.5 has %d lists of names", len(lists))
	}
	for i, want := range [][]string{
		limits.Names(func(l *limits.Limit) []string { return []string{l.Enforced} }),
		limits.Names(func(l *limits.Limit) []string { return l.Hits }),
	} {
		if got := strings.Split(lists[i][1], " , "); !slices.Equal(got, want) {
			t.Errorf("cgshim-result.5: %q, want %q", got, want)
		}
	}
}
