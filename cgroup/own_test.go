package cgroup

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestGroupOf(t *testing.T) {
	const v1 = "12:pids:/p\n11:cpu,cpuacct:/c\n4:memory:/docker/abc/x:y\n1:name=systemd:/s\n0::/u\n"
	onlyPIDs := &Host{version: V1, controllers: []Controller{PIDs}, mountRoot: "/"}
	for _, test := range []struct {
		name, content string
		host          *Host
		want          string // "" is an error
	}{
		{"v2", "0::/user.slice/a\n", &Host{version: V2, mountRoot: "/"}, "/user.slice/a"},
		{"v2, the root", "0::/\n", &Host{version: V2, mountRoot: "/"}, "/"},
		{"v2, beside a v1 hierarchy", "1:name=systemd:/s\n0::/u\n", &Host{version: V2, mountRoot: "/"}, "/u"},
		{"v1, of several", v1, &Host{version: V1, controllers: []Controller{PIDs, Memory}, mountRoot: "/"}, "/docker/abc/x:y"},
		{"v1, without memory", v1, onlyPIDs, "/p"},
		{"a part is mounted", "0::/docker/abc/x\n", &Host{version: V2, mountRoot: "/docker/abc"}, "/x"},
		{"… just that part", "0::/docker/abc\n", &Host{version: V2, mountRoot: "/docker/abc"}, "/"},
		{"another part is mounted", "0::/docker/abcd\n", &Host{version: V2, mountRoot: "/docker/abc"}, ""},
		{"outside of the namespace", "0::/../x\n", &Host{version: V2, mountRoot: "/"}, ""},
		{"no such hierarchy", "1:name=systemd:/s\n", &Host{version: V2, mountRoot: "/"}, ""},
		{"garbage", "0:\n\n", &Host{version: V2, mountRoot: "/"}, ""},
	} {
		dir := fakeDir(t, map[string]string{"cgroup": test.content})
		got, err := test.host.groupOf(dir + "/cgroup")
		if got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%s: %q, %v, want %q", test.name, got, err, test.want)
		}
		if err != nil && !errors.Is(err, ErrNotMounted) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	if _, err := onlyPIDs.groupOf("/nowhere"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such process: %v", err)
	}
}

func TestGroupOfProcess(t *testing.T) {
	h := testHost(t)
	g := create(t, h, testPath(t))
	p := startIn(t, g, "wait")
	if got, err := h.GroupOf(p.pid()); err != nil || got != g.Path() {
		t.Errorf("%q, %v, want %q", got, err, g.Path())
	}
	if own, err := h.Own(); err != nil || own == g.Path() {
		t.Errorf("our own is %q, %v", own, err)
	}
}

