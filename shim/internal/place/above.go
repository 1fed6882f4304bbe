package place

import (
	"fmt"
	"iter"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
)

// above goes through the groups above one, in each hierarchy that it is in, the nearest first, as far as the mounts show
// them: their paths, and their directories.
func above(group *cgroup.Group) iter.Seq2[string, string] {
	return func(yield func(path, dir string) bool) {
		for _, own := range group.Dirs() {
			mount := strings.TrimSuffix(own, group.Path())
			for path := group.Path(); path != "/"; {
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

// MemoryReachedAbove lists the memory limits above a group that have been reached, at whatever time, the nearest first: on
// v2 those at which the kernel found no other way but to kill. Those above the mount, as a container's, are not seen.
func MemoryReachedAbove(group *cgroup.Group) (list []MemoryLimit) {
	for path, dir := range above(group) {
		if limit, reached := memoryReached(dir); reached {
			list = append(list, MemoryLimit{path, limit})
		}
	}
	return list
}

func memoryReached(dir string) (limit uint64, reached bool) {
	if events, err := read(dir + "/memory.events.local"); err == nil { // v2
		limit, limited := number(dir + "/memory.max")
		return limit, limited && keyed(events, "oom") > 0
	}
	for _, v1 := range []string{"/memory.", "/memory.memsw."} {
		limit, limited := number(dir + v1 + "limit_in_bytes")
		peak, known := number(dir + v1 + "max_usage_in_bytes")
		if limited && known && peak >= limit {
			return limit, true
		}
	}
	return 0, false
}

// FrozenAbove is an error that is cgroup.ErrFrozen if a group above one is frozen: what enters this one stands still, too.
func FrozenAbove(group *cgroup.Group) error {
	for _, dir := range above(group) {
		for _, file := range []string{"/cgroup.freeze", "/freezer.self_freezing"} {
			if state, known := number(dir + file); known && state != 0 {
				return &cgroup.Error{Op: "join", Path: dir, Err: fmt.Errorf("%w: %w", cgroup.ErrFrozen, unix.EBUSY)}
			}
		}
	}
	return nil
}

// number reads a file that holds one. "max" is none.
func number(file string) (uint64, bool) {
	content, err := read(file)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(content), 10, 64)
	return n, err == nil
}

// keyed looks a key up in a flat keyed file ("key value\n"…). 0 if it is not there.
func keyed(content, key string) uint64 {
	for line := range strings.Lines(content) {
		if k, v, ok := strings.Cut(line, " "); ok && k == key {
			n, _ := strconv.ParseUint(strings.TrimSpace(v), 10, 64)
			return n
		}
	}
	return 0
}
