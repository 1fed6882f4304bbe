package runs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/internal/schematest"
	"github.com/cgshim/cgshim/internal/testgroup"
	"github.com/cgshim/cgshim/shim"
	"github.com/cgshim/cgshim/shim/internal/ledger"
)

func TestList(t *testing.T) {
	parent := testgroup.NewParent(t)
	me, ok := ledger.ParseOwner(ledger.ThisOwner())
	if !ok {
		t.Fatalf("owner %q", ledger.ThisOwner())
	}
	reused, elsewhere := me, me
	reused.Started--
	elsewhere.PIDNS++
	testgroup.New(t, parent+"/mine", me.String())
	testgroup.New(t, parent+"/reused", reused.String())
	testgroup.New(t, parent+"/elsewhere", elsewhere.String())
	testgroup.New(t, parent+"/no-run", "")
	testgroup.New(t, parent+"/garbage", "x")

	list, err := List(parent)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, r := range list {
		got[r.Name] = r.State
		schematest.AssertValid(t, shim.Schema, r.JSON())
	}
	want := map[string]string{"mine": StateRunning, "reused": StateStale, "elsewhere": StateUnknown}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
	for name, out := range map[string]bool{"mine": false, "reused": true, "elsewhere": true} {
		r, err := Find(name, parent)
		if err != nil {
			t.Fatal(err)
		}
		// A pid that is another's by now must not get the signal: this process would notice SIGTERM.
		if name == "mine" {
			err = r.Signal(unix.SIGCONT)
		} else {
			err = r.Signal(unix.SIGTERM)
		}
		if errors.Is(err, ErrOutOfReach) != out || !out && err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFind(t *testing.T) {
	one, two := testgroup.NewParent(t), testgroup.NewParent(t)
	for _, parent := range []string{one, two} {
		testgroup.New(t, parent+"/x", ledger.ThisOwner())
	}
	if _, err := Find("x", one, two); !errors.Is(err, ErrAmbiguous) {
		t.Errorf("the same name twice: %v", err)
	}
	if r, err := Find("x", one); err != nil || r.Cgroup != one+"/x" {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := Find(two + "/x"); err != nil || r.Cgroup != two+"/x" {
		t.Errorf("%+v, %v", r, err)
	}
	for _, name := range []string{"", "y", "/", one, one + "/y", one + "/../x"} {
		if r, err := Find(name, one); !errors.Is(err, ErrNoRun) {
			t.Errorf("%q: %+v, %v", name, r, err)
		}
	}
	// Whatever was found may be gone.
	r, err := Find("x", one)
	if err != nil {
		t.Fatal(err)
	}
	host, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	if err := ledger.Clean(context.Background(), host, r.Cgroup, ledger.ThisOwner(), nil); err != nil {
		t.Fatal(err)
	}
	for name, do := range map[string]func() error{"kill": r.Kill, "freeze": r.Freeze, "thaw": r.Thaw} {
		if err := do(); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s of a run that is gone: %v", name, err)
		}
	}
}

func TestSchemaFitsTypes(t *testing.T) {
	schematest.AssertFits(t, shim.Schema, "run", Running{})
}
