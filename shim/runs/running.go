// Package runs finds the runs of cgshim that are under way, whoever has started them, and controls them from outside. It also removes
// those whose cgshim is dead (sweep.go).
package runs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/shim"
	"github.com/cgshim/cgshim/shim/internal/jsonline"
	"github.com/cgshim/cgshim/shim/internal/ledger"
	"github.com/cgshim/cgshim/shim/internal/place"
	"github.com/cgshim/cgshim/shim/internal/seam"
	"github.com/cgshim/cgshim/shim/internal/sys"
)

// The states of a Running.
const (
	StateRunning = "running"
	StateFrozen  = "frozen"
	StateStale   = "stale"   // its cgshim is dead: Sweep is for it
	StateUnknown = "unknown" // its cgshim is in another pid or time namespace, or not a process of the user whose group says so
)

// Running is a run of some cgshim that is under way, from outside. It has a JSON form of one line; nil (null in
// JSON) is unknown, never 0.
//
// In JSON: A run that is under way: a line of cgshim ps --json and cgshim stat --json.
type Running struct {
	Type          string `json:"type" jsonschema:"const=run"`
	SchemaVersion int    `json:"schema_version" jsonschema:"const=1"`
	// The last element of cgroup.
	Name string `json:"name" jsonschema:"minLength=1"`
	// The path of the run's cgroup below each mount point.
	Cgroup string `json:"cgroup" jsonschema:"pattern=^/"`
	// stale: its cgshim is dead, and cgshim gc is for it; unknown: its cgshim is in another pid or time namespace, or not a
	// process of the user whose cgroup says so.
	State string `json:"state" jsonschema:"words=State"`
	// The process id of its cgshim; nil if that is not here.
	CgshimPID *int `json:"cgshim_pid" jsonschema:"minimum=1"`
	// The program's process id; nil if it is not known, or the program has ended.
	PID *int `json:"pid" jsonschema:"minimum=1"`
	// The program's arguments as they are now; empty if they are not known.
	Argv []string `json:"argv"`
	// Since the program's creation.
	WallSeconds *shim.Seconds `json:"wall_seconds"`
	shim.Usage

	owner ledger.Owner
	pool  bool // of a Pool's runs
	uid   int  // who says that it is the owner
	host  *cgroup.Host
}

// JSON is the run on one line, with a newline.
func (r *Running) JSON() []byte { return jsonline.Encode(r, false) }

var (
	// ErrNoRun is for a name that no run has.
	ErrNoRun = errors.New("there is no such run")
	// ErrAmbiguous is for a name that several runs have, below different parents.
	ErrAmbiguous = errors.New("several runs have that name: say the whole cgroup")
	// ErrOutOfReach is for a cgshim that can't be signalled: it is dead, or StateUnknown.
	ErrOutOfReach = errors.New("its cgshim is dead, in another pid or time namespace, or not its user's: only SIGKILL reaches the run")
)

// List finds the runs below some parents, or if none are given, those below which a run of this caller's may be. What ends meanwhile is
// left out.
func List(parents ...string) ([]*Running, error) {
	host, err := seam.Detect()
	if err != nil {
		return nil, err
	}
	if len(parents) == 0 {
		parents = place.Parents(host)
	}
	var list []*Running
	for _, parent := range parents {
		groups, err := ledger.Groups(host, parent, "")
		if err != nil {
			return nil, err
		}
		for _, group := range groups {
			if r, ok := lookAt(host, group); ok {
				list = append(list, r)
			}
		}
	}
	slices.SortFunc(list, func(a, b *Running) int { return strings.Compare(a.Cgroup, b.Cgroup) })
	return slices.CompactFunc(list, func(a, b *Running) bool { return a.Cgroup == b.Cgroup }), nil
}

// Find is the run of a name, or of a whole cgroup path, among those of List.
func Find(name string, parents ...string) (*Running, error) {
	if strings.HasPrefix(name, "/") {
		parents = []string{path.Dir(name)}
	}
	list, err := List(parents...)
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(r *Running) bool { return r.Name != name && r.Cgroup != name })
	switch len(list) {
	case 0:
		return nil, fmt.Errorf("%q: %w", name, ErrNoRun)
	case 1:
		return list[0], nil
	}
	return nil, fmt.Errorf("%q: %w, such as %q", name, ErrAmbiguous, list[0].Cgroup)
}

