package ledger

import (
	"testing"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/internal/testgroup"
)

func TestWill(t *testing.T) {
	parent := testgroup.NewParent(t)
	host, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	group, err := host.Create(parent+"/run", cgroup.Options{Controllers: []cgroup.Controller{cgroup.Memory}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = group.Remove() }()
	line := string((&Will{Cgroup: group.Path(), Owner: ThisOwner()}).Encode())
	for name, message := range map[string]string{
		"nothing":        "",
		"cut off":        line[:len(line)-1],
		"none after all": line + string((&Will{Owner: ThisOwner()}).Encode()),
		"no will":        "?\n",
	} {
		if Execute([]byte(message), nil) != nil || !host.Exists(group.Path()) {
			t.Errorf("%s: the group is gone", name)
		}
	}
	if Execute([]byte(line+"/"), nil) != nil || host.Exists(group.Path()) {
		t.Error("the group is still there")
	}
}
