package deliver

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cmd/cgshim/internal/flags"
)

// inheritable is a pipe as a caller's would be: without close-on-exec. The test closes neither end, and lets no os.File do it: a
// number that is closed twice is another test's by then.
func inheritable(t *testing.T, flags int) (r, w int) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], flags); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Close(p[0])
		unix.Close(p[1])
	})
	return p[0], p[1]
}

func TestCheckFD(t *testing.T) {
	r, w := inheritable(t, 0)
	if err := checkFD(w); err != nil {
		t.Errorf("a pipe's writing end: %v", err)
	}
	if flags, err := unix.FcntlInt(uintptr(w), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("the program would inherit the descriptor: flags %#x, %v", flags, err)
	}
	if err := checkFD(r); err == nil || !strings.Contains(err.Error(), "writing") {
		t.Errorf("a pipe's reading end: %v", err)
	}
	_, own := inheritable(t, unix.O_CLOEXEC)
	if err := checkFD(own); err == nil {
		t.Error("a descriptor of our own, which nobody gave us, is accepted")
	}
	for name, flags := range map[string]int{"read-only": unix.O_RDONLY, "O_PATH": unix.O_PATH} {
		fd, err := unix.Open("/dev/null", flags, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkFD(fd); err == nil {
			t.Errorf("%s is accepted", name)
		}
		unix.Close(fd)
	}
	for name, flags := range map[string]int{"write-only": unix.O_WRONLY, "read-write": unix.O_RDWR} {
		fd, err := unix.Open("/dev/null", flags, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkFD(fd); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		unix.Close(fd)
	}
	for _, closed := range []int{1 << 20, 1<<31 - 1} {
		if err := checkFD(closed); err == nil || !strings.Contains(err.Error(), "not open") {
			t.Errorf("descriptor %d: %v", closed, err)
		}
	}
}

func TestOpenSink(t *testing.T) {
	_, w := inheritable(t, 0)
	moved, err := unix.FcntlInt(uintptr(w), unix.F_DUPFD, 50)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(moved)
	if moved != 50 {
		t.Fatalf("descriptor 50 is in use: %d", moved)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "result")
	for _, test := range []struct {
		variable, args string
		want           sink
		mention        string // "" for success
	}{
		{"", "prog", stderr, ""},
		{"", "--fd 1 prog", sink{fd: 1}, ""},
		{"", "--fd 2 prog", stderr, ""},
		{"", "--output " + file + " prog", sink{path: file, name: "result"}, ""},
		{"1", "prog", sink{fd: 1}, ""},
		{"77", "--fd 1 prog", sink{fd: 1}, ""},
		{"77", "prog", stderr, "$CGSHIM_FD"},
		{"x", "prog", stderr, "$CGSHIM_FD"},
		{"", "--fd 77 prog", stderr, "--fd"},
		{"", "--fd x prog", stderr, "--fd"},
		{"", "--fd -1 prog", stderr, "--fd"},
		{"", "--fd= prog", stderr, "--fd"},
		{"", "--fd 99999999999999999999 prog", stderr, "--fd"},
		{"", "--fd 4294967297 prog", stderr, "--fd"}, // 1, if only 32 bits count
		{"", "--output " + dir + " prog", stderr, "--output"},
		{"", "--output " + file + "/x/y prog", stderr, "--output"},
		{"", "--output " + dir + "/none/x prog", stderr, "--output"},
		{"", "--output= prog", stderr, "--output"},
		{"", "--fd 50 prog", sink{fd: 50}, ""},
	} {
		if test.variable != "" {
			t.Setenv(flags.FDVariable, test.variable)
		} else {
			t.Setenv(flags.FDVariable, "") // remembers it, for the end of the test
			_ = os.Unsetenv(flags.FDVariable)
		}
		got, err := openSink(flags.Scan(strings.Fields(test.args)))
		if got.path != "" {
			unix.Close(got.fd)
			got.fd = 0
		}
		if got != test.want || (err == nil) != (test.mention == "") {
			t.Errorf("%s=%s %s: %+v, %v, want %+v", flags.FDVariable, test.variable, test.args, got, err, test.want)
		} else if err != nil && !strings.Contains(err.Error(), test.mention) {
			t.Errorf("%s: %v does not mention %s", test.args, err, test.mention)
		}
	}
	// Checking leaves nothing: a run that is refused later must not have touched the file.
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("%v, %v", entries, err)
	}
}
