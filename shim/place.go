package shim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/shim/internal/place"
)

// Who makes the group that a run's own is in: see Config.Manager.
const (
	ManagerAuto     = "auto"
	ManagerCgroupfs = "cgroupfs"
	ManagerSystemd  = "systemd"
)

// A Place is where a run's group is made, see Locate.
type Place struct {
	Manager string `json:"manager"` // ManagerCgroupfs or ManagerSystemd
	// Parent is the group in which the run's is made; with ManagerSystemd it is the slice of the scope that it
	// gets, "" for the manager's default.
	Parent string `json:"parent"`
	// Reason is why, for people.
	Reason string `json:"reason"`

	base string // the group that Parent is made in, or the scope; "" with a Parent that was asked for
	top  string // the highest group for whose children controllers may be enabled; "" is all
	// nest are processes to move out of base, which limits nobody while it has some of its own; all if nestAll.
	nest    []int
	nestAll bool
	undo    func() error // see leavePlace; nil is nothing
	unit    *unit        // the scope, with ManagerSystemd
}

// ErrOthers is for a group that would do, but for processes of others in it.
var ErrOthers = errors.New("the cgroup that we are in has processes of others, too")

// ErrForeign is for a run, a batch job or a service that we are in, whose limits are to hold, and that we may not
// make groups in.
var ErrForeign = errors.New("the cgroup that we are in, and whose limits are to hold, is somebody else's")

// errNotDelegated is for a controller that a user's manager does not have.
var errNotDelegated = errors.New("systemd has not delegated it to this user")

// Locate finds the place for a run's group. Of a Config it reads Manager, Parent and Nest. ours are the processes
// that may be moved for it.
//
//	asked for               --parent                                             below it
//	                        --manager systemd                                    a scope
//	in a run of cgshim's    v1, v2: its limits are to hold                       below that run's group
//	in a delegated unit     v2, systemd's host, or a user who can write there    below it
//	… of somebody else's    its limits are to hold                               an error
//	in a container          v2, and the mount is writable                        below its root
//	systemd's host          v2                                                   a scope
//	else                                                                         DefaultParent
//
// Nothing is changed by it.
func Locate(host *cgroup.Host, cfg *Config, ours ...int) (Place, error) {
	switch {
	case cfg.Parent != "" && cfg.Manager != ManagerSystemd:
		return Place{Manager: ManagerCgroupfs, Parent: cfg.Parent, Reason: "asked for by --parent"}, nil
	case cfg.Manager == ManagerSystemd:
		return systemdPlace(host, cfg.Parent, "asked for by --manager")
	}
	found, err := underOwn(host, cfg.Nest, ours)
	if err != nil || found.Manager != "" {
		return found, err
	}
	if host.Version() == cgroup.V2 && booted() && managed(host.Mounts(), "/") && cfg.Manager != ManagerCgroupfs {
		return systemdPlace(host, "", "systemd manages the hierarchy, and has not delegated us a part of it")
	}
	return Place{Manager: ManagerCgroupfs, Parent: DefaultParent, Reason: "no part of the hierarchy is ours in particular"}, nil
}

// underOwn looks for a place in the group that this process is in, or as near above it as possible. The zero Place
// is none.
func underOwn(host *cgroup.Host, nest bool, ours []int) (Place, error) {
	own, err := place.Own(host)
	if err != nil {
		return Place{}, nil // it can't be seen, so that it is no place
	}
	var others *Place
	reach := around(host, own)
	for _, group := range reach.groups {
		found := Place{Manager: ManagerCgroupfs, Parent: path.Join(group, "cgshim"), Reason: reach.reason, base: group, top: reach.top}
		if host.Version() == cgroup.V1 {
			return found, nil
		}
		members, err := place.Members(host, group)
		switch {
		case err != nil:
			return Place{}, err
		case len(members) == 0:
			return found, nil
		case !slices.ContainsFunc(members, func(pid int) bool { return !slices.Contains(ours, pid) }):
			found.nest = members
			return found, nil
		case others == nil:
			others = &found
		}
	}
	switch {
	case others == nil && reach.bound != "" && reach.bound != "/":
		return Place{}, &cgroup.Error{Op: "use", Path: reach.bound, Err: fmt.Errorf("%w: %w", ErrForeign, unix.EACCES)}
	case others == nil:
		return Place{}, nil
	case nest:
		others.nestAll = true
		return *others, nil
	}
	return Place{}, &cgroup.Error{Op: "use", Path: others.base, Err: fmt.Errorf("%w: %w", ErrOthers, cgroup.ErrPopulated)}
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
		if place.Manageable(host, group) == nil {
			r.top = group
			if r.bound == "" && (group != "/" || !place.IsRoot(host)) {
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
	mounts := []cgroup.Mount{place.Hierarchy(host)}
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
	case place.Delegated(host, group), delegatedByUser(host, group):
		return "we are in a unit whose cgroup systemd has delegated", true
	case group == "/" && !place.IsRoot(host):
		return "we are in a container, or a cgroup namespace, with a cgroup of its own", true
	}
	return "", false
}

// managed says whether a systemd, the system's or a user's, has its own processes below a group: all that is there
// is its to change, but for what it delegates.
func managed(mounts []cgroup.Mount, group string) bool {
	return place.Exists(mounts, path.Join(group, "init.scope"))
}

// isRun says whether a group is a run's.
func isRun(mounts []cgroup.Mount, path string) bool {
	_, ok := parseOwner(place.OwnerOf(mounts, path))
	return ok
}

// booted says whether systemd is this system's manager, see sd_booted(3).
func booted() bool {
	var st unix.Stat_t
	return unix.Lstat("/run/systemd/system", &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

const (
	// nestedGroup is where processes are moved that a group has to be rid of (--nest), and supervisorGroup where
	// those of cgshim itself are.
	nestedGroup     = "nested"
	supervisorGroup = "cgshim-supervisor"
)

// enterPlace makes the place fit for the run's group: with systemd by a scope that has the stage in it, else by moving
// processes. It returns the parent to create it in. leavePlace takes back what can be.
func (r *run) enterPlace(ctx context.Context) (parent string, err error) {
	p := &r.place
	switch {
	case p.Manager == ManagerSystemd:
		if err := r.startScope(ctx); err != nil {
			return "", err
		}
		if p.base, err = place.GroupOf(r.host, r.stage.PID()); err != nil {
			return "", err
		}
		p.undo = r.endScope
		err = place.Nest(r.host, p.base, supervisorGroup, r.stage.PID())
		parent, p.top = p.base, p.base
	case p.nestAll:
		err = place.Nest(r.host, p.base, nestedGroup)
		parent = p.Parent
	case len(p.nest) > 0:
		p.undo = func() error { return unnest(r.host, p.base) }
		if err := r.bequeath(""); err != nil {
			return "", err
		}
		err = place.Nest(r.host, p.base, supervisorGroup, p.nest...)
		parent = p.Parent
	default:
		parent = p.Parent
	}
	return parent, err
}

// unnest moves this process back. Somebody else who has come to need what is there is no error: he goes on.
func unnest(host *cgroup.Host, base string) error {
	err := place.Unnest(host, base, supervisorGroup, os.Getpid())
	if errors.Is(err, unix.EBUSY) {
		return nil
	}
	return err
}

// leavePlace takes back what enterPlace did, after the last process of the launch is gone.
func (r *run) leavePlace() {
	if r.place.undo == nil {
		return
	}
	r.stage.Close()
	if err := r.place.undo(); err != nil {
		r.noteError("remove", err)
	}
	r.place.undo = nil
}
