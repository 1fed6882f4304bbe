package advice

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/reexec"
	"github.com/cgshim/cgshim/shim/internal/sys"
)

// A Program is what was to be run. For an error that its file, its directory or its user is the reason for, the kernel's errno
// tells little, and the file more.
type Program struct {
	Name    string   // the first of its arguments
	Env     []string // "key=value"; of entries with the same key the last one counts
	Dir     string   // in which it starts; "" is the caller's
	UID     *uint32  // nil is the caller's
	Rlimits []reexec.Rlimit
	Beneath []string // the paths beneath which it may execute files; nil is everywhere
}

// ofProgram has a closer look at the program, if there is one.
func ofProgram(detail func(*Program) string) func(*Situation) string {
	return func(s *Situation) string {
		if s.program == nil {
			return ""
		}
		return detail(s.program)
	}
}

func chdirHint(p *Program) string {
	who := "this user may not"
	if p.UID != nil {
		who = fmt.Sprintf("neither the caller nor user %d (--user) may", *p.UID)
	}
	return fmt.Sprintf("%s enter it, or a directory above it: namei -l %q shows which one lacks the permission x", who, p.Dir)
}

// found is the program, with the name of the file that an error tells of, which another user may find elsewhere than we.
func (p *Program) found(err error) *Program {
	var e *reexec.Error
	if p == nil || !errors.As(err, &e) || e.Step != reexec.StepLookup && e.Step != reexec.StepExec || !strings.Contains(e.Arg, "/") {
		return p
	}
	file := *p
	file.Name = e.Arg
	return &file
}

// file is the file that execve was called for, or that is in its way, as the stage finds it; "" if there is none.
func (p *Program) file() string {
	name := p.Name
	if strings.Contains(name, "/") {
		return p.fromDir(name)
	}
	search := "/bin:/usr/bin"
	for _, kv := range p.Env {
		if value, ok := strings.CutPrefix(kv, "PATH="); ok {
			search = value
		}
	}
	there := ""
	for _, dir := range strings.Split(search, ":") {
		file := p.fromDir(filepath.Join(dir, name))
		info, err := os.Stat(file)
		switch {
		case err != nil:
		case info.Mode().IsRegular() && info.Mode()&0o111 != 0:
			return file
		case there == "":
			there = file
		}
	}
	return there
}

// fromDir is a path as the program sees it, which starts in Dir.
func (p *Program) fromDir(name string) string {
	if p.Dir == "" || filepath.IsAbs(name) {
		return name
	}
	return p.Dir + "/" + name
}

// headSize is how much the kernel looks at (BINPRM_BUF_SIZE).
const headSize = 256

// readHead is the beginning of a regular file; nil if it can't be read.
func readHead(file string) []byte {
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0) // a FIFO is not waited for
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	head := make([]byte, headSize)
	n, _ := sys.IgnoringEINTR(func() (int, error) { return unix.Pread(fd, head, 0) })
	return head[:max(n, 0)]
}

const (
	scriptMark = "#!"
	elfMark    = "\x7fELF"
	byteOrder  = "\xef\xbb\xbf" // a byte order mark
	// maxInterpreters is how many scripts may be each other's interpreters (the kernel's limit, see execve(2)).
	maxInterpreters = 5
)

// interpreterHint is about a file that is there, while execve says ENOENT: its interpreter is not, or the interpreter's.
func interpreterHint(p *Program) string {
	file := p.file()
	for range maxInterpreters {
		head := readHead(file)
		what, name := "interpreter, of the #! line", scriptInterpreter(head)
		if bytes.HasPrefix(head, []byte(elfMark)) {
			what, name = "dynamic loader", elfInterpreter(file)
		}
		if name == "" {
			return ""
		}
		if strings.HasSuffix(name, "\r") {
			return fmt.Sprintf(`the #! line of %q ends in a carriage return, as Windows writes lines, so that the kernel looks for %q: sed -i 's/\r$//' FILE removes it from every line`, file, name)
		}
		if _, err := os.Stat(p.fromDir(name)); err != nil {
			if what == "dynamic loader" {
				return fmt.Sprintf("%q is there, but its %s %q is not: install the C library that it was linked with (for 32 bits, or musl), or link it statically", file, what, name)
			}
			return fmt.Sprintf("%q is there, but its %s, %q, is not: install it, or change that line", file, what, name)
		}
		file = p.fromDir(name)
	}
	return ""
}

// scriptInterpreter is the file that a #! line names, as the kernel reads it; "" without such a line.
func scriptInterpreter(head []byte) string {
	if !bytes.HasPrefix(head, []byte(scriptMark)) {
		return ""
	}
	line, _, _ := bytes.Cut(head[len(scriptMark):], []byte("\n"))
	name := bytes.TrimLeft(line, " \t")
	if end := bytes.IndexAny(name, " \t\x00"); end >= 0 {
		name = name[:end]
	}
	return string(name)
}

// elfInterpreter is the dynamic loader that a binary names, see elf(5); "" if it names none. The program headers are next
// to the beginning of the file, as linkers write them. Package debug/elf would do it, and make every start slower.
func elfInterpreter(file string) string {
	head := make([]byte, 4096)
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	n, _ := f.ReadAt(head, 0)
	for _, at := range elfSegments(head[:n]) {
		const ptInterp = 3
		if at.kind == ptInterp && at.size > 1 && at.size <= unix.PathMax {
			name := make([]byte, at.size)
			if _, err := f.ReadAt(name, int64(at.offset)); err != nil {
				return ""
			}
			return string(bytes.TrimRight(name, "\x00"))
		}
	}
	return ""
}

