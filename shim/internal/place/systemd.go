package place

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/shim/internal/fault"
	"github.com/cgshim/cgshim/shim/internal/ledger"
	"github.com/cgshim/cgshim/shim/internal/sys"
)

// On a host that systemd manages, a run gets a transient scope: a group that systemd makes, hands over (Delegate=),
// and forgets when it is empty. See org.freedesktop.systemd1(5).
//
//	cgshim                              systemd (system's, or user's)       stage
//	StartTransientUnit(PIDs=stage) ──▶  makes the scope, moves ───────────▶ in the scope
//	mkdir scope/cgshim-supervisor, and move it there ─────────────────────▶ in scope/cgshim-supervisor
//	enable controllers, mkdir scope/RUN
//	Launch ───────────────────────────────────────────────────────────────▶ clone3 into scope/RUN
//	…
//	rmdir scope/RUN; end the guardian, which is in scope/cgshim-supervisor
//	wait for the scope's end            sees that it is empty, and removes it
//
// Removing the scope's directory ourselves would be quicker, but its last event may then not reach systemd, which
// would keep a unit of nothing.
//
// cgshim itself stays where it is: a user's manager may not take it from there back again. And an unprivileged
// stage may only clone into a group below one that it is in itself.

// systemdTimeout is how long systemd may take, where a run that is cancelled waits for less. It needs milliseconds, or
// seconds on an emulated or busy machine. propertyTimeout is for a question that can do without an answer.
const (
	systemdTimeout  = 30 * time.Second
	propertyTimeout = 5 * time.Second
)

// A unit is a scope of ours.
type unit struct {
	name string
	user bool
}

// scopes are patterns of where systemd puts ours: the system's, and users' ones, in slices that may be in slices.
func scopes() (patterns []string) {
	for _, manager := range []string{"", "/user.slice/user-*.slice/user@*.service"} {
		for depth := 1; depth <= sliceDepth; depth++ {
			patterns = append(patterns, manager+strings.Repeat("/*.slice", depth)+"/cgshim-*.scope")
		}
	}
	return patterns
}

const sliceDepth = 4 // a-b-c-d.slice

// delegatedByUser says whether a group is that of a unit which the user's manager has delegated: before systemd 254 it
// does not mark them.
func delegatedByUser(host *cgroup.Host, group string) bool {
	kind := map[string]string{".scope": "Scope", ".service": "Service"}[path.Ext(group)]
	if os.Geteuid() == 0 || kind == "" || !sys.SystemdBooted() || Manageable(host, group) != nil {
		return false
	}
	u, delegated := &unit{name: path.Base(group), user: true}, false
	ctx, cancel := context.WithTimeout(context.Background(), propertyTimeout)
	defer cancel()
	err := u.call(ctx, func(ctx context.Context, conn *dbus.Conn) error {
		value, err := conn.GetUnitTypePropertyContext(ctx, u.name, kind, "Delegate")
		if err == nil {
			delegated, _ = value.Value.Value().(bool)
		}
		return err
	})
	return err == nil && delegated
}

// systemdPlace is a Place of Systemd.
func systemdPlace(host *cgroup.Host, slice, reason string) (Place, error) {
	if host.Version() != cgroup.V2 {
		return Place{}, fmt.Errorf("%w: --manager systemd takes cgroup v2", errors.ErrUnsupported)
	}
	if slice != "" && !strings.HasSuffix(slice, ".slice") {
		return Place{}, fault.Config("parent %q: with --manager systemd it has to be a slice", slice)
	}
	return Place{Manager: Systemd, Parent: slice, Reason: reason}, nil
}

// scopeName is the unit for a run's name. What a unit name can't have is escaped as systemd.unit(5) says.
func scopeName(name string) string {
	escaped := strings.NewReplacer("+", `\x2b`, "@", `\x40`).Replace(name)
	return "cgshim-" + escaped + ".scope"
}

// enterScope makes the run's scope, with the stage in it.
func (p *Place) enterScope(e *Entry) error {
	name := scopeName(e.Name)
	err := e.Ask(func(ctx context.Context) (err error) {
		p.unit, err = startScope(ctx, name, p.Parent, e.Program, e.Stage)
		return err
	})
	switch {
	case errors.Is(err, fault.ErrToldToStop), errors.Is(err, fault.ErrNotStarted):
		return &cgroup.Error{Op: "create", Path: name, Err: fmt.Errorf("%w: %w", fault.ErrUnanswered, err)}
	case err != nil:
		return err
	}
	if p.base, err = GroupOf(e.Host, e.Stage); err != nil {
		return err
	}
	p.top = p.base
	e.Later(func() error {
		if e.Stays() {
			return nil // systemd will see it end
		}
		return endScope(e.Host, p.base)
	})
	return Nest(e.Host, p.base, supervisorGroup, e.Stage)
}

