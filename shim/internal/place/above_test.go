package place

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/internal/testgroup"
)

// With eatEnv set, the test binary is a program that takes more memory than the test allows it.
const eatEnv = "CGSHIM_PLACE_TEST_EAT"

func TestMain(m *testing.M) {
	if os.Getenv(eatEnv) != "" {
		eat()
	}
	os.Exit(m.Run())
}

func eat() {
	for range 256 {
		memory, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			panic(err)
		}
		for i := 0; i < len(memory); i += 4096 {
			memory[i] = 1
		}
	}
	os.Exit(0)
}

// The group above whose limit was reached is named.
func TestMemoryReachedAbove(t *testing.T) {
	h := testgroup.Host(t)
	memory := cgroup.Options{Controllers: []cgroup.Controller{cgroup.Memory}}
	parent := testgroup.Create(t, h, testgroup.Path(t, h), memory)
	g := testgroup.Create(t, h, parent.Path()+"/a", memory)
	for group, limit := range map[*cgroup.Group]int64{parent: 16 << 20, g: 1 << 30} {
		if err := group.Set(cgroup.Limits{Memory: limit}); err != nil {
			t.Fatal(err)
		}
	}
	if list := MemoryReachedAbove(g); len(list) != 0 {
		t.Errorf("before it: %v", list)
	}
	testgroup.Start(t, g, fmt.Sprintf("%s=1 exec /proc/%d/exe", eatEnv, os.Getpid()))
	for end := testgroup.Context(t); ; {
		s, err := g.Stats(cgroup.PartOOM)
		if err != nil || end.Err() != nil {
			t.Fatal(err, end.Err())
		}
		if s.OOMKills.Value > 0 {
			break
		}
	}
	if list := MemoryReachedAbove(g); len(list) != 1 || list[0] != (MemoryLimit{parent.Path(), 16 << 20}) {
		t.Errorf("MemoryReachedAbove() = %v", list)
	}
}

// The group above that is frozen is named, and one that is not is none.
func TestFrozenAbove(t *testing.T) {
	real := testgroup.Host(t)
	for name, h := range map[string]*cgroup.Host{"default": real, "freezer": real.Without("cgroup.kill")} {
		t.Run(name, func(t *testing.T) {
			parent := testgroup.Create(t, h, testgroup.Path(t, h), cgroup.Options{})
			g := testgroup.Create(t, h, parent.Path()+"/a/b", cgroup.Options{})
			if err := FrozenAbove(g); err != nil {
				t.Error(err)
			}
			t.Cleanup(func() { _ = parent.Thaw(testgroup.Context(t)) })
			if err := parent.Freeze(testgroup.Context(t)); err != nil {
				t.Fatal(err)
			}
			var e *cgroup.Error
			if err := FrozenAbove(g); !errors.Is(err, cgroup.ErrFrozen) || !errors.As(err, &e) {
				t.Fatalf("FrozenAbove() = %v", err)
			}
			if st, err := os.Stat(e.Path); err != nil || !st.IsDir() {
				t.Errorf("%q is no group: %v", e.Path, err)
			}
			if err := parent.Thaw(testgroup.Context(t)); err != nil {
				t.Fatal(err)
			}
			if err := FrozenAbove(g); err != nil {
				t.Error(err)
			}
		})
	}
}
