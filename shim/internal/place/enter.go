package place

import (
	"context"
	"errors"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/shim/internal/ledger"
)

// nestedGroup is where processes are moved that a group has to be rid of (--nest), and supervisorGroup where those of cgshim itself
// are.
const (
	nestedGroup     = "nested"
	supervisorGroup = "cgshim-supervisor"
)

// An Entry is what it takes to enter a Place.
type Entry struct {
	Host          *cgroup.Host
	Stage         int    // its pid
	Name, Program string // the run's name, and its program's; for systemd
	// Ask calls ask, with a context that ends when nobody wants to wait any longer. Then the error is fault.ErrToldToStop or
	// ErrNotStarted.
	Ask func(ask func(ctx context.Context) error) error
	// Bequeath is called before processes are moved, so that they are moved back whatever happens.
	Bequeath func() error
	// Later has leave called when the run, its group and its stage are gone.
	Later func(leave func() error)
	// Stays reports whether the run's group could not be emptied.
	Stays func() bool
}

// Enter makes the place fit for a run's group: with systemd by a scope that has the stage in it, else by moving
// processes. It returns the parent to create the group in. What can be taken back of that is, by Later.
func (p *Place) Enter(e *Entry) (parent string, err error) {
	parent = p.Parent
	switch {
	case p.Manager == Systemd:
		err = p.enterScope(e)
		parent = p.base
	case p.nestAll:
		err = Nest(e.Host, p.base, nestedGroup)
	case len(p.nest) > 0:
		e.Later(func() error { return unnest(e.Host, p.base) })
		if err := e.Bequeath(); err != nil {
			return "", err
		}
		err = Nest(e.Host, p.base, supervisorGroup, p.nest...)
	}
	return parent, err
}

// unnest moves this process back. Somebody else who has come to need what is there is no error: he goes on.
func unnest(host *cgroup.Host, base string) error {
	err := Unnest(host, base, supervisorGroup, os.Getpid())
	if errors.Is(err, unix.EBUSY) {
		return nil
	}
	return err
}

// UnnestLast is for a guardian: it moves this process back to the group that it was in, after guardians of the same pool, which are in
// supervisorGroup as well, have gone.
func UnnestLast(host *cgroup.Host, base string) error {
	for end := time.Now().Add(unnestPatience); ; time.Sleep(20 * time.Millisecond) {
		err := Unnest(host, base, supervisorGroup, os.Getpid())
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		if time.Now().After(end) {
			return nil // somebody else needs it
		}
	}
}

const unnestPatience = 2 * time.Second

// Top is the highest group for whose children controllers may be enabled; "" is all.
func (p *Place) Top() string { return p.top }

// Nested is the group that this process is moved out of; "" if it is not moved.
func (p *Place) Nested() string {
	if len(p.nest) == 0 {
		return ""
	}
	return p.base
}

// Scoped reports whether the place is a scope, made for this run.
func (p *Place) Scoped() bool { return p.unit != nil }

// OfUser reports whether it is a scope of a user's manager, which does not have every controller.
func (p *Place) OfUser() bool { return p.unit != nil && p.unit.user }

// Adopt moves another process of ours into the scope, if the place is one.
func (p *Place) Adopt(pid int) error {
	if p.unit == nil {
		return nil
	}
	return p.unit.adopt(pid)
}

// Scopes lists the scopes beside a place that is one.
func (p *Place) Scopes(host *cgroup.Host) []string {
	return ledger.Match(host, globQuote.Replace(path.Dir(p.base))+"/cgshim-*.scope")
}

// globQuote makes a pattern of a path: slices have backslashes in their names.
var globQuote = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)

// Parents lists the groups below which there may be runs of this caller's: ledger.DefaultParent, where Locate would put
// one, and the scopes that systemd has made for them.
func Parents(host *cgroup.Host) []string {
	parents := []string{ledger.DefaultParent, path.Dir(ledger.DefaultParent)}
	if place, err := Locate(host, Want{Nest: true}); err == nil && place.Manager == Cgroupfs && place.Parent != ledger.DefaultParent {
		parents = append(parents, place.Parent)
	}
	for _, pattern := range scopes() {
		parents = append(parents, ledger.Match(host, pattern)...)
	}
	return parents
}
