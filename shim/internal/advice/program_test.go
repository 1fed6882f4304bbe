package advice

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/reexec"
)

func TestScriptInterpreter(t *testing.T) {
	for head, want := range map[string]string{
		"#!/bin/sh\n":             "/bin/sh",
		"#! \t/bin/sh -e\n":       "/bin/sh",
		"#!/bin/sh\r\necho\r\n":   "/bin/sh\r",
		"#!/bin/sh -e\r\n":        "/bin/sh",
		"#!python\n":              "python",
		"#!/bin/sh":               "/bin/sh",
		"#!\n/bin/sh\n":           "",
		"#!":                      "",
		"":                        "",
		"echo #!/bin/sh\n":        "",
		"\xef\xbb\xbf#!/bin/sh\n": "",
	} {
		if got := scriptInterpreter([]byte(head)); got != want {
			t.Errorf("%q: %q, want %q", head, got, want)
		}
	}
}

// elfFile makes a binary with nothing but a loader's name, of 32 or 64 bits.
func elfFile(order binary.AppendByteOrder, wide bool, loader string) []byte {
	class, header, segment := byte(1), 52, 32
	if wide {
		class, header, segment = 2, 64, 56
	}
	data := byte(1)
	if order.String() == "BigEndian" {
		data = 2
	}
	b := make([]byte, header)
	copy(b, elfMark)
	b[4], b[5] = class, data
	put := order.(binary.ByteOrder)
	at := uint64(header + 2*segment)
	programs := make([]byte, 2*segment)
	interp := programs[segment:] // the first is of kind 0
	put.PutUint32(interp, 3)
	if wide {
		put.PutUint64(b[32:], uint64(header))
		put.PutUint16(b[54:], uint16(segment))
		put.PutUint16(b[56:], 2)
		put.PutUint64(interp[8:], at)
		put.PutUint64(interp[32:], uint64(len(loader)+1))
	} else {
		put.PutUint32(b[28:], uint32(header))
		put.PutUint16(b[42:], uint16(segment))
		put.PutUint16(b[44:], 2)
		put.PutUint32(interp[4:], uint32(at))
		put.PutUint32(interp[16:], uint32(len(loader)+1))
	}
	return append(append(append(b, programs...), loader...), 0)
}

func TestELFInterpreter(t *testing.T) {
	file := filepath.Join(t.TempDir(), "elf")
	for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
		for _, wide := range []bool{false, true} {
			whole := elfFile(order, wide, "/lib/ld-linux.so.2")
			for size := range len(whole) + 1 { // cut anywhere: no panic, and no half of a name
				if err := os.WriteFile(file, whole[:size], 0o755); err != nil {
					t.Fatal(err)
				}
				want := ""
				if size == len(whole) {
					want = "/lib/ld-linux.so.2"
				}
				if got := elfInterpreter(file); got != want {
					t.Errorf("%v, 64 bits %v, %d bytes of %d: %q, want %q", order, wide, size, len(whole), got, want)
				}
			}
		}
	}
	if got := elfInterpreter("/proc/self/exe"); got != "" && !strings.HasPrefix(got, "/") {
		t.Errorf("of this test: %q", got)
	}
}

// detail is what a closer look at the program adds.
func detail(e *reexec.Error, program *Program) string {
	s := About(e.Step.String(), e, program)
	if r := s.class(); r.detail != nil {
		return r.detail(s)
	}
	return ""
}

