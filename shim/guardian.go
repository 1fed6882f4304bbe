package shim

import (
	"os"

	"github.com/cgshim/cgshim/reexec"
	"github.com/cgshim/cgshim/shim/internal/ledger"
	"github.com/cgshim/cgshim/shim/internal/place"
)

// Before anything is created, the run leaves a will with its guardian (see package reexec): what there is
// to clean up if this process is killed. The guardian of a run that was killed executes this binary again,
// with the will, and it comes here.
func init() {
	will, ok := reexec.Will()
	if !ok {
		return
	}
	if ledger.Execute(will, place.UnnestLast) != nil {
		os.Exit(ExitFailed)
	}
	os.Exit(0)
}

// bequeath is called before the group at a path is made, and with "" when there is none after all.
func (res *resources) bequeath(path string) error {
	w := ledger.Will{Cgroup: path, Owner: res.owner, Nested: res.place.Nested()}
	if path != "" {
		w.Missing = ledger.MissingParents(res.host, path)
	}
	return res.stage.Bequeath(w.Encode())
}
