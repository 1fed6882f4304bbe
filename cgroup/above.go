package cgroup

import (
	"fmt"
	"iter"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// above goes through the groups above this one, in each hierarchy that it is in, the nearest first, as far as the mounts show
// them: their paths, and their directories.
func (g *Group) above() iter.Seq2[string, string] {
	return func(yield func(path, dir string) bool) {
		for _, own := range g.dirs {
			mount := strings.TrimSuffix(own, g.path)
			for path := g.path; path != "/"; {
				path = filepath.Dir(path)
				if !yield(path, filepath.Join(mount, path)) {
					return
				}
			}
		}
	}
}

// A MemoryLimit is the limit of the group at a path.
type MemoryLimit struct {
	Path  string
	Bytes uint64
}

// MemoryReachedAbove lists the memory limits above the group that have been reached, at whatever time, the nearest first: on
// v2 those at which the kernel found no other way but to kill. Those above the mount, as a container's, are not seen.
func (g *Group) MemoryReachedAbove() (list []MemoryLimit) {
	for path, dir := range g.above() {
		if limit, reached := memoryReached(dir); reached {
			list = append(list, MemoryLimit{path, limit})
		}
	}
	return list
}

func memoryReached(dir string) (limit uint64, reached bool) {
	if events, err := readFile(dir + "/memory.events.local"); err == nil { // v2
		ooms, _ := keyed(events, "oom")
		limit, limited := readUint(dir + "/memory.max")
		return limit, limited && ooms > 0
	}
	for _, v1 := range []string{"/memory.", "/memory.memsw."} {
		limit, limited := readUint(dir + v1 + "limit_in_bytes")
		peak, known := readUint(dir + v1 + "max_usage_in_bytes")
		if limited && known && peak >= limit {
			return limit, true
		}
	}
	return 0, false
}

func readUint(file string) (uint64, bool) {
	content, err := readFile(file)
	if err != nil {
		return 0, false
	}
	return parseUint(content)
}

// FrozenAbove is an error that is ErrFrozen if a group above is frozen: what enters this one stands still, too.
func (g *Group) FrozenAbove() error {
	for _, dir := range g.above() {
		for _, file := range []string{"/cgroup.freeze", "/freezer.self_freezing"} {
			if state, known := readUint(dir + file); known && state != 0 {
				return &Error{Op: "join", Path: dir, Err: fmt.Errorf("%w: %w", ErrFrozen, unix.EBUSY)}
			}
		}
	}
	return nil
}
