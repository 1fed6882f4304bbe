package shim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/internal/capability"
	"github.com/cgshim/cgshim/shim/internal/confine"
)

// What Config.Shield can be. Empty is ShieldAuto.
const (
	ShieldAuto = "auto"
	ShieldOn   = "on"
	ShieldOff  = "off"
)

// CheckShield says what is wrong with a Config.Shield.
func CheckShield(shield string) error {
	switch shield {
	case ShieldAuto, ShieldOn, ShieldOff:
		return nil
	}
	return errors.New("want auto, on or off")
}

// SystemPaths are what Config.FSSystem allows: to be read and executed, and to be written, too.
func SystemPaths() (readOnly, readWrite []string) {
	return confine.SystemReadOnly[:], confine.SystemReadWrite[:]
}

func (c *Config) policy() confine.Policy {
	return confine.Policy{
		Shield: c.Shield != ShieldOff, Optional: c.Shield != ShieldOn, Loose: c.BestEffort,
		ReadOnly: c.FSReadOnly, ReadWrite: c.FSReadWrite, System: c.FSSystem,
	}
}

// mustConfine says that the program must not run without a ruleset: if the Config asks for files, or for the shield by ShieldOn.
func (c *Config) mustConfine() bool {
	policy := c.policy()
	return c.Shield == ShieldOn || policy.Files()
}

// checkConfined refuses what the kernel would: with set-user-ID programs, a process that may not do everything anyway may not
// restrict itself, for they would not expect that.
func (c *Config) checkConfined() error {
	if c.Shield != "" && CheckShield(c.Shield) != nil {
		return configError("shield %.40q: %w", c.Shield, CheckShield(c.Shield))
	}
	if slices.Contains(c.FSReadOnly, "") || slices.Contains(c.FSReadWrite, "") {
		return configError("a path for the program is empty")
	}
	if c.AllowNewPrivs && c.mustConfine() && !capability.Effective(unix.CAP_SYS_ADMIN) {
		return configError("set-user-ID programs (--allow-new-privs), and --shield on or --fs-*: together they take CAP_SYS_ADMIN")
	}
	return nil
}

// confine makes the ruleset by which the program restricts itself.
func (res *resources) confine(ctx context.Context) error {
	cfg, policy, must := res.cfg, res.cfg.policy(), res.cfg.mustConfine()
	switch {
	case !policy.Shield && !policy.Files():
		return nil
	case cfg.AllowNewPrivs && !must && !capability.Effective(unix.CAP_SYS_ADMIN):
		res.report.warn("shield: set-user-ID programs (--allow-new-privs) go without, unless cgshim has CAP_SYS_ADMIN")
		return nil
	}
	made, err := res.makeRuleset(ctx, &policy)
	var path *confine.PathError
	switch {
	case err == nil:
	case errors.As(err, &path):
		flag := "--fs-ro"
		if path.ReadWrite {
			flag = "--fs-rw"
		}
		return at("usage", configError("%s %q: %w", flag, path.Path, path.Err))
	case must && !(cfg.BestEffort && confine.Unsupported(err)):
		return at("landlock", err)
	case must:
		res.report.warn("landlock: %v", err)
		return nil
	case confine.Unsupported(err): // a warning in each result would be noise: doctor tells
		return nil
	default: // out of memory, or what a filter says
		res.report.warn("shield: %v", err)
		return nil
	}
	res.ruleset = &made
	for _, lacking := range made.Lacking {
		res.report.warn("landlock: %s", lacking)
	}
	return nil
}

func (res *resources) closeRuleset() {
	if res.ruleset != nil {
		_ = unix.Close(res.ruleset.FD)
		res.ruleset = nil
	}
}

// makeRuleset makes it. Who looks paths up may have to wait for a file system, but not for ever: see monitor.Launch.
func (res *resources) makeRuleset(ctx context.Context, policy *confine.Policy) (confine.Ruleset, error) {
	if !policy.Files() {
		return policy.Ruleset()
	}
	type outcome struct {
		made confine.Ruleset
		err  error
	}
	if err := canMakeTimers(); err != nil {
		return confine.Ruleset{}, err
	}
	done, gaveUp := make(chan outcome), make(chan struct{})
	go func() {
		select {
		case lookups <- struct{}{}:
			defer func() { <-lookups }()
		case <-gaveUp:
			return
		}
		made, err := policy.Ruleset()
		select {
		case done <- outcome{made, err}:
		case <-gaveUp:
			if err == nil {
				_ = unix.Close(made.FD)
			}
		}
	}()
	select {
	case o := <-done:
		return o.made, o.err
	case <-time.After(slowLookup):
	}
	ctx, unwatch := res.alive.Context(ctx)
	defer unwatch()
	stop := res.launching.Supervise(ctx, sync.OnceFunc(func() { close(gaveUp) }))
	var o outcome
	select {
	case o = <-done:
		stop()
	case <-gaveUp:
		stop()
		o.err = fmt.Errorf("paths of --fs-ro and --fs-rw: %w", res.launching.GaveUp)
	}
	return o.made, o.err
}

// slowLookup is when looking up paths takes long.
const slowLookup = 20 * time.Millisecond

// lookups are those that go on. Who was given up goes on, too, until its file system answers, and has a thread: so there may be only
// so many.
var lookups = make(chan struct{}, 256)

// confined notes what a ruleset enforces, or that there is none: nil.
func (r *report) confined(ruleset *confine.Ruleset) {
	by := func(landlock bool) string {
		if landlock {
			return ByLandlock
		}
		return ByNothing
	}
	policy := r.cfg.policy()
	if policy.Files() {
		r.enforced("fs", by(ruleset != nil))
	}
	if policy.Shield {
		r.enforced("shield", by(ruleset != nil && ruleset.Shield))
	}
}
