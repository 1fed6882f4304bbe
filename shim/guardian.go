package shim

import (
	"bytes"
	"context"
	"encoding/json"
	"os"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/reexec"
)

// Before anything is created, the run leaves a will with its guardian (see package reexec): what there is
// to clean up if this process is killed. The guardian of a run that was killed executes this binary again,
// with the will, and it comes here.
func init() {
	if will, ok := reexec.Will(); ok {
		os.Exit(execute(will))
	}
}

// A will says which group to kill and remove. Of several the last one counts.
type will struct {
	Cgroup  string   `json:"cgroup"` // "" is none
	Nested  string   `json:"nested"` // the group that this process was moved out of, see Place; "" is none
	Owner   string   `json:"owner"`
	Missing []string `json:"missing"` // see cgroup.Host.MissingParents
}

// bequeath is called before the group at a path is made, and with "" when there is none after all.
func (r *run) bequeath(path string) error {
	w := will{Cgroup: path, Owner: r.owner}
	if len(r.place.nest) > 0 {
		w.Nested = r.place.base
	}
	if path != "" {
		w.Missing = r.host.MissingParents(path)
	}
	line, err := json.Marshal(w)
	if err != nil {
		return err
	}
	return r.stage.Bequeath(append(line, '\n'))
}

// execute does what a will says, as far as it was written.
func execute(message []byte) int {
	lines := bytes.Split(message, []byte("\n"))
	if len(lines) < 2 {
		return 0 // nothing was created yet
	}
	var w will
	if err := json.Unmarshal(lines[len(lines)-2], &w); err != nil || w.Cgroup == "" && w.Nested == "" {
		return 0
	}
	host, err := cgroup.Detect()
	if err == nil && w.Cgroup != "" {
		err = clean(context.Background(), host, w.Cgroup, w.Owner, w.Missing)
	}
	collectDescriptors()
	if err == nil && w.Nested != "" {
		err = unnest(host, w.Nested)
	}
	if err != nil {
		return ExitFailed
	}
	return 0
}
