package ledger

import (
	"errors"
	"os/exec"
	"syscall"
	"testing"

	"github.com/cgshim/cgshim/shim/internal/sys"
)

func TestOwnerDead(t *testing.T) {
	self, ok := ParseOwner(ThisOwner())
	if !ok {
		t.Fatalf("owner %q", ThisOwner())
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
		owner Owner
		dead  bool
	}{
		"alive":                    {self, false},
		"pid reused":               {Owner{self.PID, self.Started - 1, self.PIDNS, self.TimeNS}, true},
		"gone":                     {Owner{ended.Process.Pid, self.Started, self.PIDNS, self.TimeNS}, true},
		"a zombie":                 {Owner{zombie.Process.Pid, zombieStart, self.PIDNS, self.TimeNS}, true},
		"gone, in another pid ns":  {Owner{ended.Process.Pid, self.Started, self.PIDNS + 1, self.TimeNS}, false},
		"another time ns":          {Owner{self.PID, self.Started - 1, self.PIDNS, self.TimeNS + 1}, false},
		"alive, in another pid ns": {Owner{self.PID, self.Started, self.PIDNS + 1, self.TimeNS}, false},
	} {
		if got := test.owner.Dead(); got != test.dead {
			t.Errorf("%s: Dead() = %v", name, got)
		}
	}
	for _, s := range []string{"", "1", "1 2", "1 2 3", "1 2 3 x", "made"} {
		if _, ok := ParseOwner(s); ok {
			t.Errorf("ParseOwner(%q) is an owner", s)
		}
	}
}

func TestOwnerVouched(t *testing.T) {
	self, _ := ParseOwner(ThisOwner())
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
		"a user's group names root's":      {self.PID, 65534, false},
		"… or another user's":              {theirs.Process.Pid, 6553, false},
		"… or none":                        {1 << 30, 65534, false},
	} {
		if got := (Owner{PID: test.pid}).Vouched(test.uid); got != test.vouched {
			t.Errorf("%s: Vouched() = %v", name, got)
		}
	}
}

func eventuallyZombie(t *testing.T, pid int) (started uint64) {
	t.Helper()
	for range 10000 {
		if p, err := sys.ReadProcess(pid); err == nil && p.Zombie {
			return p.Started
		}
	}
	t.Fatal("it does not end")
	return 0
}
