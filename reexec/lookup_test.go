package reexec

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCutColon(t *testing.T) {
	for _, c := range []struct {
		in, before, after string
		found             bool
	}{
		{"", "", "", false},
		{"a", "a", "", false},
		{":", "", "", true},
		{"a:", "a", "", true},
		{":a", "", "a", true},
		{"a:b:c", "a", "b:c", true},
	} {
		if before, after, found := cutColon(c.in); before != c.before || after != c.after || found != c.found {
			t.Errorf("cutColon(%q) = %q, %q, %v", c.in, before, after, found)
		}
	}
}

func TestPathOf(t *testing.T) {
	const byDefault = "/bin:/usr/bin" // glibc's confstr(_CS_PATH)
	for _, c := range []struct {
		name string
		env  []string
		want string
	}{
		{"none", nil, byDefault},
		{"others only", []string{"XPATH=/x", "PATHS=/x", "path=/x", "PATH"}, byDefault},
		{"one", []string{"A=B", "PATH=/x:/y"}, "/x:/y"},
		{"the first of two, as getenv", []string{"PATH=/x", "PATH=/y"}, "/x"},
		// Set but empty is not unset: one zero-length prefix, the current directory, for execvp(3).
		{"empty", []string{"PATH="}, ""},
		{"empty, then another", []string{"PATH=", "PATH=/y"}, ""},
	} {
		if got := pathOf(c.env); got != c.want {
			t.Errorf("%s: pathOf(%q) = %q, want %q", c.name, c.env, got, c.want)
		}
	}
}

// lookupTree makes, below a directory that becomes the current one:
//
//	exe/prog  exe2/prog   executable
//	plain/prog            not executable
//	dir/prog/             a directory
//	dangling/prog         a symbolic link to nothing
//	prog                  executable, for zero-length prefixes
//	locked/prog           executable, in a directory that only root may search
func lookupTree(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"exe", "exe2", "plain", "dir/prog", "dangling", "empty", "locked"} {
		must(os.MkdirAll(dir, 0o755))
	}
	for _, file := range []string{"prog", "exe/prog", "exe2/prog", "locked/prog"} {
		must(os.WriteFile(file, []byte("#!/bin/sh\n"), 0o755))
	}
	must(os.WriteFile("plain/prog", []byte("#!/bin/sh\n"), 0o644))
	must(os.Symlink("nothing", "dangling/prog"))
	must(os.Chmod("locked", 0o700))
}

// lookup has a stage look for a program, in this process: it makes raw system calls only.
func (m testMemory) lookup(name string, env []string) (path string, errno syscall.Errno) {
	b, _, err := compose(&Spec{Args: []string{name}, Env: env}, Join{}, Descriptors{}, false)
	if err != nil {
		return err.Error(), syscall.EIO
	}
	m.load(b)
	m.failure = record{}
	if m.find(); m.failure.step != 0 {
		if m.failure.step != StepLookup {
			return m.failure.step.String(), syscall.EIO
		}
		return "", syscall.Errno(m.failure.errno)
	}
	path, _, _ = strings.Cut(string(b[m.path-orderAddress:]), "\x00")
	return path, 0
}

func TestLookup(t *testing.T) {
	lookupTree(t)
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	abs := filepath.Join(wd, "exe")
	stage := newMemory(t)
	for _, c := range []struct {
		name, prog, path, want string
		errno                  syscall.Errno
	}{
		{"found", "prog", abs, abs + "/prog", 0},
		{"relative element", "prog", "exe", "exe/prog", 0},
		{"first of two", "prog", "exe:exe2", "exe/prog", 0},
		{"after an element without it", "prog", "empty:missing:exe2", "exe2/prog", 0},
		{"after one that can't be executed", "prog", "plain:exe:exe2", "exe/prog", 0},
		{"after a directory of that name", "prog", "dir:exe", "exe/prog", 0},
		{"after a dangling link", "prog", "dangling:exe", "exe/prog", 0},
		{"zero-length first", "prog", ":exe", "./prog", 0},
		{"zero-length last", "prog", "empty:", "./prog", 0},
		{"zero-length inside", "prog", "empty::exe", "./prog", 0},
		{"zero-length only", "prog", "", "./prog", 0},
		{"nowhere", "prog", "empty:missing", "", syscall.ENOENT},
		{"dangling only", "prog", "dangling", "", syscall.ENOENT},
		{"not executable only", "prog", "plain:empty", "", syscall.EACCES},
		{"directory only", "prog", "empty:dir", "", syscall.EACCES},
		{"empty name", "", "exe", "", syscall.ENOENT},
		// With a slash PATH does not matter, and the kernel judges what is there.
		{"slash", "exe2/prog", "exe", "exe2/prog", 0},
		{"slash, not executable", "plain/prog", "exe", "plain/prog", 0},
		{"slash, missing", "empty/prog", "exe", "empty/prog", syscall.ENOENT},
		{"slash, below a file", "prog/prog", "exe", "prog/prog", syscall.ENOTDIR},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, errno := stage.lookup(c.prog, []string{"PATH=" + c.path})
			if errno != c.errno || errno == 0 && got != c.want {
				t.Errorf("lookup(%q) in %q = %q, %v; want %q, %v", c.prog, c.path, got, errno, c.want, c.errno)
			}
		})
	}
}

func TestLookupWithoutPath(t *testing.T) {
	got, errno := newMemory(t).lookup("sh", nil)
	if errno != 0 || got != "/bin/sh" && got != "/usr/bin/sh" {
		t.Errorf("lookup without PATH = %q, %v", got, errno)
	}
}

// A directory of PATH that may not be searched is execvp's EACCES, not "not found".
func TestLookupUnsearchable(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("requires root")
	}
	lookupTree(t)
	stage := newMemory(t)
	type answer struct {
		path  string
		errno syscall.Errno
	}
	ask := func(path string) answer {
		ch := make(chan answer)
		go func() {
			// A raw setresuid is this thread's only. It is never unlocked, and so ends here.
			runtime.LockOSThread()
			if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 65534, 65534, 65534); errno != 0 {
				ch <- answer{"setresuid", errno}
				return
			}
			got, errno := stage.lookup("prog", []string{"PATH=" + path})
			ch <- answer{got, errno}
		}()
		return <-ch
	}
	if err := os.Chmod(".", 0o755); err != nil { // whatever the umask
		t.Fatal(err)
	}
	if got := ask("locked"); got.errno != syscall.EACCES {
		t.Errorf("lookup in an unsearchable directory = %+v, want EACCES", got)
	}
	if got := ask("locked:exe"); got != (answer{"exe/prog", 0}) {
		t.Errorf("lookup after an unsearchable directory = %+v, want exe/prog", got)
	}
}
