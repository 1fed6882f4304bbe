package shim

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/shim/internal/ledger"
)

// An owner is the process that a group belongs to. A pid alone would be anybody's some day; together with
// the start time it is one process's until the machine boots, which no group survives.
type owner struct {
	pid     int
	started uint64 // in clock ticks since boot, see proc(5)
	pidns   uint64 // the pid and
	timens  uint64 // the time namespace in which all of that is so; 0 before Linux 5.6
}

// thisOwner is this process as an owner; "" if /proc does not tell.
var thisOwner = sync.OnceValue(func() string {
	pid := os.Getpid()
	self, err := thisProcess()
	o := owner{pid: pid, started: self.started, pidns: namespace("pid"), timens: namespace("time")}
	if err != nil || o.pidns == 0 {
		return ""
	}
	return o.String()
})

// poolMark is behind the owner of a pool's groups: a signal to that process is for all of its runs.
const poolMark = " pool"

// thisProcess is what /proc tells of this process, of what does not change.
var thisProcess = sync.OnceValues(func() (process, error) { return readProcess(os.Getpid()) })

// onTerminal says whether this process has a controlling terminal.
func onTerminal() bool {
	self, err := thisProcess()
	return err == nil && self.terminal
}

// poolOwner is thisOwner for the groups of a Pool.
func poolOwner() string {
	if owner := thisOwner(); owner != "" {
		return owner + poolMark
	}
	return ""
}

// namespace identifies one that this process is in; 0 if /proc does not tell, or there is no such kind.
func namespace(kind string) uint64 {
	var st unix.Stat_t
	if unix.Stat("/proc/self/ns/"+kind, &st) != nil {
		return 0
	}
	return st.Ino
}

func (o owner) String() string {
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	return strconv.Itoa(o.pid) + " " + number(o.started) + " " + number(o.pidns) + " " + number(o.timens)
}

func parseOwner(s string) (o owner, ok bool) {
	if s == "" {
		return o, false
	}
	n, err := fmt.Sscanf(s, "%d %d %d %d", &o.pid, &o.started, &o.pidns, &o.timens)
	return o, n == 4 && err == nil
}

// visible says whether the owner, if it lives, is one of the processes in our /proc, with the same numbers there.
func (o owner) visible() bool {
	return o.pidns != 0 && o.pidns == namespace("pid") && o.timens == namespace("time")
}

// dead says whether an owner is certainly not alive any more.
func (o owner) dead() bool {
	if !o.visible() {
		return false
	}
	p, err := readProcess(o.pid)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
		return true
	}
	return err == nil && (p.started != o.started || p.zombie)
}

// vouched says whether a group of some user's can be that process's. Who may write to a group's directory can have it
// name any process as its owner: it is believed of root, and of a process that is in no way another user's.
func (o owner) vouched(uid int) bool {
	if uid == 0 {
		return true
	}
	status, err := os.ReadFile("/proc/" + strconv.Itoa(o.pid) + "/status")
	if err != nil {
		return false
	}
	_, uids, _ := strings.Cut(string(status), "\nUid:") // the real, effective, saved and file system one
	uids, _, _ = strings.Cut(uids, "\n")
	fields := strings.Fields(uids)
	return len(fields) == 4 && !slices.ContainsFunc(fields, func(field string) bool { return field != strconv.Itoa(uid) })
}

// Swept is what Sweep has done about one group.
type Swept struct {
	Cgroup string
	Err    error // why it could not be removed
}

// unmarkedAge is how long Sweep watches a group that says nothing of its owner. Between a group's creation
// and its mark are microseconds.
const unmarkedAge = time.Second

// Sweep kills and removes the groups below some parents that a run has left whose process is dead: of both a run
// and its guardian that were killed with SIGKILL. Groups whose owner lives, or can't be seen because it is in
// another pid or time namespace, and groups that are no runs, stay. No parents is all that Parents finds.
func Sweep(ctx context.Context, parents ...string) ([]Swept, error) {
	host, err := detect()
	if err != nil {
		return nil, err
	}
	if len(parents) == 0 {
		parents = Parents(host)
	}
	stale, unmarked, err := findStale(host, parents)
	if err != nil {
		return nil, err
	}
	if len(unmarked) > 0 {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(unmarkedAge):
		}
		_, still, err := findStale(host, parents)
		if err != nil {
			return nil, err
		}
		for _, group := range unmarked {
			// It is one that was killed before it could mark its group, which is empty then; or one that can't mark groups.
			if slices.Contains(still, group) && !populated(host, group.Path) {
				stale = append(stale, group)
			}
		}
	}
	return cleanAll(ctx, host, stale), nil
}

// populated says whether somebody is in a group, or may be.
func populated(host *cgroup.Host, path string) bool {
	g, err := host.Open(path)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	populated, err := g.Populated()
	return populated || err != nil
}

func cleanAll(ctx context.Context, host *cgroup.Host, groups []ledger.Entry) (list []Swept) {
	for _, group := range groups {
		if ctx.Err() != nil {
			break
		}
		list = append(list, Swept{group.Path, clean(ctx, host, group.Path, group.Owner, nil)})
	}
	return list
}

// sweepMost is how many groups a run looks at, of those beside its own; sweepRarely has it do so, where there are more,
// not each time: else a thousand runs at once would each list a thousand groups.
const (
	sweepMost   = 64
	sweepRarely = 16
)

