package cgroup

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

func v1Mount(point, options string) *mountinfo.Info {
	return &mountinfo.Info{FSType: "cgroup", Mountpoint: point, VFSOptions: options}
}

func v2Mount(point string) *mountinfo.Info {
	return &mountinfo.Info{FSType: "cgroup2", Mountpoint: point, VFSOptions: "rw,nsdelegate"}
}

func TestNewHost(t *testing.T) {
	// As Debian 12 mounts it; hugetlb, rdma and misc are none of ours.
	unified := fakeDir(t, map[string]string{"cgroup.controllers": "cpuset cpu io memory hugetlb pids rdma misc\n"})
	few := fakeDir(t, map[string]string{"cgroup.controllers": "pids\n"})
	none := fakeDir(t, map[string]string{"cgroup.controllers": "\n"})
	v1 := []*mountinfo.Info{
		v1Mount("/c/cpu,cpuacct", "rw,cpu,cpuacct"), v1Mount("/c/memory", "rw,memory"),
		v1Mount("/c/blkio", "rw,blkio"), v1Mount("/c/systemd", "rw,xattr,name=systemd"),
	}
	for _, test := range []struct {
		name        string
		mounts      []*mountinfo.Info
		version     Version
		controllers []Controller
		points      map[Controller]string
		all         []string // the mount points
	}{
		{
			"v1", v1, V1,
			[]Controller{Memory, CPU, CPUAcct, IO},
			map[Controller]string{CPU: "/c/cpu,cpuacct", CPUAcct: "/c/cpu,cpuacct", Memory: "/c/memory", IO: "/c/blkio", PIDs: "", Freezer: ""},
			[]string{"/c/blkio", "/c/cpu,cpuacct", "/c/memory"},
		},
		{
			"hybrid", append(slices.Clone(v1), v2Mount(few)), V1,
			[]Controller{Memory, CPU, CPUAcct, IO},
			map[Controller]string{Memory: "/c/memory", PIDs: ""},
			[]string{"/c/blkio", "/c/cpu,cpuacct", "/c/memory", few},
		},
		{
			// A container that bind-mounts a hierarchy again: the first one counts.
			"mounted twice",
			[]*mountinfo.Info{v1Mount("/c/memory", "memory"), v1Mount("/again", "memory")},
			V1,
			[]Controller{Memory},
			map[Controller]string{Memory: "/c/memory"},
			[]string{"/c/memory"},
		},
		{
			"v2",
			[]*mountinfo.Info{v2Mount(unified)},
			V2, allControllers,
			map[Controller]string{Memory: unified, IO: unified, Freezer: unified, CPUAcct: unified},
			[]string{unified},
		},
		{
			"v2 mounted twice",
			[]*mountinfo.Info{v2Mount(few), v2Mount(unified)},
			V2,
			[]Controller{PIDs, CPUAcct, Freezer},
			map[Controller]string{PIDs: few, Memory: ""},
			[]string{few},
		},
		{
			// systemd's own v1 hierarchy has no controller.
			"v2 and name=systemd",
			[]*mountinfo.Info{v1Mount("/c/systemd", "rw,name=systemd"), v2Mount(few)},
			V2,
			[]Controller{PIDs, CPUAcct, Freezer},
			map[Controller]string{PIDs: few, CPU: ""},
			[]string{few},
		},
		{
			"v2 without controllers",
			[]*mountinfo.Info{v2Mount(none)},
			V2,
			[]Controller{CPUAcct, Freezer},
			map[Controller]string{Memory: "", Freezer: none},
			[]string{none},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			h, err := newHost(test.mounts)
			if err != nil {
				t.Fatal(err)
			}
			if h.Version() != test.version {
				t.Errorf("Version() = %d, want %d", h.Version(), test.version)
			}
			if got, want := sorted(h.Controllers()), sorted(slices.Clone(test.controllers)); !slices.Equal(got, want) {
				t.Errorf("Controllers() = %v, want %v", got, want)
			}
			for _, c := range allControllers {
				if want := slices.Contains(test.controllers, c); h.Has(c) != want {
					t.Errorf("Has(%s) = %v", c, !want)
				}
			}
			for c, want := range test.points {
				if got := h.MountPoint(c); got != want {
					t.Errorf("MountPoint(%s) = %q, want %q", c, got, want)
				}
			}
			if got := sorted(mountPoints(h)); !slices.Equal(got, sorted(test.all)) {
				t.Errorf("mountPoints() = %q, want %q", got, test.all)
			}
			if h.Has("hugetlb") || h.MountPoint("hugetlb") != "" {
				t.Error("a controller that this package does not know is available")
			}
		})
	}
}

