package cgroup

import (
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// warm has files of a group open that will be read: to find one by its path takes longer than to read it.
type warm struct {
	mu    sync.Mutex
	read  []string       // the paths of those that were asked for, since Warm
	files map[string]int // descriptors by path
	keep  bool           // what is opened

	prepared bool // by Prepare, and not Unprepare
}

// A Pattern says which files of a group were read: see Group.Warm. The zero Pattern is none.
type Pattern struct {
	path  string // of the group
	files []string
}

// Pattern is what has been read of the group since Warm.
func (g *Group) Pattern() Pattern {
	g.warm.mu.Lock()
	defer g.warm.mu.Unlock()
	return Pattern{g.path, slices.Clone(g.warm.read)}
}

// Warm opens the files of the group that were read of another one, so that they are read more quickly. Remove closes
// them. What can't be opened is opened when it is read.
func (g *Group) Warm(pattern Pattern) {
	g.warm.mu.Lock()
	defer g.warm.mu.Unlock()
	for _, file := range pattern.files {
		mount, name, ok := strings.Cut(file, pattern.path+"/")
		path := mount + g.path + "/" + name
		if _, open := g.warm.files[path]; open || !ok {
			continue
		}
		if fd, err := openFile(path, unix.O_RDONLY); err == nil {
			g.warm.put(path, fd)
		}
	}
	if g.warm.files == nil {
		g.warm.files = map[string]int{}
	}
}

// KeepOpen is for who reads the same files again and again: they stay open until Remove.
func (g *Group) KeepOpen() {
	g.warm.mu.Lock()
	defer g.warm.mu.Unlock()
	g.warm.keep = true
}

// value is readValue, of a file that may be open.
func (w *warm) value(path string) (string, error) {
	if w == nil {
		return readValue(path)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.files != nil && !slices.Contains(w.read, path) {
		w.read = append(w.read, path)
	}
	fd, open := w.files[path]
	if !open && w.keep {
		var err error
		if fd, err = openFile(path, unix.O_RDONLY); err == nil {
			w.put(path, fd)
			open = true
		}
	}
	if !open {
		return readValue(path)
	}
	var page [4096]byte
	n, err := retry(func() (int, error) { return unix.Pread(fd, page[:], 0) })
	if err != nil {
		return "", &Error{Op: "read", Path: path, Err: err}
	}
	if n == len(page) {
		return readFile(path)
	}
	return string(page[:n]), nil
}

func (w *warm) put(path string, fd int) {
	if w.files == nil {
		w.files = make(map[string]int, 32)
	}
	w.files[path] = fd
}

// open has value find a file open, if its descriptor is below a number.
func (w *warm) open(path string, below int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, open := w.files[path]; open {
		return
	}
	fd, err := openFile(path, unix.O_RDONLY)
	switch {
	case err != nil:
	case fd >= below:
		_ = unix.Close(fd)
	default:
		w.put(path, fd)
	}
}

func (w *warm) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closeAll()
	w.keep = false
}

func (w *warm) closeAll() {
	for _, fd := range w.files {
		_ = unix.Close(fd)
	}
	w.files, w.prepared = nil, false
}

func (w *warm) isPrepared() bool {
	if w == nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.prepared
}
