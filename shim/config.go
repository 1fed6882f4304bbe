package shim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/reexec"
	"github.com/cgshim/cgshim/shim/internal/fault"
	"github.com/cgshim/cgshim/shim/internal/ledger"
	"github.com/cgshim/cgshim/shim/internal/lifeline"
	"github.com/cgshim/cgshim/shim/internal/place"
)

// A Config describes one run.
type Config struct {
	// Args is the program and its arguments. A program without a slash is looked up in the program's
	// own PATH.
	Args []string
	// Env is the program's environment, "key=value"; of entries with the same key the last one counts.
	// Nil is the caller's environment, with those of User.Environ in their places; empty and not nil is none.
	Env []string
	// KeepEnv keeps HOME, USER and LOGNAME as the caller has them, if Env is nil and there is a User.
	KeepEnv bool
	// Dir is the program's working directory. Empty is the caller's.
	Dir string
	// AllowNewPrivs lets set-user-ID programs gain privileges. False sets no_new_privs.
	AllowNewPrivs bool
	// Stdin, Stdout and Stderr become the program's descriptors 0, 1 and 2. Nil is the caller's own. Of those that are anonymous
	// pipes a User is enabled to open them once more, as /dev/stdin and the like: by their group and mode, which stay so.
	Stdin, Stdout, Stderr *os.File
	// MadeFiles are those of Stdout and Stderr that are files which were made for this run. A User may open them, too, while it lasts.
	MadeFiles []*os.File
	// ResultFDs are descriptors that results go to: their pipes a User can't open.
	ResultFDs []int
	// KeepFDs are descriptors, from 3 up, that the program inherits under the same numbers. Every other
	// one from 3 up is closed in it.
	KeepFDs []int
	// User is whom the program runs as, without capabilities unless that is root. Dir is entered, if the caller may not, and the
	// program looked up as this user. Nil is the caller's user, groups and capabilities.
	User *User
	// OOMScoreAdj is the program's oom_score_adj, see proc_pid_oom_score_adj(5): the higher, the sooner the kernel kills it
	// when memory is short. Nil is halfway from this process's, or from 0 if that is negative, to the highest, so that the
	// program dies before this process and its guardian; where that can't be set, as without /proc, it is inherited.
	// The least is MinOOMScoreAdj: with -1000 the kernel never kills the program, and Limits.Memory never ends it.
	OOMScoreAdj *int
	// Shield keeps the program from signalling, tracing and looking into processes outside of the run, this one among them, also if
	// it is the same user, or root: by Landlock's signal scope, since Linux 6.12. Empty is ShieldAuto, which goes on without it where it
	// can't be had; ShieldOn is an error there; ShieldOff is for programs whose job it is to signal others.
	Shield string
	// FSReadOnly are paths beneath which the program may read and execute files, and FSReadWrite those beneath which it may write, create,
	// rename, link and remove them, too: by Landlock, since Linux 6.2. FSSystem adds SystemPaths. With any of them the program can't
	// open, execute, list, create or remove anything else, nor mount. What it has open it keeps. Relative paths are the caller's.
	FSReadOnly, FSReadWrite []string
	FSSystem                bool
	// NoNetwork gives the program a network namespace with nothing but the loopback device. For a caller without CAP_SYS_ADMIN that is
	// one of a user namespace, in which the program has its user and group, whatever rights these have outside, and no capabilities.
	// AllowNewPrivs would do nothing there: together they are an error for such a caller, of step "usage".
	NoNetwork bool

	// Limits are the limits that the cgroup enforces. See their zero values.
	Limits cgroup.Limits
	// CPUTime is the CPU time that all processes of the run may use together. 0 is no limit. The run is
	// killed when a check finds it used up; checks are scheduled from the rest of the budget.
	CPUTime time.Duration
	// WallTime is the time that may pass between the program's start and its end. 0 is no limit.
	WallTime time.Duration
	// Grace is the time between the SIGTERM that the program gets when CPUTime or WallTime is used up, and
	// the SIGKILL to everything. 0 is SIGKILL at once.
	Grace time.Duration
	// OutputLimit is the number of bytes that the program may write to its descriptors 1 and 2 together. 0
	// is no limit. With one, the program writes to pipes of ours, and exactly so many bytes are passed on;
	// the next one ends the run. Bytes that can't be delivered, to others than a reader that is gone, make the
	// verdict Failed, unless there is a limit or a cancellation to blame.
	OutputLimit int64
	// Rlimits are set right before execve. Of several for one resource the last one counts.
	Rlimits []reexec.Rlimit
	// StopTimeout is how long the program may take to end after a stopping signal or the end of the
	// context, before everything is killed. 0 is DefaultStopTimeout; negative is at once.
	StopTimeout time.Duration
	// WaitAll makes the run end when its last process ends, and not when the program does.
	WaitAll bool
	// BestEffort goes on where a limit can't be enforced by a cgroup: with rlimits and the program's own
	// usage as far as they go. Result.Enforced says what enforces each limit, and Result.Warnings what is
	// missing. Without it that is an error.
	BestEffort bool
	// Subreaper says that the calling process has no children but those of this one run. Run then makes it the reaper of what the
	// program leaves behind, see PR_SET_CHILD_SUBREAPER in prctl(2): for the whole process, and for good. Orphans have it as
	// their parent, and are waited for as soon as they have ended, so that the dead are not in the way of Limits.PIDs; and
	// with BestEffort, and no cgroup, what outlives the program is found, and killed. Any other child that ends
	// would be waited for, too.
	Subreaper bool
	// ReapOrphans is what a process that has other children sets instead of Subreaper. It works for runs in a cgroup, from their
	// 20th millisecond on. Of the children that have ended only those are waited for that certainly were the run's: that were in
	// its group by what cgroup2 tells of the dead; or, on a host with cgroup v1 alone, were seen alive there. Orphans of other
	// processes that the caller has started become its children, too, for good, and are its own to wait for.
	ReapOrphans bool
	// ChildEvents, for a Subreaper that spares short runs the goroutine of os/signal, is called by a run that takes longer. It
	// returns an eventfd that does not wait, and becomes readable with each SIGCHLD; it stays the caller's. Nil: os/signal.
	ChildEvents func() (fd int, err error)
	// Alive are files whose end cancels the run, as SIGTERM does, also before there is a program: pipes, FIFOs or sockets
	// (SOCK_STREAM, SOCK_SEQPACKET) of which somebody else holds the other end, or pidfds. At most MaxAlive. They are read
	// from, and what comes is thrown away. The program does not get them; who has the other end must not give it to the
	// program either.
	Alive []*os.File

	// Name is the last element of the run's cgroup path. Empty makes one that is unique.
	Name string
	// Parent is the cgroup path above it, such as "/judge". Empty is a place that is found, see docs/hosts.md. What is missing of
	// it is created, and removed by the last run that uses it. With ManagerSystemd it is a slice.
	Parent string
	// Manager says who makes Parent: ManagerAuto, ManagerCgroupfs or ManagerSystemd. Empty is ManagerAuto.
	Manager string
	// Nest moves processes of others, too, to a group of their own below the one that they and this process are
	// in, if that is the place for the run. They stay there. False is to refuse that.
	Nest bool

	// Signals are forwarded to the program, but for those that are a TerminalSignal. SIGTERM, SIGINT, SIGHUP
	// and SIGQUIT also cancel the run; after SIGTSTP this process stops when the program has. Nil forwards
	// nothing. Install the handler before Run, so that no signal falls between.
	Signals <-chan os.Signal
	// SignalSource takes the place of Signals if that is nil, for who spares short runs the goroutine that feeds a channel.
	SignalSource SignalSource

	// OnEvent is called with each Event, from the goroutine of Run: while it has not returned, nobody
	// watches the run. Nil is nobody.
	OnEvent func(Event)
	// OnPhase is called when a phase of the run is over, with its name, from the goroutine of Run: for who wants to know
	// where the time goes. Nil is nobody.
	OnPhase func(name string)
	// Sample is how often the counters are read while the program runs, for Sample events and for figures
	// that the kernel tells only of the moment. 0 is never; the least is MinSample.
	Sample time.Duration
}

