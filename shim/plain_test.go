package shim

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Regression: under nohup, twenty tests failed, and one hung for a minute: their programs ignored SIGHUP, too.
func TestUnderNohup(t *testing.T) {
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-c", `trap "" HUP INT QUIT TERM; exec "$@"`, "sh", path, "-test.run", "^TestNoSignals$")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "PASS") {
		t.Errorf("%v: %s", err, out)
	}
}