// endScope lets systemd remove the scope, in which there is nothing of ours any more: who may write to its groups may
// have left the run's for another of them.
func endScope(host *cgroup.Host, base string) error {
	if scope, err := host.Open(base); err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), ledger.KillTimeout)
		defer cancel()
		if err := scope.Kill(ctx); err != nil && host.Exists(base) {
			return err
		}
	}
	return awaitRemoval(host, base)
}

// startScope makes a scope with one process in it, and returns when that is there.
func startScope(ctx context.Context, name, slice, program string, pid int) (*unit, error) {
	u := &unit{name: name, user: os.Geteuid() != 0}
	properties := []dbus.Property{
		dbus.PropDescription("cgshim " + strconv.Quote(program)),
		property("Delegate", true),
		property("CollectMode", "inactive-or-failed"), // so that nothing is left of it but the log
		property("TasksMax", uint64(math.MaxUint64)),  // else a share of the system's limit: ours is in the group below
		property("PIDs", []uint32{uint32(pid)}),
	}
	if slice != "" {
		properties = append(properties, dbus.PropSlice(path.Base(slice)))
	}
	err := u.call(ctx, func(ctx context.Context, conn *dbus.Conn) error {
		done := make(chan string, 1)
		if _, err := conn.StartTransientUnitContext(ctx, name, "fail", properties, done); err != nil {
			return err
		}
		select {
		case result := <-done:
			if result != "done" {
				return fmt.Errorf("the job ended as %q", result)
			}
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	if err != nil {
		return nil, err
	}
	return u, nil
}

// awaitRemoval waits until systemd has removed an empty scope.
func awaitRemoval(host *cgroup.Host, scope string) error {
	deadline := time.Now().Add(ledger.KillTimeout)
	for pause := time.Millisecond; host.Exists(scope); pause = min(2*pause, 4*time.Millisecond) {
		if time.Now().After(deadline) {
			return &cgroup.Error{Op: "remove", Path: scope, Err: errors.New("systemd does not remove it")}
		}
		time.Sleep(pause)
	}
	return nil
}

// adopt moves another process of ours into the scope.
func (u *unit) adopt(pid int) error {
	return u.call(context.Background(), func(ctx context.Context, conn *dbus.Conn) error {
		return conn.AttachProcessesToUnit(ctx, u.name, "/"+supervisorGroup, []uint32{uint32(pid)})
	})
}

func property(name string, value any) dbus.Property {
	return dbus.Property{Name: name, Value: godbus.MakeVariant(value)}
}

// call connects to systemd for one call.
func (u *unit) call(ctx context.Context, what func(context.Context, *dbus.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, systemdTimeout)
	defer cancel()
	conn, err := dialSystemd(ctx, u.user)
	if err == nil {
		defer conn.Close()
		err = what(ctx, conn)
	} else if ctx.Err() == nil {
		err = fmt.Errorf("%w: %w", fault.ErrNoSystemd, err)
	}
	var refused godbus.Error
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		err = fmt.Errorf("%w: %w", fault.ErrUnanswered, ctx.Err())
	case errors.As(err, &refused) && refused.Name == "org.freedesktop.systemd1.UnitExists":
		err = unix.EEXIST
	case errors.As(err, &refused) && strings.HasSuffix(refused.Name, ".AccessDenied"):
		err = fmt.Errorf("%w: %w", unix.EACCES, err)
	}
	return &cgroup.Error{Op: "create", Path: u.name, Err: err}
}

// dialSystemd connects to the manager itself, which takes no D-Bus daemon, or else by the bus.
func dialSystemd(ctx context.Context, user bool) (*dbus.Conn, error) {
	private, bus := "/run/systemd/private", dbus.NewSystemConnectionContext
	if user {
		private, bus = runtimeDir()+"/systemd/private", dbus.NewUserConnectionContext
	}
	conn, err := dbus.NewConnection(func() (*godbus.Conn, error) {
		conn, err := godbus.Dial("unix:path="+private, godbus.WithContext(ctx))
		if err == nil {
			err = conn.Auth([]godbus.Auth{godbus.AuthExternal(strconv.Itoa(os.Geteuid()))})
		}
		return conn, err
	})
	// Without an address of a session bus the library would try to start one.
	if err != nil && (!user || os.Getenv("DBUS_SESSION_BUS_ADDRESS") != "") {
		viaBus, busErr := bus(ctx)
		if busErr == nil {
			return viaBus, nil
		}
	}
	return conn, err
}

// runtimeDir is the user's, also where nobody has told us, as under cron(8) or su(1): see pam_systemd(8).
func runtimeDir() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return dir
	}
	return "/run/user/" + strconv.Itoa(os.Geteuid())
}