// Who makes the group that a run's own is in: see Config.Manager.
const (
	ManagerAuto     = place.Auto
	ManagerCgroupfs = place.Cgroupfs
	ManagerSystemd  = place.Systemd
)

const (
	// DefaultStopTimeout is what a zero Config.StopTimeout means.
	DefaultStopTimeout = 5 * time.Second
	// DefaultParent is where runs that have a name are if nothing speaks for another place, see docs/hosts.md. It exists while there are
	// such runs. Those without a name are beside it, named DefaultParent-PID-RANDOM: a parent that each run makes and removes
	// again would be a tenth of its time.
	DefaultParent = ledger.DefaultParent // "/cgshim"
	// MaxAlive is how many files Config.Alive may have.
	MaxAlive = lifeline.Most
	// MinSample is the least Config.Sample.
	MinSample = time.Millisecond
)

// maxName leaves room in a directory entry; a run's name is also shown in tables.
const maxName = 200

// maxKeep is what fits, with everything else, into one message of descriptors (SCM_MAX_FD, 253).
const maxKeep = 128

// ErrConfig is in the chain of every error that Validate returns.
var ErrConfig = fault.ErrConfig

// Validate reports the first field that makes no sense, without touching the system.
func (c *Config) Validate() error {
	switch {
	case len(c.Args) == 0 || c.Args[0] == "":
		return configError("no program given")
	case c.CPUTime < 0:
		return configError("negative CPU time limit %v", c.CPUTime)
	case c.WallTime < 0:
		return configError("negative wall time limit %v", c.WallTime)
	case c.Grace < 0:
		return configError("negative grace %v", c.Grace)
	case c.OutputLimit < 0:
		return configError("negative output limit %d", c.OutputLimit)
	case c.Manager != "" && CheckManager(c.Manager) != nil:
		return configError("manager %q: %w", c.Manager, CheckManager(c.Manager))
	case c.OOMScoreAdj != nil && (*c.OOMScoreAdj < MinOOMScoreAdj || *c.OOMScoreAdj > MaxOOMScoreAdj):
		return configError("oom_score_adj %d: want %d to %d", *c.OOMScoreAdj, MinOOMScoreAdj, MaxOOMScoreAdj)
	case c.Sample != 0 && c.Sample < MinSample:
		return configError("sampling every %v: the least is %v", c.Sample, MinSample)
	}
	for _, s := range slices.Concat([]string{c.Dir, c.Parent}, c.Args, c.Env, c.FSReadOnly, c.FSReadWrite) {
		if strings.ContainsRune(s, 0) {
			return configError("NUL byte in %.40q", s)
		}
	}
	for _, kv := range c.Env {
		if i := strings.IndexByte(kv, '='); i <= 0 {
			return configError("environment entry %.40q is not KEY=VALUE", kv)
		}
	}
	if c.Name != "" {
		if err := CheckName(c.Name); err != nil {
			return configError("name %.40q: %w", c.Name, err)
		}
	}
	if c.Parent != "" {
		if err := CheckParent(c.Parent); err != nil {
			return configError("parent %.40q: %w", c.Parent, err)
		}
	}
	if err := c.Limits.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	for _, r := range c.Rlimits {
		name := rlimitName(r.Resource)
		switch {
		case name == "":
			return configError("no such resource limit: %d", r.Resource)
		case r.Soft > r.Hard:
			return configError("resource limit %s: the soft limit %d is above the hard one, %d", name, r.Soft, r.Hard)
		}
	}
	if err := c.checkConfined(); err != nil {
		return err
	}
	return c.checkDescriptors()
}

