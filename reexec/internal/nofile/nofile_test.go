// An external test package: were this part of package nofile, its imports would be nofile's, and nofile
// be initialised after them.
package nofile_test

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/cgshim/cgshim/reexec/internal/nofile"
)

const helperEnv = "NOFILE_TEST_HELPER"

func TestMain(m *testing.M) {
	if os.Getenv(helperEnv) != "" {
		var now syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &now); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		fmt.Println(nofile.Known, nofile.Original[0], nofile.Original[1], now.Cur, now.Max)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// The value is that from before syscall.init, which raises the soft limit: the initialisation order on
// which this package rests holds.
func TestOriginalLimit(t *testing.T) {
	var own syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &own); err != nil {
		t.Fatal(err)
	}
	if own.Max <= 512 {
		t.Skip("requires nofile_above_512")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-c", `ulimit -Sn 512; exec "$0"`, exe)
	cmd.Env = append(os.Environ(), helperEnv+"=1", "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var known bool
	var soft, hard, softNow, hardNow uint64
	if _, err := fmt.Sscan(string(out), &known, &soft, &hard, &softNow, &hardNow); err != nil {
		t.Fatalf("the helper wrote %q: %v", out, err)
	}
	if softNow == 512 {
		t.Fatal("package syscall does not raise the soft limit any more: this test can't fail, and this package is not needed")
	}
	if !known || soft != 512 || hard != hardNow {
		t.Errorf("Original = %d, %d (known: %v), want 512, %d", soft, hard, known, hardNow)
	}
}
