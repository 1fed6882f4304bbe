package cgroup

import (
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Version is the cgroup version in which a host has its controllers.
type Version int

// The versions. A hybrid host, with controllers on v1 and a cgroup2 mount beside them, is V1.
const (
	V1 Version = 1
	V2 Version = 2
)

// A Controller is a kind of resource that a group can limit or account. The names are those of v2.
type Controller string

// The controllers. CPUAcct and Freezer are hierarchies of their own on v1; every v2 group has them.
const (
	Memory  Controller = "memory"
	PIDs    Controller = "pids"
	CPU     Controller = "cpu"
	CPUSet  Controller = "cpuset"
	IO      Controller = "io" // blkio on v1
	CPUAcct Controller = "cpuacct"
	Freezer Controller = "freezer"
)

var allControllers = []Controller{Memory, PIDs, CPU, CPUSet, IO, CPUAcct, Freezer}

// v1Name is the controller's name in a v1 mount's options.
func (c Controller) v1Name() string {
	if c == IO {
		return "blkio"
	}
	return string(c)
}

// builtIn reports whether every v2 group has the controller, which cgroup.controllers does not list then.
func (c Controller) builtIn() bool { return c == CPUAcct || c == Freezer }

// A Host is what the machine, or the container, offers. It is immutable and safe for concurrent use.
type Host struct {
	version     Version
	mounts      map[Controller]string // v1: the hierarchy of each controller
	unified     string                // the cgroup2 mount point; "" if there is none
	shown       map[string]string     // of each mount point, see Mount.Root
	controllers []Controller
	hidden      []string // see Without
	whole       bool     // v1: the mounts show the hierarchies from their roots, which nothing limits
}

// Detect finds the hierarchies that are mounted: in the usual places, or else by /proc/self/mountinfo (proc(5)). The error is
// ErrNotMounted if there is none with a controller that this package knows.
func Detect() (*Host, error) {
	if h := usualHost(); h != nil {
		return h, nil
	}
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup", "cgroup2"))
	if err != nil {
		return nil, &Error{Op: "read", Path: "/proc/self/mountinfo", Err: err}
	}
	return newHost(mounts)
}

// usual is where the hierarchies are mounted on nearly every host: all of them in one place, or v2's there.
const usual = "/sys/fs/cgroup"

// usualHost is the host where the whole of each hierarchy is mounted in the usual place, which takes some system calls that the
// kernel answers from memory; to have it write mountinfo takes ten times as long. Nil is any other: a container that sees a part
// of a hierarchy, controllers that share one (a symbolic link), nothing there.
func usualHost() *Host {
	if !initialNamespace() {
		return nil
	}
	var mounts []*mountinfo.Info
	seen := map[uint64]bool{} // hierarchies: one that is mounted twice has two controllers
	whole := func(dir, fstype, options string) bool {
		var fs unix.Statfs_t
		var st unix.Stat_t
		magic := int64(unix.CGROUP_SUPER_MAGIC)
		if fstype == "cgroup2" {
			magic = unix.CGROUP2_SUPER_MAGIC
		}
		const root = 1 // its inode
		if unix.Statfs(dir, &fs) != nil || fs.Type != magic || unix.Lstat(dir, &st) != nil || st.Ino != root || seen[st.Dev] {
			return false
		}
		seen[st.Dev] = true
		mounts = append(mounts, &mountinfo.Info{FSType: fstype, Mountpoint: dir, VFSOptions: options, Root: "/"})
		return true
	}
	if whole(usual, "cgroup2", "") {
		// A v1 hierarchy may still be mounted elsewhere, with controllers that this one lacks then.
		h, err := newHost(mounts)
		if err != nil || !h.Has(Memory) || !h.Has(PIDs) {
			return nil
		}
		return h
	}
	for _, c := range []Controller{Memory, PIDs, CPU, CPUAcct, CPUSet, IO, Freezer} {
		if !whole(usual+"/"+c.v1Name(), "cgroup", c.v1Name()) {
			return nil
		}
	}
	if !whole(usual+"/unified", "cgroup2", "") {
		return nil
	}
	h, err := newHost(mounts)
	if err != nil {
		return nil
	}
	h.whole = true
	return h
}

// initialNamespace reports whether this process is in the cgroup namespace that the system has started with: in another one a whole
// hierarchy is not ours alone.
func initialNamespace() bool {
	const initial = 0xEFFFFFFB // PROC_CGROUP_INIT_INO
	var st unix.Stat_t
	return unix.Stat("/proc/self/ns/cgroup", &st) == nil && st.Ino == initial
}

func newHost(mounts []*mountinfo.Info) (*Host, error) {
	h := &Host{version: V1, mounts: map[Controller]string{}, shown: map[string]string{}}
	for _, m := range mounts {
		if m.FSType == "cgroup2" {
			if h.unified == "" {
				h.unified, h.shown[m.Mountpoint] = m.Mountpoint, m.Root
			}
			continue
		}
		options := strings.Split(m.VFSOptions, ",")
		for _, c := range allControllers {
			if _, seen := h.mounts[c]; !seen && slices.Contains(options, c.v1Name()) {
				h.mounts[c], h.shown[m.Mountpoint] = m.Mountpoint, m.Root
				h.controllers = append(h.controllers, c)
			}
		}
	}
	if h.unified == "" && len(h.mounts) == 0 {
		return nil, &Error{Op: "detect", Err: ErrNotMounted}
	}
	if h.unified == "" {
		return h, nil
	}
	available, err := readFile(h.unified + "/cgroup.controllers")
	listed := strings.Fields(available)
	// A controller is in one version only. Where v2 has these, and v1 not memory, a v1 mount is a left-over.
	_, v1Memory := h.mounts[Memory]
	v2Main := slices.Contains(listed, string(Memory)) || slices.Contains(listed, string(PIDs))
	if len(h.mounts) > 0 && (v1Memory || !v2Main) {
		return h, nil
	}
	if err != nil {
		return nil, err
	}
	h.version, h.mounts, h.controllers = V2, nil, nil
	for _, c := range allControllers {
		if c.builtIn() || slices.Contains(listed, string(c)) {
			h.controllers = append(h.controllers, c)
		}
	}
	return h, nil
}

// Without is a host whose groups do without some of the kernel's files, such as "memory.peak" or
// "cgroup.kill", as on a kernel that does not have them yet. It is for tests of what is done then.
func (h *Host) Without(files ...string) *Host {
	old := *h
	old.hidden = append(slices.Clone(h.hidden), files...)
	return &old
}

// Version is the cgroup version that the controllers are in.
func (h *Host) Version() Version { return h.version }

// Controllers lists what is available. The caller may keep and change the slice.
func (h *Host) Controllers() []Controller { return slices.Clone(h.controllers) }

// Has reports whether a controller is available.
func (h *Host) Has(c Controller) bool { return slices.Contains(h.controllers, c) }

// MountPoint is where the hierarchy of a controller is mounted, such as "/sys/fs/cgroup/memory"; "" if the host does not have it.
func (h *Host) MountPoint(c Controller) string {
	if h.version == V2 {
		if h.Has(c) {
			return h.unified
		}
		return ""
	}
	return h.mounts[c]
}

// A Mount is a mounted hierarchy.
type Mount struct {
	Dir string // the mount point
	// Root is the group that is seen in Dir, "/" that of the whole hierarchy, or of the cgroup namespace: see cgroup_namespaces(7).
	Root string
	// Version is V2 for cgroup2, also beside the v1 hierarchies of a hybrid host.
	Version Version
	// Controllers are those of the host that are in this hierarchy. cgroup2's of a hybrid host has none.
	Controllers []Controller
}

// Mounts lists the hierarchies in which a group may have a directory, cgroup2's first. The caller may keep and change the slice.
func (h *Host) Mounts() []Mount {
	roots := h.roots()
	list := make([]Mount, 0, len(roots))
	for _, dir := range roots {
		m := Mount{Dir: dir, Root: h.shown[dir], Version: V1}
		if dir == h.unified {
			m.Version = V2
		}
		for _, c := range h.controllers {
			if h.MountPoint(c) == dir {
				m.Controllers = append(m.Controllers, c)
			}
		}
		list = append(list, m)
	}
	return list
}

// Exists reports whether there is a group at path in any hierarchy.
func (h *Host) Exists(path string) bool {
	return slices.ContainsFunc(h.roots(), func(root string) bool { return unix.Access(root+path, unix.F_OK) == nil })
}

// roots are the mount points in which a group may have a directory.
func (h *Host) roots() []string {
	var list []string
	if h.unified != "" {
		list = append(list, h.unified)
	}
	for _, c := range h.controllers {
		if mount := h.mounts[c]; mount != "" && !slices.Contains(list, mount) {
			list = append(list, mount)
		}
	}
	return list
}