// checkDescriptors refuses to keep what is not there: the program would get nothing, or something else.
func (c *Config) checkDescriptors() error {
	if len(c.KeepFDs) > maxKeep {
		return configError("%d descriptors to keep: the most is %d", len(c.KeepFDs), maxKeep)
	}
	for _, fd := range c.KeepFDs {
		if fd < 3 {
			return configError("descriptor %d is always the program's", fd)
		}
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
			return configError("descriptor %d is not open", fd)
		}
	}
	if len(c.Alive) > MaxAlive {
		return configError("%d files to stay alive by: the most is %d", len(c.Alive), MaxAlive)
	}
	for _, file := range c.Alive {
		if file == nil {
			return configError("a file to stay alive by is nil")
		}
		if err := CheckAlive(int(file.Fd())); err != nil {
			return configError("descriptor %d: %w", file.Fd(), err)
		}
		if slices.Contains(c.KeepFDs, int(file.Fd())) {
			return configError("descriptor %d is to keep, and to stay alive by", file.Fd())
		}
	}
	return nil
}

func configError(format string, args ...any) error { return fault.Config(format, args...) }

// A SignalSource has the signals for a run.
type SignalSource interface {
	// Pending takes those that have come. It does not wait.
	Pending() []os.Signal
	// Channel is called once by a run that takes longer, instead of Pending from then on.
	Channel() <-chan os.Signal
}

// CheckName says what is wrong with a Config.Name: it has to stay inside one directory, and printable.
func CheckName(name string) error {
	ok := name != "" && len(name) <= maxName
	for i, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		ok = ok && (letter || i > 0 && strings.ContainsRune("-_.:@+", rune(c)))
	}
	if !ok {
		return fmt.Errorf("want at most %d letters, digits and -_.:@+, beginning with a letter or digit", maxName)
	}
	return nil
}

// CheckParent says what is wrong with a Config.Parent.
func CheckParent(parent string) error {
	if !strings.HasPrefix(parent, "/") || parent != "/" && path.Clean(parent) != parent {
		return errors.New("want an absolute path below the cgroup mount points, in its shortest form")
	}
	return nil
}

// CheckManager says what is wrong with a Config.Manager.
func CheckManager(manager string) error {
	switch manager {
	case ManagerAuto, ManagerCgroupfs, ManagerSystemd:
		return nil
	}
	return errors.New("want auto, cgroupfs or systemd")
}

// runName is the name of a run's group.
func (c *Config) runName() string {
	if c.Name != "" {
		return c.Name
	}
	// The pid is for people; containers that share a hierarchy may have the same one.
	return strconv.Itoa(os.Getpid()) + "-" + strconv.FormatUint(1<<32|uint64(rand.Uint32()), 16)[1:]
}

// environment is the program's environment: no duplicates, so that every libc sees the same value.
func (c *Config) environment() []string {
	source := c.Env
	if source == nil {
		source = c.callersEnv()
	}
	last := make(map[string]int, len(source))
	for i, kv := range source {
		key, _, _ := strings.Cut(kv, "=")
		last[key] = i
	}
	env := make([]string, 0, len(last))
	for i, kv := range source {
		if key, _, _ := strings.Cut(kv, "="); last[key] == i {
			env = append(env, kv)
		}
	}
	return env
}

func (c *Config) stopTimeout() time.Duration {
	switch {
	case c.StopTimeout == 0:
		return DefaultStopTimeout
	case c.StopTimeout < 0:
		return 0
	}
	return c.StopTimeout
}