// Parents lists the groups below which there may be runs of this caller's: DefaultParent, where Locate would put
// one, and the scopes that systemd has made for them.
func Parents(host *cgroup.Host) []string {
	parents := []string{DefaultParent, path.Dir(DefaultParent)}
	if place, err := Locate(host, &Config{Nest: true}); err == nil && place.Manager == ManagerCgroupfs && place.Parent != DefaultParent {
		parents = append(parents, place.Parent)
	}
	for _, pattern := range scopes() {
		parents = append(parents, ledger.Match(host, pattern)...)
	}
	return parents
}

// sweep cleans up, while the program runs, after earlier runs whose owner is certainly dead. It returns what
// ends it.
func (r *run) sweep() (stop func()) {
	parents := []string{path.Dir(r.group.Path())}
	switch {
	case r.place.unit != nil:
		parents = ledger.Match(r.host, globQuote.Replace(path.Dir(r.place.base))+"/cgshim-*.scope")
	case parents[0] == "/" && !automatic(r.group.Path()): // which is everybody's
		return func() {}
	}
	others := ledger.Others(r.group)
	if r.place.unit == nil && (others == 0 || others > sweepMost && rand.IntN(others) >= sweepRarely) {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		// What could not be removed is tried again by the next run, or by Sweep, which says why.
		var groups []ledger.Entry
		for _, parent := range parents[:min(len(parents), sweepMost)] {
			prefix := ""
			if parent == "/" {
				prefix = path.Base(DefaultParent) + "-"
			}
			list := ledger.Groups
			if others > sweepMost {
				list = func(host *cgroup.Host, parent, prefix string) ([]ledger.Entry, error) {
					return ledger.Some(host, parent, prefix, sweepMost)
				}
			}
			below, _ := list(r.host, parent, prefix)
			groups = append(groups, below...)
		}
		rand.Shuffle(len(groups), func(i, j int) { groups[i], groups[j] = groups[j], groups[i] })
		stale, _ := sift(groups[:min(len(groups), sweepMost)])
		cleanAll(ctx, r.host, stale)
	}()
	return func() {
		cancel()
		<-done
	}
}

// globQuote makes a pattern of a path: slices have backslashes in their names.
var globQuote = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)

// automatic says whether a path is what a run without a name has: a number, and eight hexadecimal digits; below the root after
// DefaultParent's name, for there anybody may have groups.
func automatic(group string) bool {
	name := path.Base(group)
	if path.Dir(group) == "/" {
		var ours bool
		if name, ours = strings.CutPrefix(group, DefaultParent+"-"); !ours {
			return false
		}
	}
	pid, random, ok := strings.Cut(name, "-")
	return ok && pid != "" && strings.Trim(pid, "0123456789") == "" && len(random) == 8 && strings.Trim(random, "0123456789abcdef") == ""
}

// findStale lists the groups whose owner is dead, and those that have none although they are named like runs.
func findStale(host *cgroup.Host, parents []string) (stale, unmarked []ledger.Entry, err error) {
	var groups []ledger.Entry
	for _, parent := range parents {
		below, err := ledger.Groups(host, parent, "")
		if err != nil {
			return nil, nil, err
		}
		groups = append(groups, below...)
	}
	stale, unmarked = sift(groups)
	return stale, unmarked, nil
}

func sift(groups []ledger.Entry) (stale, unmarked []ledger.Entry) {
	for _, group := range groups {
		o, ok := parseOwner(group.Owner)
		switch {
		case ok && o.dead():
			stale = append(stale, group)
		case group.Owner == "" && automatic(group.Path):
			unmarked = append(unmarked, group)
		}
	}
	return stale, unmarked
}

func clean(ctx context.Context, host *cgroup.Host, path, owner string, missing []string) error {
	ctx, cancel := context.WithTimeout(ctx, killTimeout)
	defer cancel()
	return ledger.Clean(ctx, host, path, owner, missing)
}

// A process is what is needed of /proc/PID/stat, see proc(5).
type process struct {
	pid, parent int
	zombie      bool
	stopped     bool
	terminal    bool // it has a controlling terminal
	threads     uint64
	started     uint64 // clock ticks since boot
}

func readProcess(pid int) (process, error) {
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/stat", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return process{}, err
	}
	defer unix.Close(fd)
	var content [1024]byte // there are 52 numbers, and a name
	n, err := ignoringEINTR(func() (int, error) { return unix.Read(fd, content[:]) })
	if err != nil {
		return process{}, err
	}
	return parseProcess(pid, string(content[:n]))
}

func parseProcess(pid int, content string) (process, error) {
	// The name, in parentheses, may hold anything.
	end := strings.LastIndexByte(content, ')')
	fields := strings.Fields(content[end+1:])
	if end < 0 || len(fields) < 20 {
		return process{}, unix.ESRCH // it has gone meanwhile
	}
	p := process{pid: pid, zombie: fields[0] == "Z" || fields[0] == "X", stopped: fields[0] == "T"}
	p.parent, _ = strconv.Atoi(fields[1])
	p.terminal = fields[4] != "0"
	p.threads, _ = strconv.ParseUint(fields[17], 10, 64)
	p.started, _ = strconv.ParseUint(fields[19], 10, 64)
	return p, nil
}
