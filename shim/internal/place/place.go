// Package place is about where a run's cgroup is made, and how to make that place fit for it: which groups are around this process, what
// may be done there, and what those above forbid.
package place

import (
	"fmt"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/shim/internal/fault"
	"github.com/cgshim/cgshim/shim/internal/ledger"
	"github.com/cgshim/cgshim/shim/internal/sys"
)

// Who makes the group that a run's own is in.
const (
	Auto     = "auto"
	Cgroupfs = "cgroupfs"
	Systemd  = "systemd"
)

// A Place is where a run's group is made, see Locate.
type Place struct {
	Manager string `json:"manager"` // Cgroupfs or Systemd
	// Parent is the group in which the run's is made; with Systemd it is the slice of the scope that it
	// gets, "" for the manager's default.
	Parent string `json:"parent"`
	// Reason is why, for people.
	Reason string `json:"reason"`

	base string // the group that Parent is made in, or the scope; "" with a Parent that was asked for
	top  string // the highest group for whose children controllers may be enabled; "" is all
	// nest are processes to move out of base, which limits nobody while it has some of its own; all if nestAll.
	nest    []int
	nestAll bool
	unit    *unit // the scope, with Systemd
}

// A Want is what a run's caller has asked for.
type Want struct {
	Manager, Parent string
	Nest            bool
}

// Locate finds the place for a run's group. ours are the processes that may be moved for it.
//
//	asked for               --parent                                             below it
//	                        --manager systemd                                    a scope
//	in a run of cgshim's    v1, v2: its limits are to hold                       below that run's group
//	in a delegated unit     v2, systemd's host, or a user who can write there    below it
//	… of somebody else's    its limits are to hold                               an error
//	in a container          v2, and the mount is writable                        below its root
//	systemd's host          v2                                                   a scope
//	else                                                                         ledger.DefaultParent
//
// Nothing is changed by it.
func Locate(host *cgroup.Host, want Want, ours ...int) (Place, error) {
	switch {
	case want.Parent != "" && want.Manager != Systemd:
		return Place{Manager: Cgroupfs, Parent: want.Parent, Reason: "asked for by --parent"}, nil
	case want.Manager == Systemd:
		return systemdPlace(host, want.Parent, "asked for by --manager")
	}
	found, err := underOwn(host, want.Nest, ours)
	if err != nil || found.Manager != "" {
		return found, err
	}
	if host.Version() == cgroup.V2 && sys.SystemdBooted() && managed(host.Mounts(), "/") && want.Manager != Cgroupfs {
		return systemdPlace(host, "", "systemd manages the hierarchy, and has not delegated us a part of it")
	}
	return Place{Manager: Cgroupfs, Parent: ledger.DefaultParent, Reason: "no part of the hierarchy is ours in particular"}, nil
}

// underOwn looks for a place in the group that this process is in, or as near above it as possible. The zero Place
// is none.
func underOwn(host *cgroup.Host, nest bool, ours []int) (Place, error) {
	own, err := Own(host)
	if err != nil {
		return Place{}, nil // it can't be seen, so that it is no place
	}
	var others *Place
	reach := around(host, own)
	for _, group := range reach.groups {
		place := Place{Manager: Cgroupfs, Parent: path.Join(group, "cgshim"), Reason: reach.reason, base: group, top: reach.top}
		if host.Version() == cgroup.V1 {
			return place, nil
		}
		members, err := Members(host, group)
		switch {
		case err != nil:
			return Place{}, err
		case len(members) == 0:
			return place, nil
		case !slices.ContainsFunc(members, func(pid int) bool { return !slices.Contains(ours, pid) }):
			place.nest = members
			return place, nil
		case others == nil:
			others = &place
		}
	}
	switch {
	case others == nil && reach.bound != "" && reach.bound != "/":
		return Place{}, &cgroup.Error{Op: "use", Path: reach.bound, Err: fmt.Errorf("%w: %w", fault.ErrForeign, unix.EACCES)}
	case others == nil:
		return Place{}, nil
	case nest:
		others.nestAll = true
		return *others, nil
	}
	return Place{}, &cgroup.Error{Op: "use", Path: others.base, Err: fmt.Errorf("%w: %w", fault.ErrOthers, cgroup.ErrPopulated)}
}

// A reach is what this process may use of the hierarchy around it.
type reach struct {
	groups []string // from its own upwards, up to the first that bounds it
	top    string   // the highest in which controllers may be enabled for them
	reason string   // why they are ours, for people
	bound  string   // the group that bounds it; "" if none does
}

// around looks at the groups from our own upwards. Where systemd runs only what it has delegated is anybody
// else's; and root may change everything, which makes nothing its own.
func around(host *cgroup.Host, own string) reach {
	if os.Geteuid() == 0 && !bounded(host, own) {
		return reach{}
	}
	mounts := host.Mounts()
	r := reach{reason: "we are in a group that this user may change"}
	for group := own; ; group = path.Dir(group) {
		reason, bounds := bounds(host, mounts, group)
		if Manageable(host, group) == nil {
			r.top = group
			if r.bound == "" && (group != "/" || !IsRoot(host)) {
				r.groups = append(r.groups, group)
			}
		}
		if bounds && r.bound == "" {
			r.reason, r.bound = reason, group
		}
		switch {
		case bounds && !isRun(mounts, group):
			return r
		case group != "/" && !managed(mounts, group):
		case r.bound != "", os.Geteuid() != 0 && !managed(mounts, group):
			return r
		default:
			return reach{}
		}
	}
}

// bounded says whether there is a bound at a group, or above it, in the hierarchy in which the group was looked up.
func bounded(host *cgroup.Host, group string) bool {
	mounts := []cgroup.Mount{Hierarchy(host)}
	for ; ; group = path.Dir(group) {
		if _, bounds := bounds(host, mounts, group); bounds || group == "/" {
			return bounds
		}
	}
}

// bounds says that what is above a group is not ours, whatever we may do there, and why the group is.
func bounds(host *cgroup.Host, mounts []cgroup.Mount, group string) (reason string, yes bool) {
	switch {
	case isRun(mounts, group):
		return "we are in a run of cgshim's, whose limits are to hold", true
	case managed(mounts, group):
		return "", false
	case Delegated(host, group), delegatedByUser(host, group):
		return "we are in a unit whose cgroup systemd has delegated", true
	case group == "/" && !IsRoot(host):
		return "we are in a container, or a cgroup namespace, with a cgroup of its own", true
	}
	return "", false
}

// managed says whether a systemd, the system's or a user's, has its own processes below a group: all that is there
// is its to change, but for what it delegates.
func managed(mounts []cgroup.Mount, group string) bool {
	return Exists(mounts, path.Join(group, "init.scope"))
}

// isRun says whether a group is a run's.
func isRun(mounts []cgroup.Mount, path string) bool {
	_, ok := ledger.ParseOwner(OwnerOf(mounts, path))
	return ok
}
