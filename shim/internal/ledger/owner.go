package ledger

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/shim/internal/sys"
)

// An Owner is the process that a group belongs to. A pid alone would be anybody's some day; together with
// the start time it is one process's until the machine boots, which no group survives.
type Owner struct {
	PID     int
	Started uint64 // in clock ticks since boot, see proc(5)
	PIDNS   uint64 // the pid and
	TimeNS  uint64 // the time namespace in which all of that is so; 0 before Linux 5.6
}

// ThisOwner is the mark of this process's groups; "" if /proc does not tell.
var ThisOwner = sync.OnceValue(func() string {
	self, err := sys.ThisProcess()
	o := Owner{PID: os.Getpid(), Started: self.Started, PIDNS: namespace("pid"), TimeNS: namespace("time")}
	if err != nil || o.PIDNS == 0 {
		return ""
	}
	return o.String()
})

// poolMark is behind the owner of a pool's groups: a signal to that process is for all of its runs.
const poolMark = " pool"

// PoolOwner is ThisOwner for the groups of a pool.
func PoolOwner() string {
	if owner := ThisOwner(); owner != "" {
		return owner + poolMark
	}
	return ""
}

// OfPool reports whether a mark is one of PoolOwner.
func OfPool(mark string) bool { return strings.HasSuffix(mark, poolMark) }

// namespace identifies one that this process is in; 0 if /proc does not tell, or there is no such kind.
func namespace(kind string) uint64 {
	var st unix.Stat_t
	if unix.Stat("/proc/self/ns/"+kind, &st) != nil {
		return 0
	}
	return st.Ino
}

// String is the mark that says that a group is this owner's.
func (o Owner) String() string {
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	return strconv.Itoa(o.PID) + " " + number(o.Started) + " " + number(o.PIDNS) + " " + number(o.TimeNS)
}

// ParseOwner reads such a mark. It is not ok if it is none.
func ParseOwner(mark string) (o Owner, ok bool) {
	if mark == "" {
		return o, false
	}
	n, err := fmt.Sscanf(mark, "%d %d %d %d", &o.PID, &o.Started, &o.PIDNS, &o.TimeNS)
	return o, n == 4 && err == nil
}

// Visible reports whether the owner, if it lives, is one of the processes in our /proc, with the same numbers there.
func (o Owner) Visible() bool {
	return o.PIDNS != 0 && o.PIDNS == namespace("pid") && o.TimeNS == namespace("time")
}

// Dead reports whether an owner is certainly not alive any more.
func (o Owner) Dead() bool {
	if !o.Visible() {
		return false
	}
	p, err := sys.ReadProcess(o.PID)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
		return true
	}
	return err == nil && (p.Started != o.Started || p.Zombie)
}

// Vouched reports whether a group of some user's can be that process's. A user who may write to a group's directory can
// have it name any process as its owner: that is believed of root, and of a process that is in no way another user's.
func (o Owner) Vouched(uid int) bool {
	if uid == 0 {
		return true
	}
	status, err := os.ReadFile("/proc/" + strconv.Itoa(o.PID) + "/status")
	if err != nil {
		return false
	}
	_, uids, _ := strings.Cut(string(status), "\nUid:") // the real, effective, saved and file system one
	uids, _, _ = strings.Cut(uids, "\n")
	fields := strings.Fields(uids)
	return len(fields) == 4 && !slices.ContainsFunc(fields, func(field string) bool { return field != strconv.Itoa(uid) })
}