type elfSegment struct {
	kind         uint32
	offset, size uint64
}

// elfSegments reads the program headers, of 32 or 64 bits, of the machine's byte order or the other one.
func elfSegments(head []byte) (list []elfSegment) {
	if len(head) < 64 {
		return nil
	}
	const class64, bigEndian = 2, 2
	order := binary.ByteOrder(binary.LittleEndian)
	if head[5] == bigEndian {
		order = binary.BigEndian
	}
	wide := head[4] == class64
	at, size, count := uint64(order.Uint32(head[28:])), order.Uint16(head[42:]), order.Uint16(head[44:])
	if wide {
		at, size, count = order.Uint64(head[32:]), order.Uint16(head[54:]), order.Uint16(head[56:])
	}
	for range count {
		if size < 32 || wide && size < 56 || at > uint64(len(head)) || at+uint64(size) > uint64(len(head)) {
			break
		}
		h := head[at:]
		if wide {
			list = append(list, elfSegment{order.Uint32(h), order.Uint64(h[8:]), order.Uint64(h[32:])})
		} else {
			list = append(list, elfSegment{order.Uint32(h), uint64(order.Uint32(h[4:])), uint64(order.Uint32(h[16:]))})
		}
		at += uint64(size)
	}
	return list
}

// formatHint is about a file that the kernel knows no way to execute.
func formatHint(p *Program) string {
	file := p.file()
	if info, err := os.Stat(file); err == nil && info.Size() == 0 {
		return fmt.Sprintf("%q is empty", file)
	}
	head := readHead(file)
	switch {
	case len(head) == 0:
		return ""
	case bytes.HasPrefix(head, []byte(elfMark)):
		return fmt.Sprintf("%q is a binary for another machine, or is damaged: file %[1]q tells which", file)
	case bytes.HasPrefix(head, []byte("MZ")):
		return fmt.Sprintf("%q is a program for Windows", file)
	case bytes.HasPrefix(head, []byte(byteOrder+scriptMark)):
		return fmt.Sprintf(`%q has a byte order mark before its #! line: sed -i '1s/^\xef\xbb\xbf//' FILE removes it`, file)
	case bytes.HasPrefix(head, []byte(scriptMark)):
		return fmt.Sprintf("the #! line of %q names no interpreter, or is longer than %d bytes", file, headSize-1)
	case bytes.IndexByte(head, 0) < 0:
		return fmt.Sprintf("%q is text without a #! line: write one, such as #!/bin/sh, or run it by its interpreter: cgshim -- sh %[1]q", file)
	}
	return ""
}

// accessHint is about a file that is not executable, to this user.
func accessHint(p *Program) string {
	file := p.file()
	info, err := os.Stat(file)
	var fs unix.Statfs_t
	switch {
	case file == "" || err != nil && p.UID == nil:
		return ""
	case err != nil:
		return fmt.Sprintf("user %d (--user) may not search a directory above %q: namei -l %[2]q shows which", *p.UID, file)
	case info.IsDir():
		return fmt.Sprintf("%q is a directory", file)
	case info.Mode()&0o111 == 0:
		return fmt.Sprintf("%q is not executable: chmod +x %[1]q", file)
	case unix.Statfs(file, &fs) == nil && fs.Flags&unix.MS_NOEXEC != 0: // ST_NOEXEC is the same bit
		return fmt.Sprintf("%q is on a file system that is mounted noexec", file)
	}
	if hint := p.confinedHint(file); hint != "" {
		return hint
	}
	if p.UID != nil {
		return fmt.Sprintf("user %d (--user) may not execute %q, or its interpreter, or search a directory above it: namei -l %[2]q shows who may", *p.UID, file)
	}
	return ""
}

// confinedHint is about a file that is executable, where not all files are.
func (p *Program) confinedHint(file string) string {
	if p.Beneath == nil {
		return ""
	}
	interpreter := elfInterpreter(file)
	if interpreter == "" {
		interpreter = scriptInterpreter(readHead(file))
	}
	for _, of := range []struct{ name, is string }{{file, "the program"}, {interpreter, "its interpreter or dynamic loader"}} {
		if of.name == "" {
			continue
		}
		if real, ok := p.allowed(p.fromDir(of.name)); !ok {
			return fmt.Sprintf("%q, %s, is not beneath a path that it may execute: --fs-ro %q, or --fs-system for what the system has", real, of.is, filepath.Dir(real))
		}
	}
	return ""
}

// allowed says whether a file may be executed, as far as names tell. It returns the name without symbolic links.
func (p *Program) allowed(file string) (real string, ok bool) {
	if real, err := filepath.EvalSymlinks(file); err == nil {
		file = real
	}
	if absolute, err := filepath.Abs(file); err == nil {
		file = absolute
	}
	for _, path := range p.Beneath {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			path = real
		}
		if absolute, err := filepath.Abs(path); err == nil {
			path = absolute
		}
		if rel, err := filepath.Rel(path, file); err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
			return file, true
		}
	}
	return file, false
}

// nofileHint is about the one hard limit that nobody may raise above the system's.
func nofileHint(s *Situation) string {
	var e *reexec.Error
	if s.program == nil || !errors.As(s.err, &e) || e.Arg != "nofile" {
		return ""
	}
	most, err := strconv.ParseUint(readSysctl("fs.nr_open"), 10, 64)
	for _, l := range s.program.Rlimits {
		if l.Resource == unix.RLIMIT_NOFILE && err == nil && l.Hard > most {
			return fmt.Sprintf("no process may have more than %d open files: ask for less, or raise that: sysctl -w fs.nr_open=NUMBER", most)
		}
	}
	return ""
}
