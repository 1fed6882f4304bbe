package place

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/internal/testgroup"
)

func TestGroupOf(t *testing.T) {
	const v1 = "12:pids:/p\n11:cpu,cpuacct:/c\n4:memory:/docker/abc/x:y\n1:name=systemd:/s\n0::/u\n"
	onlyPIDs := cgroup.Mount{Version: cgroup.V1, Controllers: []cgroup.Controller{cgroup.PIDs}, Root: "/"}
	for _, test := range []struct {
		name, content string
		mount         cgroup.Mount
		want          string // "" is an error
	}{
		{"v2", "0::/user.slice/a\n", cgroup.Mount{Version: cgroup.V2, Root: "/"}, "/user.slice/a"},
		{"v2, the root", "0::/\n", cgroup.Mount{Version: cgroup.V2, Root: "/"}, "/"},
		{"v2, beside a v1 hierarchy", "1:name=systemd:/s\n0::/u\n", cgroup.Mount{Version: cgroup.V2, Root: "/"}, "/u"},
		{"v1, of several", v1, cgroup.Mount{Version: cgroup.V1, Controllers: []cgroup.Controller{cgroup.Memory}, Root: "/"}, "/docker/abc/x:y"},
		{"v1, without memory", v1, onlyPIDs, "/p"},
		{"a part is mounted", "0::/docker/abc/x\n", cgroup.Mount{Version: cgroup.V2, Root: "/docker/abc"}, "/x"},
		{"… just that part", "0::/docker/abc\n", cgroup.Mount{Version: cgroup.V2, Root: "/docker/abc"}, "/"},
		{"another part is mounted", "0::/docker/abcd\n", cgroup.Mount{Version: cgroup.V2, Root: "/docker/abc"}, ""},
		{"outside of the namespace", "0::/../x\n", cgroup.Mount{Version: cgroup.V2, Root: "/"}, ""},
		{"no such hierarchy", "1:name=systemd:/s\n", cgroup.Mount{Version: cgroup.V2, Root: "/"}, ""},
		{"garbage", "0:\n\n", cgroup.Mount{Version: cgroup.V2, Root: "/"}, ""},
	} {
		file := t.TempDir() + "/cgroup"
		if err := os.WriteFile(file, []byte(test.content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := groupOf(test.mount, file)
		if got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%s: %q, %v, want %q", test.name, got, err, test.want)
		}
		if err != nil && !errors.Is(err, cgroup.ErrNotMounted) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	if _, err := groupOf(onlyPIDs, "/nowhere"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such process: %v", err)
	}
}

func TestGroupOfProcess(t *testing.T) {
	h := testgroup.Host(t)
	g := testgroup.Create(t, h, testgroup.Path(t, h), cgroup.Options{})
	p := testgroup.Start(t, g, testgroup.Wait)
	if got, err := GroupOf(h, p.PID()); err != nil || got != g.Path() {
		t.Errorf("%q, %v, want %q", got, err, g.Path())
	}
	if own, err := Own(h); err != nil || own == g.Path() {
		t.Errorf("our own is %q, %v", own, err)
	}
}

// A process's group is looked up in memory's hierarchy on v1, and the only one on v2.
func TestHierarchy(t *testing.T) {
	h := testgroup.Host(t)
	m := Hierarchy(h)
	if m.Dir != h.MountPoint(cgroup.Memory) || m.Version != h.Version() || !slices.Contains(m.Controllers, cgroup.Memory) {
		t.Errorf("%+v", m)
	}
}

func TestOwnerOf(t *testing.T) {
	h := testgroup.Host(t)
	path := testgroup.Path(t, h)
	g := testgroup.Create(t, h, path+"/a", cgroup.Options{Owner: "somebody"})
	testgroup.Create(t, h, path+"/b", cgroup.Options{})
	if owner := OwnerOf(h.Mounts(), g.Path()); owner != "somebody" {
		t.Errorf("owner %q", owner)
	}
	if owner := OwnerOf(h.Mounts(), path+"/b"); owner != "" {
		t.Errorf("owner %q of another group", owner)
	}
	if !Exists(h.Mounts(), g.Path()) || Exists(h.Mounts(), path+"/none") {
		t.Error("Exists")
	}
	if err := Manageable(h, g.Path()); err != nil {
		t.Error(err)
	}
	if err := Manageable(h, path+"/none"); h.Version() == cgroup.V2 && !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// A group that is rid of its processes can have children with controllers, and is as before when they are back.
func TestNest(t *testing.T) {
	h := testgroup.Host(t)
	testgroup.RequireV2(t, h)
	g := testgroup.Create(t, h, testgroup.Path(t, h), cgroup.Options{})
	one, other := testgroup.Start(t, g, testgroup.Wait), testgroup.Start(t, g, testgroup.Wait)
	if err := Nest(h, g.Path(), "nested", one.PID()); err != nil {
		t.Fatal(err)
	}
	if members, err := Members(h, g.Path()); err != nil || !slices.Equal(members, []int{other.PID()}) {
		t.Errorf("members are %v, %v, want %d", members, err, other.PID())
	}
	if err := Nest(h, g.Path(), "nested"); err != nil {
		t.Fatal(err)
	}
	if members, err := Members(h, g.Path()+"/nested"); err != nil || len(members) != 2 {
		t.Errorf("nested are %v, %v", members, err)
	}
	run, err := h.Create(g.Path()+"/run", cgroup.Options{Controllers: []cgroup.Controller{cgroup.Memory, cgroup.PIDs}, Within: g.Path()})
	if err != nil {
		t.Fatal(err)
	}
	// One is in the way of the other's return.
	if err := Unnest(h, g.Path(), "nested", one.PID()); err == nil {
		t.Error("it was taken back while a child needs its controllers, and somebody is nested")
	}
	if err := run.Remove(); err != nil {
		t.Error(err)
	}
	other.Finish()
	if err := Unnest(h, g.Path(), "nested", one.PID()); err != nil {
		t.Error(err)
	}
	if members, err := Members(h, g.Path()); err != nil || !slices.Equal(members, []int{one.PID()}) {
		t.Errorf("members are %v, %v, want %d", members, err, one.PID())
	}
	if on, err := read(g.Dirs()[0] + "/cgroup.subtree_control"); strings.TrimSpace(on) != "" || err != nil {
		t.Errorf("controllers are still on: %q, %v", on, err)
	}
	if h.Exists(g.Path() + "/nested") {
		t.Error("the group is still there")
	}
}

func TestNestErrors(t *testing.T) {
	h := testgroup.Host(t)
	testgroup.RequireV2(t, h)
	g := testgroup.Create(t, h, testgroup.Path(t, h), cgroup.Options{})
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	if err := Nest(h, g.Path(), "nested", gone.Process.Pid); err != nil {
		t.Errorf("a process that has ended: %v", err)
	}
	// To the kernel 0 is the writer, and it is what a process of another pid namespace is read as.
	if err := Nest(h, g.Path(), "nested", 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("process 0: %v, want EPERM", err)
	}
	if err := Nest(h, g.Path()+"/none", "nested"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such group: %v", err)
	}
	if err := removeEmpty(g.Dirs()[0] + "/none"); err != nil {
		t.Errorf("no such group: %v", err)
	}
	if own, err := Own(h); err != nil || own == g.Path() {
		t.Errorf("this process is in %q, %v", own, err)
	}
}