func TestNewHostErrors(t *testing.T) {
	for _, test := range []struct {
		name   string
		mounts []*mountinfo.Info
		want   error
	}{
		{"nothing", nil, ErrNotMounted},
		{"only name=systemd", []*mountinfo.Info{v1Mount("/c/systemd", "rw,name=systemd")}, ErrNotMounted},
		{"only unknown controllers", []*mountinfo.Info{v1Mount("/c/devices", "rw,devices")}, ErrNotMounted},
		// A name that contains another: memory is not "memory2".
		{"similar names", []*mountinfo.Info{v1Mount("/c/x", "rw,memory2,cpuset_v2_mode")}, ErrNotMounted},
		{"v2 hidden by another mount", []*mountinfo.Info{v2Mount(t.TempDir())}, fs.ErrNotExist},
	} {
		t.Run(test.name, func(t *testing.T) {
			if h, err := newHost(test.mounts); h != nil || !errors.Is(err, test.want) {
				t.Errorf("newHost = %v, %v, want %v", h, err, test.want)
			}
		})
	}
}

func TestControllersIsACopy(t *testing.T) {
	h, err := newHost([]*mountinfo.Info{v1Mount("/c/memory", "memory")})
	if err != nil {
		t.Fatal(err)
	}
	h.Controllers()[0] = "changed"
	if !h.Has(Memory) {
		t.Error("the caller changed the host")
	}
}

func TestCheckPath(t *testing.T) {
	long := strings.Repeat("x", unix.NAME_MAX)
	for path, want := range map[string]error{
		"/a":               nil,
		"/a/b.slice/c-1":   nil,
		"/...":             nil, // a name like any other
		"/a b/ü":           nil,
		"/" + long:         nil,
		"/a/" + long:       nil,
		"":                 ErrInvalid,
		"a":                ErrInvalid,
		"a/b":              ErrInvalid,
		"/":                ErrInvalid, // everybody's group
		"//":               ErrInvalid,
		"/a/":              ErrInvalid,
		"/a//b":            ErrInvalid,
		"/.":               ErrInvalid,
		"/..":              ErrInvalid,
		"/a/..":            ErrInvalid,
		"/../etc":          ErrInvalid,
		"/a/../../etc":     ErrInvalid,
		"/a/./b":           ErrInvalid,
		"/a\x00b":          ErrInvalid,
		"/a\nb":            ErrInvalid, // /proc/PID/cgroup has one group a line
		"/" + long + "x":   unix.ENAMETOOLONG,
		"/" + long + "x/b": unix.ENAMETOOLONG,
	} {
		err := checkPath(path)
		if !errors.Is(err, want) {
			t.Errorf("checkPath(%q) = %v, want %v", path, err, want)
		}
		var typed *Error
		if want != nil && (!errors.As(err, &typed) || typed.Path != path) {
			t.Errorf("checkPath(%q) = %#v, want an *Error with the path", path, err)
		}
	}
}

// The methods must check the path before they touch anything.
func TestCreateAndOpenCheckPath(t *testing.T) {
	h := &Host{version: V2, unified: "/nowhere"}
	if g, err := h.Create("/a/../b", Options{}); g != nil || !errors.Is(err, ErrInvalid) {
		t.Errorf("Create = %v, %v", g, err)
	}
	if g, err := h.Open("a"); g != nil || !errors.Is(err, ErrInvalid) {
		t.Errorf("Open = %v, %v", g, err)
	}
}
