package shim

import (
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/reexec"
)

func TestEndedByRlimit(t *testing.T) {
	const inf = unix.RLIM_INFINITY
	limit := func(soft, hard uint64) unix.Rlimit { return unix.Rlimit{Cur: soft, Max: hard} }
	for name, test := range map[string]struct {
		sig         unix.Signal
		given, last unix.Rlimit
		used        time.Duration
		want        bool
	}{
		"hard":                       {unix.SIGKILL, limit(1, 1), limit(1, 1), time.Second, true},
		"hard, after the soft one":   {unix.SIGKILL, limit(1, 3), limit(4, 3), 3 * time.Second, true},
		"hard, not reached":          {unix.SIGKILL, limit(1, 1), limit(1, 1), time.Second - 1, false},
		"hard, that it has lowered":  {unix.SIGKILL, limit(9, 9), limit(1, 1), time.Second, false},
		"hard, that it has raised":   {unix.SIGKILL, limit(1, 1), limit(9, 9), 2 * time.Second, false},
		"no hard limit":              {unix.SIGKILL, limit(inf, inf), limit(inf, inf), time.Hour, false},
		"hard 0":                     {unix.SIGKILL, limit(0, 0), limit(0, 0), 4 * time.Millisecond, true},
		"hard 0, before a tick":      {unix.SIGKILL, limit(0, 0), limit(0, 0), 0, false},
		"soft":                       {unix.SIGXCPU, limit(1, 3), limit(2, 3), time.Second, true},
		"soft, later":                {unix.SIGXCPU, limit(1, 9), limit(4, 9), 3 * time.Second, true},
		"soft, last not known":       {unix.SIGXCPU, limit(1, 3), limit(1, 3), time.Second, true},
		"soft, not reached":          {unix.SIGXCPU, limit(2, 3), limit(2, 3), time.Second, false},
		"soft, that it has lowered":  {unix.SIGXCPU, limit(9, 9), limit(2, 9), time.Second, false},
		"soft, that it has raised":   {unix.SIGXCPU, limit(1, 9), limit(9, 9), 2 * time.Second, false},
		"no soft limit":              {unix.SIGXCPU, limit(inf, inf), limit(inf, inf), time.Hour, false},
		"size":                       {unix.SIGXFSZ, limit(10, 10), limit(10, 10), 0, true},
		"no size":                    {unix.SIGXFSZ, limit(inf, inf), limit(inf, inf), 0, false},
		"size, that it has set":      {unix.SIGXFSZ, limit(10, 10), limit(5, 10), 0, false},
		"another signal, over limit": {unix.SIGTERM, limit(1, 1), limit(1, 1), time.Hour, false},
	} {
		if got := endedByRlimit(test.sig, test.given, test.last, test.used); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// A limit that ended the program is named, with an event, and of several for one resource it is the last.
func TestUlimitHit(t *testing.T) {
	parent := newParent(t)
	for name, test := range map[string]struct {
		rlimits []reexec.Rlimit
		script  string
		signal  int
		want    []string
	}{
		"CPU time":  {[]reexec.Rlimit{{Resource: unix.RLIMIT_CPU, Soft: 1, Hard: 1}}, "while :; do :; done", 9, []string{"ulimit_cpu"}},
		"the last":  {[]reexec.Rlimit{{Resource: unix.RLIMIT_FSIZE, Soft: 9000, Hard: 9000}, {Resource: unix.RLIMIT_FSIZE, Soft: 10, Hard: 10}}, "exec head -c 20 /dev/zero >$0", 25, []string{"ulimit_fsize"}},
		"its own 9": {[]reexec.Rlimit{{Resource: unix.RLIMIT_CPU, Soft: 100, Hard: 100}}, "kill -9 $$", 9, []string{}},
	} {
		cfg := shell(parent, test.script, t.TempDir()+"/file")
		cfg.Rlimits = test.rlimits
		var told []string
		cfg.OnEvent = func(e Event) {
			if limit, ok := e.(*LimitReached); ok && limit.EndsRun {
				told = append(told, limit.Limit)
			}
		}
		res := mustRun(t, cfg)
		if res.Verdict != Signaled || deref(res.Signal) != test.signal || !slices.Equal(res.LimitsHit, test.want) || !slices.Equal(told, test.want) {
			t.Errorf("%s: told of %q, %s", name, told, res.JSON(false))
		}
		assertValid(t, res.JSON(false))
	}
}