func TestProgramHint(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string, mode os.FileMode) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("script", "#!/nonexistent/sh\n", 0o755)
	write("dos", "#!/bin/sh\r\n", 0o755)
	write("relative", "#!script\n", 0o755)
	write("itself", "#!itself\n", 0o755)
	write("elf", string(elfFile(binary.LittleEndian, true, "/lib/nonexistent.so")), 0o755)
	write("plain", "x", 0o644)
	write("text", "echo\n", 0o755)
	for _, test := range []struct {
		name  string
		step  reexec.Step
		errno unix.Errno
		want  string // "" is no hint
	}{
		{"./script", reexec.StepExec, unix.ENOENT, `"/nonexistent/sh"`},
		{"script", reexec.StepExec, unix.ENOENT, `"/nonexistent/sh"`}, // by PATH
		{"./dos", reexec.StepExec, unix.ENOENT, `carriage return`},
		{"./relative", reexec.StepExec, unix.ENOENT, `"/nonexistent/sh"`},
		{"./itself", reexec.StepExec, unix.ENOENT, ""},
		{"./elf", reexec.StepExec, unix.ENOENT, `dynamic loader "/lib/nonexistent.so"`},
		{"./gone", reexec.StepExec, unix.ENOENT, ""},
		{"/dev/zero", reexec.StepExec, unix.ENOENT, ""},
		{"./text", reexec.StepExec, unix.ENOEXEC, "text without a #! line"},
		{"plain", reexec.StepLookup, unix.EACCES, "chmod +x"},
		{".", reexec.StepExec, unix.EACCES, "is a directory"},
		{"./script", reexec.StepLookup, unix.ENOENT, ""},
		{"./script", reexec.StepExec, unix.E2BIG, ""},
	} {
		program := &Program{Name: test.name, Dir: dir, Env: []string{"PATH=/nowhere", "PATH=/nonexistent:" + dir}}
		got := detail(&reexec.Error{Step: test.step, Errno: test.errno}, program)
		if test.want == "" && got != "" || !strings.Contains(got, test.want) {
			t.Errorf("%s: %v: %q, want %q", test.name, test.errno, got, test.want)
		}
	}
	// Nobody may have more descriptors than the kernel's limit, not even root; other limits are another matter.
	for resource, want := range map[int]bool{unix.RLIMIT_NOFILE: true, unix.RLIMIT_CORE: false} {
		program := &Program{Name: "x", Rlimits: []reexec.Rlimit{{Resource: resource, Soft: 1, Hard: unix.RLIM_INFINITY}}}
		e := &reexec.Error{Step: reexec.StepRlimit, Errno: unix.EPERM, Arg: map[int]string{unix.RLIMIT_NOFILE: "nofile", unix.RLIMIT_CORE: "core"}[resource]}
		if got := detail(e, program); strings.Contains(got, "fs.nr_open") != want {
			t.Errorf("%s: %q", fmt.Sprint(e), got)
		}
	}
}

// A hint is about the file that the program's user has found, and not about the caller's; also if the caller can't see it.
func TestHintOfUsersFile(t *testing.T) {
	t.Chdir(t.TempDir())
	for dir, text := range map[string]string{"first": "#!/bin/sh\n", "second": "#!/nonexistent/interpreter\n"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+"/tool", []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	uid := uint32(7)
	p := &Program{Name: "tool", Env: []string{"PATH=first:second"}, UID: &uid}
	for want, e := range map[string]*reexec.Error{
		`"second/tool" is there, but its interpreter`:  {Step: reexec.StepExec, Errno: unix.ENOENT, Arg: "second/tool"},
		`user 7 (--user) may not execute "first/tool"`: {Step: reexec.StepLookup, Errno: unix.EACCES, Arg: "first/tool"},
		`user 7 (--user) may not search a directory above "nowhere/tool"`: {
			Step: reexec.StepLookup, Errno: unix.EACCES, Arg: "nowhere/tool",
		},
	} {
		if got := About("exec", e, p).Hint(); !strings.Contains(got, want) {
			t.Errorf("%v: %q, want %q", e, got, want)
		}
	}
	if p.Name != "tool" {
		t.Errorf("the program's name is %q now", p.Name)
	}
}

// Of what a program may execute, the paths are one reason, and its user is another.
func TestAccessHintOfPaths(t *testing.T) {
	dir, uid := t.TempDir(), uint32(65534)
	file := filepath.Join(dir, "prog")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	p := &Program{Name: file, UID: &uid, Beneath: []string{"/usr", "/bin"}}
	if hint := accessHint(p); !strings.Contains(hint, "is not beneath") || !strings.Contains(hint, dir) {
		t.Errorf("elsewhere: %s", hint)
	}
	p.Beneath = append(p.Beneath, dir)
	if hint := accessHint(p); !strings.Contains(hint, "user 65534") {
		t.Errorf("there: %s", hint)
	}
}
