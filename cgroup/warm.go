package cgroup

import (
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// A Tuning spares a group system calls, by what it does ahead or leaves undone. No figure depends on it.
type Tuning struct {
	// KeepOpen keeps the files that are read open until Remove, because they are read again and again.
	KeepOpen bool
	// Prepare, if not 0, opens the files that Stats(Totals) reads, because there is time for it now and none then. Nobody else may
	// change the group's limits meanwhile. The descriptors are below this number; a file that can't have such a one, or can't be
	// opened, is opened when it is read.
	Prepare int
	// KeepParents has Remove leave the directories above, because another group will be made there.
	KeepParents bool
}

// Tune replaces the Tuning of the group. The zero Tuning, which a new group has, closes the files that are open.
func (g *Group) Tune(t Tuning) {
	g.warm.mu.Lock()
	g.warm.keep, g.warm.prepared = t.KeepOpen, t.Prepare > 0
	if !g.warm.keep && !g.warm.prepared {
		g.warm.closeAll()
	}
	g.warm.mu.Unlock()
	if t.Prepare > 0 {
		r := reader{hidden: g.hidden, warm: &g.warm, opens: t.Prepare}
		g.h.stats(&Stats{}, &r, Totals)
	}
	g.removing.Lock()
	defer g.removing.Unlock()
	g.keepParents = t.KeepParents
}

// warm has files of a group open that will be read: to find one by its path takes longer than to read it.
type warm struct {
	mu    sync.Mutex
	read  []string       // the paths of those that were asked for
	files map[string]int // descriptors by path

	keep     bool // what is opened
	prepared bool // see Tuning.Prepare
}

// openLike opens the files of the group that were read of another one.
func (g *Group) openLike(other *Group) {
	other.warm.mu.Lock()
	files := slices.Clone(other.warm.read)
	other.warm.mu.Unlock()
	g.warm.mu.Lock()
	defer g.warm.mu.Unlock()
	for _, file := range files {
		mount, name, ok := strings.Cut(file, other.path+"/")
		path := mount + g.path + "/" + name
		if _, open := g.warm.files[path]; open || !ok {
			continue
		}
		if fd, err := openFile(path, unix.O_RDONLY); err == nil {
			g.warm.put(path, fd)
		}
	}
}

// value is readValue, of a file that may be open.
func (w *warm) value(path string) (string, error) {
	if w == nil {
		return readValue(path)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Contains(w.read, path) {
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
