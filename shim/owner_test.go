package shim

import (
	"context"
	"errors"
	"os/exec"
	"slices"
	"syscall"
	"testing"

	"github.com/cgshim/cgshim/cgroup"
)

func TestOwnerDead(t *testing.T) {
	self, ok := parseOwner(thisOwner())
	if !ok {
		t.Fatalf("owner %q", thisOwner())
	}
	ended := exec.Command("/bin/true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	zombie := exec.Command("/bin/true")
	if err := zombie.Start(); err != nil {
		t.Fatal(err)
	}
	defer zombie.Wait()
	zombieStart := eventuallyZombie(t, zombie.Process.Pid)
	for name, test := range map[string]struct {
		owner owner
		dead  bool
	}{
		"alive":                    {self, false},
		"pid reused":               {owner{self.pid, self.started - 1, self.pidns, self.timens}, true},
		"gone":                     {owner{ended.Process.Pid, self.started, self.pidns, self.timens}, true},
		"a zombie":                 {owner{zombie.Process.Pid, zombieStart, self.pidns, self.timens}, true},
		"gone, in another pid ns":  {owner{ended.Process.Pid, self.started, self.pidns + 1, self.timens}, false},
		"another time ns":          {owner{self.pid, self.started - 1, self.pidns, self.timens + 1}, false},
		"alive, in another pid ns": {owner{self.pid, self.started, self.pidns + 1, self.timens}, false},
	} {
		if got := test.owner.dead(); got != test.dead {
			t.Errorf("%s: dead() = %v", name, got)
		}
	}
	for _, s := range []string{"", "1", "1 2", "1 2 3", "1 2 3 x", "made"} {
		if _, ok := parseOwner(s); ok {
			t.Errorf("parseOwner(%q) is an owner", s)
		}
	}
}

func TestOwnerVouched(t *testing.T) {
	self, _ := parseOwner(thisOwner())
	theirs := exec.Command("/bin/sleep", "1000")
	theirs.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if err := theirs.Start(); errors.Is(err, syscall.EPERM) {
		t.Skip("requires root: ", err)
	} else if err != nil {
		t.Fatal(err)
	}
	defer theirs.Wait()
	defer theirs.Process.Kill()
	for name, test := range map[string]struct {
		pid, uid int
		vouched  bool
	}{
		"root's group says so":             {theirs.Process.Pid, 0, true},
		"a user's group names his process": {theirs.Process.Pid, 65534, true},
		"a user's group names root's":      {self.pid, 65534, false},
		"… or another user's":              {theirs.Process.Pid, 6553, false},
		"… or none":                        {1 << 30, 65534, false},
	} {
		if got := (owner{pid: test.pid}).vouched(test.uid); got != test.vouched {
			t.Errorf("%s: vouched() = %v", name, got)
		}
	}
}

func eventuallyZombie(t *testing.T, pid int) (started uint64) {
	t.Helper()
	for range 10000 {
		if p, err := readProcess(pid); err == nil && p.zombie {
			return p.started
		}
	}
	t.Fatal("it does not end")
	return 0
}

func TestSweep(t *testing.T) {
	parent := newParent(t)
	host, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	self, _ := parseOwner(thisOwner())
	dead := owner{self.pid, self.started - 1, self.pidns, self.timens}.String()
	stays := map[string]bool{}
	for _, g := range []struct {
		name, owner string
		stays       bool
	}{
		{"1-00000001", dead, false},
		{"named", dead, false},
		{"1-00000002", "", false}, // killed between mkdir and mark
		{"1-00000003", thisOwner(), true},
		{"1-00000004", owner{self.pid, self.started - 1, self.pidns + 1, self.timens}.String(), true},
		{"somebody's", "", true},
	} {
		group, err := host.Create(parent+"/"+g.name, cgroup.Options{Controllers: []cgroup.Controller{cgroup.Memory, cgroup.PIDs}, Owner: g.owner})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = group.Remove() }()
		stays[group.Path()] = g.stays
	}
	// A later run does so, too, for those that it can be sure of.
	if res := Run(context.Background(), shell(parent, "sleep 0.2")); res.Verdict != OK {
		t.Fatalf("%s", res.JSON(false))
	}
	if host.Exists(parent+"/1-00000001") || host.Exists(parent+"/named") || !host.Exists(parent+"/1-00000002") {
		t.Error("a run has not swept what is certainly dead, or something else")
	}
	swept, err := Sweep(context.Background(), parent)
	if err != nil || !slices.Equal(swept, []Swept{{parent + "/1-00000002", nil}}) {
		t.Errorf("Sweep = %v, %v", swept, err)
	}
	for path, want := range stays {
		if host.Exists(path) != want {
			t.Errorf("%s: there: %v, want %v", path, !want, want)
		}
	}
	if swept, err := Sweep(context.Background(), "/cgshim-test-none"); err != nil || swept != nil {
		t.Errorf("Sweep of nothing = %v, %v", swept, err)
	}
}

func TestWill(t *testing.T) {
	parent := newParent(t)
	host, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	r := &run{host: host, owner: thisOwner()}
	group, err := host.Create(parent+"/run", cgroup.Options{Controllers: []cgroup.Controller{cgroup.Memory}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = group.Remove() }()
	line := string((&will{cgroup: group.Path(), owner: r.owner}).encode())
	for name, message := range map[string]string{
		"nothing":        "",
		"cut off":        line[:len(line)-1],
		"none after all": line + string((&will{owner: r.owner}).encode()),
		"no will":        "?\n",
	} {
		if execute([]byte(message)) != 0 || !host.Exists(group.Path()) {
			t.Errorf("%s: the group is gone", name)
		}
	}
	if execute([]byte(line+"/")) != 0 || host.Exists(group.Path()) {
		t.Error("the group is still there")
	}
}
