package ledger

import (
	"context"
	"errors"
	"path"
	"strings"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/shim/internal/sys"
)

// A Will says which group to kill and remove when the process that wrote it is dead. Of several the last one counts.
type Will struct {
	Cgroup  string   // "" is none
	Nested  string   // the group that its process was moved out of; "" is none
	Owner   string   // its groups' mark
	Sweep   string   // below which all groups of that owner go; "" is none. All such wills count
	Missing []string // see MissingParents
}

// Encode is the will on a line, without JSON, which needs a tenth of a millisecond to get ready. No path of a cgroup has
// a newline or a NUL in it.
func (w *Will) Encode() []byte {
	return []byte(strings.Join(append([]string{w.Cgroup, w.Nested, w.Owner, w.Sweep}, w.Missing...), "\x00") + "\n")
}

func decodeWill(line string) (Will, bool) {
	fields := strings.Split(line, "\x00")
	if len(fields) < 4 {
		return Will{}, false
	}
	return Will{fields[0], fields[1], fields[2], fields[3], fields[4:]}, true
}

// Execute does what the wills in a message say, as far as they were written. unnest moves this process back to a Will's Nested.
func Execute(message []byte, unnest func(host *cgroup.Host, base string) error) error {
	lines := strings.Split(string(message), "\n")
	if len(lines) < 2 {
		return nil // nothing was created yet
	}
	w, ok := decodeWill(lines[len(lines)-2])
	if !ok || w.Cgroup == "" && w.Nested == "" && w.Sweep == "" {
		return nil
	}
	host, err := cgroup.Detect()
	if err == nil && w.Cgroup != "" {
		err = CleanSoon(context.Background(), host, w.Cgroup, w.Owner, w.Missing)
	}
	for _, line := range lines {
		if w, ok := decodeWill(line); ok && w.Sweep != "" && err == nil {
			err = w.sweepAll(host)
		}
	}
	sys.CollectDescriptors()
	if err == nil && w.Nested != "" {
		err = unnest(host, w.Nested)
	}
	return err
}

// sweepAll removes all groups of the owner's below a parent: a pool has many runs.
func (w *Will) sweepAll(host *cgroup.Host) error {
	groups, err := Groups(host, w.Sweep, "")
	errs := []error{err}
	for _, group := range groups {
		if group.Owner == w.Owner || w.unmarked(host, group) {
			errs = append(errs, CleanSoon(context.Background(), host, group.Path, w.Owner, nil))
		}
	}
	// The parents, which were there for a group that was not made any more, or was removed.
	host.RemoveParents(path.Join(w.Sweep, "none"), w.Missing)
	return errors.Join(errs...)
}

// unmarked reports whether a group is one of the owner's that was killed before it could say so.
func (w *Will) unmarked(host *cgroup.Host, group Entry) bool {
	pid, _, _ := strings.Cut(w.Owner, " ")
	return group.Owner == "" && Automatic(group.Path) && strings.HasPrefix(strings.TrimPrefix(path.Base(group.Path), path.Base(DefaultParent)+"-"), pid+"-") && !populated(host, group.Path)
}
