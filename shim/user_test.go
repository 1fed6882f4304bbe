package shim

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/internal/testpipe"
)

const nobody = 65534

func requireRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("requires root")
	}
}

func TestUserEnvironment(t *testing.T) {
	t.Setenv("HOME", "/callers")
	t.Setenv("USER", "caller")
	for name, test := range map[string]struct {
		cfg  Config
		want []string
	}{
		"caller":         {Config{}, []string{"HOME=/callers", "USER=caller"}},
		"user":           {Config{User: &User{UID: 7, Name: "seven", Home: "/home/7"}}, []string{"HOME=/home/7", "USER=seven", "LOGNAME=seven"}},
		"without a name": {Config{User: &User{UID: 7}}, []string{"HOME=/", "USER=7", "LOGNAME=7"}},
		"kept":           {Config{User: &User{UID: 7}, KeepEnv: true}, []string{"HOME=/callers", "USER=caller"}},
		"given":          {Config{User: &User{UID: 7}, Env: []string{"HOME=/x"}}, []string{"HOME=/x"}},
		"empty":          {Config{User: &User{UID: 7}, Env: []string{}}, nil},
	} {
		got := slices.DeleteFunc(test.cfg.environment(), func(kv string) bool {
			key, _, _ := strings.Cut(kv, "=")
			return key == "LOGNAME" && name == "caller" || key == "LOGNAME" && name == "kept" || !slices.Contains([]string{"HOME", "USER", "LOGNAME"}, key)
		})
		slices.Sort(got)
		slices.Sort(test.want)
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

func TestMayOpen(t *testing.T) {
	for _, test := range []struct {
		user     User
		uid, gid uint32
		mode     uint32
		read     bool
		write    bool
	}{
		{User{UID: 1, GID: 2}, 0, 0, 0o600, false, false},
		{User{UID: 1, GID: 2}, 1, 0, 0o600, true, true},
		{User{UID: 1, GID: 2}, 1, 2, 0o077, false, false}, // an owner is nobody else
		{User{UID: 1, GID: 2}, 0, 2, 0o620, false, true},
		{User{UID: 1, GID: 2}, 0, 2, 0o640, true, false},
		{User{UID: 1, GID: 2}, 0, 2, 0o607, false, false},
		{User{UID: 1, GID: 2, Groups: []uint32{3}}, 0, 3, 0o640, true, false},
		{User{UID: 1, GID: 2}, 0, 3, 0o644, true, false},
		{User{UID: 1, GID: 2}, 0, 3, 0o662, false, true},
		{User{UID: 0, GID: 0}, 5, 5, 0, true, true},
	} {
		st := &unix.Stat_t{Uid: test.uid, Gid: test.gid, Mode: unix.S_IFIFO | test.mode}
		if read, write := test.user.mayOpen(st, groupReads), test.user.mayOpen(st, groupWrites); read != test.read || write != test.write {
			t.Errorf("%+v of a file of %d:%d, %o: %v, %v", test.user, test.uid, test.gid, test.mode, read, write)
		}
	}
}

// modeOf is a file's mode, and its group.
func modeOf(t *testing.T, file *os.File) [2]uint32 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return [2]uint32{st.Mode & 0o7777, st.Gid}
}

// shared are the modes of files that a user's program has as its descriptors.
func shared(t *testing.T, cfg *Config) (modes [3][2]uint32) {
	t.Helper()
	res := resourcesOf(cfg)
	stdio := cfg.stdio()
	res.shareStdio(&stdio)
	for i, file := range []*os.File{cfg.Stdin, cfg.Stdout, cfg.Stderr} {
		modes[i] = modeOf(t, file)
	}
	res.release()
	return modes
}

func TestShareStdio(t *testing.T) {
	requireRoot(t)
	gid, who := uint32(nobody), &User{UID: nobody, GID: nobody}
	in, feed := testpipe.New(t)
	out, sink := testpipe.New(t)
	_, errs := testpipe.New(t)
	closed := [2]uint32{0o600, 0}
	if got := shared(t, &Config{Stdin: in, Stdout: sink, Stderr: errs}); got != [3][2]uint32{closed, closed, closed} {
		t.Errorf("without a user: %o", got)
	}
	if got := shared(t, &Config{Stdin: in, Stdout: sink, Stderr: errs, User: &User{UID: 0}}); got != [3][2]uint32{closed, closed, closed} {
		t.Errorf("as root: %o", got)
	}
	// Results go to standard error: also by another descriptor of it.
	result, err := unix.Dup(int(errs.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(result)
	got := shared(t, &Config{Stdin: in, Stdout: sink, Stderr: errs, User: who, ResultFDs: []int{result}})
	if want := [3][2]uint32{{0o640, gid}, {0o620, gid}, closed}; got != want {
		t.Errorf("%o, want %o", got, want)
	}
	// It stays so, for both ends.
	if modeOf(t, feed) != [2]uint32{0o640, gid} || modeOf(t, out) != [2]uint32{0o620, gid} {
		t.Errorf("afterwards %o and %o", modeOf(t, feed), modeOf(t, out))
	}
	// A pipeline of one user's programs: what the first can do stays. Of another user's, it does not.
	if got = shared(t, &Config{Stdin: out, Stdout: errs, Stderr: errs, User: who}); got[0] != [2]uint32{0o660, gid} {
		t.Errorf("the second of a pipeline: %o", got)
	}
	if got = shared(t, &Config{Stdin: out, Stdout: errs, Stderr: errs, User: &User{UID: 1, GID: 1}}); got != [3][2]uint32{{0o640, 1}, {0o620, 1}, {0o620, 1}} {
		t.Errorf("as another user: %o", got)
	}
}

// A file that was made for the run is the user's to open as long as that lasts. Files of the caller's, and FIFOs with a name, are not.
func TestShareFiles(t *testing.T) {
	requireRoot(t)
	create := func(name string, mode os.FileMode) *os.File {
		t.Helper()
		file, err := os.Create(filepath.Join(t.TempDir(), name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { file.Close() })
		if err := file.Chmod(mode); err != nil {
			t.Fatal(err)
		}
		return file
	}
	made, callers := create("made", 0o640), create("callers", 0o640)
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	fifo, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer fifo.Close()
	cfg := &Config{Stdin: fifo, Stdout: made, Stderr: callers, User: &User{UID: nobody, GID: nobody}, MadeFiles: []*os.File{nil, made}}
	if got, want := shared(t, cfg), [3][2]uint32{{0o600, 0}, {0o620, nobody}, {0o640, 0}}; got != want {
		t.Errorf("%o, want %o", got, want)
	}
	if got := modeOf(t, made); got != [2]uint32{0o640, 0} {
		t.Errorf("afterwards %o", got)
	}
	cfg.Stdout, cfg.Stderr = callers, callers // the limited output of a file: the program has something else
	if got := shared(t, cfg); got[1] != [2]uint32{0o640, 0} || modeOf(t, made) != [2]uint32{0o640, 0} {
		t.Errorf("%o", got)
	}
}

// A pipe of the caller's is there for the program to open, once it runs.
func TestSharedPipe(t *testing.T) {
	requireRoot(t)
	parent := newParent(t)
	r, w := testpipe.New(t)
	cfg := shell(parent, "echo through >/proc/self/fd/1")
	cfg.Stdout, cfg.User = w, &User{UID: nobody, GID: nobody}
	if res := mustRun(t, cfg); res.Verdict != OK {
		t.Errorf("%s", res.JSON(false))
	}
	w.Close()
	text := make([]byte, 16)
	if n, _ := r.Read(text); string(text[:n]) != "through\n" {
		t.Errorf("%q", text[:n])
	}
}