// lookAt makes a Running of a group, if it is one.
func lookAt(host *cgroup.Host, entry ledger.Entry) (*Running, bool) {
	o, ok := ledger.ParseOwner(entry.Owner)
	if !ok {
		return nil, false
	}
	group, err := host.Open(entry.Path)
	if err != nil {
		return nil, false
	}
	if populated, err := group.Populated(); err == nil && !populated && ledger.Automatic(entry.Path) && !o.Dead() {
		return nil, false // a run that is about to begin, or over: or a pool's, made ahead
	}
	stats, err := group.Stats(cgroup.Sample)
	if err != nil {
		return nil, false
	}
	r := &Running{
		Type: "run", SchemaVersion: shim.SchemaVersion, Name: path.Base(entry.Path), Cgroup: entry.Path,
		State: StateRunning, Argv: []string{}, Usage: shim.UsageOf(&stats), owner: o, pool: ledger.OfPool(entry.Owner), uid: entry.UID, host: host,
	}
	frozen, err := group.Frozen()
	switch {
	case o.Dead():
		r.State = StateStale
		return r, err == nil
	case !o.Visible(), !o.Vouched(entry.UID):
		r.State = StateUnknown
		return r, err == nil
	case frozen:
		r.State = StateFrozen
	}
	r.CgshimPID = &o.PID
	pids, err := group.Procs()
	var program sys.Process // the first child; with CLONE_PARENT it can make more of them
	for _, pid := range pids {
		if p, err := sys.ReadProcess(pid); err == nil && p.Parent == o.PID && (program.PID == 0 || p.Started < program.Started) {
			program = p
		}
	}
	if program.PID != 0 {
		r.describe(program)
	}
	return r, err == nil
}

// describe notes what there is to say of the program.
func (r *Running) describe(p sys.Process) {
	r.PID = &p.PID
	if line, err := os.ReadFile("/proc/" + strconv.Itoa(p.PID) + "/cmdline"); err == nil && len(line) > 0 {
		r.Argv = strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
	}
	const userHZ = 100 // in which proc(5) counts on amd64 and arm64
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) == nil {
		wall := shim.Seconds(max(time.Duration(now.Nano())-time.Duration(p.Started)*(time.Second/userHZ), 0).Seconds())
		r.WallSeconds = &wall
	}
}

// Signal sends a signal to the run's cgshim, which passes it on as shim.Config.Signals says. Of a shim.Pool, whose process
// has many runs, it goes to the program. For SIGKILL see Kill.
func (r *Running) Signal(sig unix.Signal) error {
	fail := func(err error) error { return fmt.Errorf("%q: %w", r.Name, err) }
	if r.CgshimPID == nil {
		return fail(ErrOutOfReach)
	}
	target := r.owner.PID
	if r.pool {
		if r.PID == nil {
			return fail(ErrNoRun) // it has just ended
		}
		target = *r.PID
	}
	fd, err := unix.PidfdOpen(target, 0)
	switch {
	case err == nil:
		defer unix.Close(fd)
	case errors.Is(err, unix.ESRCH), errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		return fail(os.NewSyscallError("pidfd_open", err))
	default: // before Linux 5.3, or a seccomp filter refuses the call: the pid has to do
		fd = -1
	}
	// By now the pid is held; was it still the same one?
	if r.owner.Dead() || !r.owner.Vouched(r.uid) {
		return fail(ErrOutOfReach)
	}
	if p, err := sys.ReadProcess(target); r.pool && (err != nil || p.Parent != r.owner.PID) {
		return fail(ErrNoRun)
	}
	if fd >= 0 {
		err = unix.PidfdSendSignal(fd, sig, nil, 0)
	}
	if fd < 0 || err != nil && !errors.Is(err, unix.ESRCH) {
		err = unix.Kill(target, sig)
	}
	if err != nil {
		return fail(os.NewSyscallError("kill", err))
	}
	return nil
}

// Kill kills every process of the run, and returns when none is left: the run ends by itself then.
func (r *Running) Kill() error { return r.do((*cgroup.Group).Kill) }

// Freeze stops every process of the run. Its limits of time go on, and it can be killed.
func (r *Running) Freeze() error { return r.do((*cgroup.Group).Freeze) }

// Thaw lets them continue.
func (r *Running) Thaw() error { return r.do((*cgroup.Group).Thaw) }

// do works on the run's group, for as long as ledger.KillTimeout.
func (r *Running) do(what func(*cgroup.Group, context.Context) error) error {
	group, err := r.host.Open(r.Cgroup)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), ledger.KillTimeout)
	defer cancel()
	return what(group, ctx)
}
