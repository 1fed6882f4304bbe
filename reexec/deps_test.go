package reexec

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// A stage runs before the rest of the binary is initialised only as long as this package imports nothing
// that sorts or depends later: every package more is start-up time of every run.
func TestDependencies(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("requires go toolchain")
	}
	if _, err := os.Stat("doc.go"); err != nil {
		t.Skip("requires go toolchain") // and the sources
	}
	const path = "github.com/cgshim/cgshim/reexec"
	want := append(deps(t, "syscall"), path, path+"/internal/nofile")
	slices.Sort(want)
	if got := deps(t, path); !slices.Equal(got, want) {
		t.Errorf("dependencies are\n%q, want\n%q", got, want)
	}
}

func deps(t *testing.T, path string) []string {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", path)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%q: %v", cmd.Args, err)
	}
	list := strings.Fields(string(out))
	slices.Sort(list)
	return list
}
