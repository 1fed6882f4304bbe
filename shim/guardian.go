package shim

import (
	"context"
	"errors"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/reexec"
	"github.com/cgshim/cgshim/shim/internal/ledger"
	"github.com/cgshim/cgshim/shim/internal/place"
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
	cgroup  string // "" is none
	nested  string // the group that this process was moved out of, see Place; "" is none
	owner   string
	sweep   string   // below which all groups of that owner go; "" is none. All such wills count
	missing []string // see ledger.MissingParents
}

// encode is the will on a line, without JSON, which needs a tenth of a millisecond to get ready. No path of a cgroup has
// a newline or a NUL in it.
func (w *will) encode() []byte {
	return []byte(strings.Join(append([]string{w.cgroup, w.nested, w.owner, w.sweep}, w.missing...), "\x00") + "\n")
}

func decodeWill(line string) (will, bool) {
	fields := strings.Split(line, "\x00")
	if len(fields) < 4 {
		return will{}, false
	}
	return will{fields[0], fields[1], fields[2], fields[3], fields[4:]}, true
}

// sweepAll removes what there is of the owner's below a parent: a pool has many runs.
func (w *will) sweepAll(host *cgroup.Host) error {
	groups, err := ledger.Groups(host, w.sweep, "")
	errs := []error{err}
	for _, group := range groups {
		if group.Owner == w.owner || w.unmarked(host, group) {
			errs = append(errs, clean(context.Background(), host, group.Path, w.owner, nil))
		}
	}
	// The parents, which were there for a group that was not made any more, or was removed.
	host.RemoveParents(path.Join(w.sweep, "none"), w.missing)
	return errors.Join(errs...)
}

// unnestLast is unnest after guardians of the same pool, who are in that group as well, have gone.
func unnestLast(host *cgroup.Host, base string) error {
	for end := time.Now().Add(unnestPatience); ; time.Sleep(20 * time.Millisecond) {
		err := place.Unnest(host, base, supervisorGroup, os.Getpid())
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		if time.Now().After(end) {
			return nil // somebody else needs it
		}
	}
}

const unnestPatience = 2 * time.Second

// unmarked says whether a group is one of the owner's that was killed before it could say so.
func (w *will) unmarked(host *cgroup.Host, group ledger.Entry) bool {
	pid, _, _ := strings.Cut(w.owner, " ")
	return group.Owner == "" && automatic(group.Path) && strings.HasPrefix(strings.TrimPrefix(path.Base(group.Path), path.Base(DefaultParent)+"-"), pid+"-") && !populated(host, group.Path)
}

// bequeath is called before the group at a path is made, and with "" when there is none after all.
func (r *run) bequeath(path string) error {
	if r.slot != nil {
		return nil // the slot has
	}
	w := will{cgroup: path, owner: r.owner}
	if len(r.place.nest) > 0 {
		w.nested = r.place.base
	}
	if path != "" {
		w.missing = ledger.MissingParents(r.host, path)
	}
	return r.stage.Bequeath(w.encode())
}

// execute does what a will says, as far as it was written.
func execute(message []byte) int {
	lines := strings.Split(string(message), "\n")
	if len(lines) < 2 {
		return 0 // nothing was created yet
	}
	w, ok := decodeWill(lines[len(lines)-2])
	if !ok || w.cgroup == "" && w.nested == "" && w.sweep == "" {
		return 0
	}
	host, err := cgroup.Detect()
	if err == nil && w.cgroup != "" {
		err = clean(context.Background(), host, w.cgroup, w.owner, w.missing)
	}
	for _, line := range lines {
		if w, ok := decodeWill(line); ok && w.sweep != "" && err == nil {
			err = w.sweepAll(host)
		}
	}
	collectDescriptors()
	if err == nil && w.nested != "" {
		err = unnestLast(host, w.nested)
	}
	if err != nil {
		return ExitFailed
	}
	return 0
}