func TestOwnerAndMatch(t *testing.T) {
	h := testHost(t)
	path := testPath(t)
	g := createWith(t, h, path+"/a.scope", Options{Owner: "somebody"})
	create(t, h, path+"/b")
	if owner := h.Owner(g.Path()); owner != "somebody" {
		t.Errorf("owner %q", owner)
	}
	if owner := h.Owner(path + "/b"); owner != "" {
		t.Errorf("owner %q of another group", owner)
	}
	if got, want := h.Match(path+"/*.scope"), []string{g.Path()}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := h.Match(path + "/x*"); len(got) > 0 {
		t.Errorf("%q", got)
	}
	if err := h.Manageable(g.Path()); err != nil {
		t.Error(err)
	}
	if err := h.Manageable(path + "/none"); h.Version() == V2 && !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// A group that is rid of its processes can have children with controllers, and is as before when they are back.
func TestNest(t *testing.T) {
	h := testHost(t)
	requireVersion(t, h, V2)
	g := create(t, h, testPath(t))
	one, other := startIn(t, g, "wait"), startIn(t, g, "wait")
	if err := h.Nest(g.Path(), "nested", one.pid()); err != nil {
		t.Fatal(err)
	}
	if members, err := h.Members(g.Path()); err != nil || !slices.Equal(members, []int{other.pid()}) {
		t.Errorf("members are %v, %v, want %d", members, err, other.pid())
	}
	if err := h.Nest(g.Path(), "nested"); err != nil {
		t.Fatal(err)
	}
	if members, err := h.Members(g.Path() + "/nested"); err != nil || len(members) != 2 {
		t.Errorf("nested are %v, %v", members, err)
	}
	run, err := h.Create(g.Path()+"/run", Options{Controllers: []Controller{Memory, PIDs}, Within: g.Path()})
	if err != nil {
		t.Fatal(err)
	}
	// One is in the way of the other's return.
	if err := h.Unnest(g.Path(), "nested", one.pid()); err == nil {
		t.Error("it was taken back while a child needs its controllers, and somebody is nested")
	}
	if err := run.Remove(); err != nil {
		t.Error(err)
	}
	other.finish()
	if err := h.Unnest(g.Path(), "nested", one.pid()); err != nil {
		t.Error(err)
	}
	if members, err := h.Members(g.Path()); err != nil || !slices.Equal(members, []int{one.pid()}) {
		t.Errorf("members are %v, %v, want %d", members, err, one.pid())
	}
	if on := kernelFile(t, h, g, "cgroup.subtree_control"); strings.TrimSpace(on) != "" {
		t.Errorf("controllers are still on: %q", on)
	}
	if h.Exists(g.Path() + "/nested") {
		t.Error("the group is still there")
	}
}

func TestNestErrors(t *testing.T) {
	h := testHost(t)
	requireVersion(t, h, V2)
	g := create(t, h, testPath(t))
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	if err := h.Nest(g.Path(), "nested", gone.Process.Pid); err != nil {
		t.Errorf("a process that has ended: %v", err)
	}
	// To the kernel 0 is the writer, and it is what a process of another pid namespace is read as.
	if err := h.Nest(g.Path(), "nested", 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("process 0: %v, want EPERM", err)
	}
	if err := h.Nest(g.Path()+"/none", "nested"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such group: %v", err)
	}
	if err := h.RemoveEmpty(g.Path() + "/none"); err != nil {
		t.Errorf("no such group: %v", err)
	}
	if own, err := h.Own(); err != nil || own == g.Path() {
		t.Errorf("this process is in %q, %v", own, err)
	}
}

// What is above is not touched: it may be systemd's.
func TestWithin(t *testing.T) {
	h := testHost(t)
	requireVersion(t, h, V2)
	base := create(t, h, testPath(t)+"/base", PIDs) // not memory
	if got, err := h.Create(base.Path()+"/a/run", Options{Controllers: []Controller{PIDs, Memory}, Within: base.Path()}); !errors.Is(err, ErrNoController) {
		t.Errorf("Create with what base does not have: %v, %v", got, err)
	}
	above, err := readFile(dirOf(h, base, Freezer) + "/../cgroup.subtree_control")
	if err != nil || strings.Contains(above, "memory") {
		t.Errorf("above is %q, %v", above, err)
	}
	g, err := h.Create(base.Path()+"/a/run", Options{Controllers: []Controller{PIDs}, Within: base.Path()})
	if err != nil {
		t.Fatal(err)
	}
	set(t, g, Limits{PIDs: 5})
	if err := g.Remove(); err != nil {
		t.Error(err)
	}
}

// A run inside of a run may use hierarchies that the outer one has no directory in.
func TestRemoveElsewhere(t *testing.T) {
	h := testHost(t)
	requireVersion(t, h, V1)
	outer := create(t, h, testPath(t)+"/outer", Memory)
	if _, err := h.Create(outer.Path()+"/x/inner", Options{Controllers: []Controller{Memory, CPU}}); err != nil {
		t.Fatal(err)
	}
	if err := outer.Remove(); err != nil {
		t.Error(err)
	}
	if h.Exists(testPath(t)) || h.Exists(outer.Path()) {
		t.Error("something is left")
	}
}
