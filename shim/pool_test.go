package shim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/shim/internal/rungroup"
	"github.com/cgshim/cgshim/shim/internal/sys"
)

// newPool is a pool for one test, closed in the end: then it must have left no child and no descriptor.
func newPool(t *testing.T, cfg PoolConfig) *Pool {
	t.Helper()
	if cfg.Parent == "" {
		cfg.Parent = newParent(t)
	}
	// The runtime, and package cgroup, which has one more to kill, open their own now.
	mustRun(t, Config{Args: []string{"sleep", "1000"}, Parent: cfg.Parent, WallTime: time.Millisecond})
	before := openFiles(t)
	p, err := NewPool(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		assertNoChild(t)
		if after := openFiles(t); !slices.Equal(after, before) {
			t.Errorf("open files %q, before %q", after, before)
		}
	})
	return p
}

// poolRun is Pool.Run, with a bound on its time.
func poolRun(t *testing.T, p *Pool, cfg Config) *Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), safety)
	defer cancel()
	r := p.Run(ctx, cfg)
	if ctx.Err() != nil {
		t.Fatalf("the run took longer than %v: %s", safety, r.JSON(false))
	}
	assertValid(t, r.JSON(false))
	return r
}

// likeRun compares what two runs of the same program have to have in common.
func likeRun(t *testing.T, name string, got, want *Result) {
	t.Helper()
	step := func(r *Result) any {
		if r.Error == nil {
			return nil
		}
		return fmt.Sprint(r.Error.Step, " ", deref(r.Error.Errno), " ", r.ExitStatus())
	}
	for what, pair := range map[string][2]any{
		"verdict":         {got.Verdict, want.Verdict},
		"exit code":       {deref(got.ExitCode), deref(want.ExitCode)},
		"signal":          {deref(got.Signal), deref(want.Signal)},
		"exit status":     {got.ExitStatus(), want.ExitStatus()},
		"limits hit":      {fmt.Sprint(got.LimitsHit), fmt.Sprint(want.LimitsHit)},
		"enforced":        {fmt.Sprint(got.Enforced), fmt.Sprint(want.Enforced)},
		"error":           {step(got), step(want)},
		"leftover":        {deref(got.LeftoverKilled), deref(want.LeftoverKilled)},
		"output bytes":    {deref(got.OutputBytes), deref(want.OutputBytes)},
		"pids peak":       {deref(got.PIDsPeak), deref(want.PIDsPeak)},
		"pids denied":     {deref(got.PIDsDenied), deref(want.PIDsDenied)},
		"warnings":        {fmt.Sprint(got.Warnings), fmt.Sprint(want.Warnings)},
		"known figures":   {fmt.Sprint(slices.Sorted(maps.Keys(got.Sources))), fmt.Sprint(slices.Sorted(maps.Keys(want.Sources)))},
		"cgroup version":  {deref(got.CgroupVersion), deref(want.CgroupVersion)},
		"whether it ran":  {got.PID != nil, want.PID != nil},
		"whether in a cg": {got.Cgroup != nil, want.Cgroup != nil},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: %s: %v, and %v by Run: %s", name, what, pair[0], pair[1], got.JSON(false))
		}
	}
}

// What a pool says is what Run says; and nothing of one run is left for the next, in whatever order they come.
func TestPoolIsLikeRun(t *testing.T) {
	parent := newParent(t)
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { null.Close() }) // after the pool's
	with := func(cfg Config, change func(*Config)) Config {
		change(&cfg)
		return cfg
	}
	tests := map[string]Config{
		"exit 0":         shell(parent, "exit 0"),
		"exit 3":         shell(parent, "exit 3"),
		"signal":         shell(parent, "kill -SEGV $$"),
		"kill":           shell(parent, "kill -9 $$"),
		"not found":      {Args: []string{"cgshim-no-such-program"}, Parent: parent},
		"not executable": {Args: []string{"/dev/null"}, Parent: parent},
		"no directory":   with(shell(parent, "exit 0"), func(c *Config) { c.Dir = "/nonexistent" }),
		"usage":          {Args: []string{"true"}, Parent: parent, Name: "a/b"},
		"no such cpu":    with(shell(parent, "exit 0"), func(c *Config) { c.Limits.CPUSetCPUs = "99999" }),
		"oom":            with(self(t, parent, "eat"), func(c *Config) { c.Limits.Memory = 32 << 20 }),
		"no oom":         with(shell(parent, "exit 0"), func(c *Config) { c.Limits.Memory = 32 << 20 }),
		"fork denied":    with(shell(parent, "/bin/true; exit 5"), func(c *Config) { c.Limits.PIDs = 1 }),
		"wall time":      with(shell(parent, "exec sleep 1000"), func(c *Config) { c.WallTime = 200 * time.Millisecond }),
		"cpu time":       with(shell(parent, "while :; do :; done"), func(c *Config) { c.CPUTime = 200 * time.Millisecond }),
		"output":         with(shell(parent, "echo 123456789; exec sleep 1000"), func(c *Config) { c.Stdout, c.OutputLimit = null, 5 }),
		"leftover":       shell(parent, "sleep 1000 & setsid sleep 1000 & exit 0"),
		"wait all":       with(shell(parent, "sleep 0.2 & exit 4"), func(c *Config) { c.WaitAll = true }),
		"frugal":         with(shell(parent, "exit 0"), func(c *Config) { c.CPUTime, c.Limits.Memory, c.Limits.PIDs = time.Hour, 64<<20, 9 }),
		"weight":         with(shell(parent, "exit 0"), func(c *Config) { c.Limits.CPUWeight, c.Limits.CPUs = 50, 2 }), // it is never throttled, however slow the machine is
	}
	want := map[string]*Result{}
	for name, cfg := range tests {
		want[name] = mustRun(t, cfg)
	}
	p := newPool(t, PoolConfig{Jobs: 1, Parent: parent})
	for range 3 {
		for name, cfg := range tests { // each time in another order
			// Below the pool's parent, where groups are made ahead, and below that asked for.
			for _, at := range []string{"", parent} {
				cfg.Parent = at
				res := poolRun(t, p, cfg)
				if res.Verdict == MemoryLimit || res.Verdict == OutputLimit { // how many threads, or processes, there are by then is not certain
					res.PIDsPeak = want[name].PIDsPeak
					for _, r := range []*Result{res, want[name]} { // nor whether all were waited for
						maps.DeleteFunc(r.Sources, func(_, source string) bool { return source == rungroup.FromWait })
					}
				}
				likeRun(t, name, res, want[name])
			}
		}
	}
}

// The events of a run are the same, too.
func TestPoolEvents(t *testing.T) {
	p := newPool(t, PoolConfig{Jobs: 1})
	for range 2 {
		var kinds []string
		cfg := shell("", "exec sleep 1000")
		cfg.WallTime, cfg.Sample = slowly(500*time.Millisecond), 50*time.Millisecond
		cfg.OnEvent = func(e Event) {
			assertValid(t, e.JSON())
			kinds = append(kinds, fmt.Sprintf("%T", e))
		}
		res := poolRun(t, p, cfg)
		kinds = slices.Compact(kinds)
		if len(kinds) == 4 && kinds[3] == "*shim.Sample" { // one more, that was due at the same time: on a busy machine
			kinds = kinds[:3]
		}
		if want := []string{"*shim.Started", "*shim.Sample", "*shim.LimitReached"}; !slices.Equal(kinds, want) {
			t.Errorf("%q, want %q: %s", kinds, want, res.JSON(false))
		}
	}
}

func TestPoolManyAtOnce(t *testing.T) {
	const jobs, callers, runs = 4, 12, 10
	p := newPool(t, PoolConfig{Jobs: jobs})
	var running, most atomic.Int64
	var mu sync.Mutex
	seen := map[string]bool{}
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for j := range runs {
				code := i*runs + j
				cfg := shell("", fmt.Sprint("exit ", code))
				cfg.Limits = cgroup.Limits{Memory: 64 << 20, PIDs: 1}
				cfg.OnEvent = func(Event) {
					now := running.Add(1)
					for old := most.Load(); now > old && !most.CompareAndSwap(old, now); old = most.Load() {
					}
				}
				done := make(chan *Result, 1)
				job := &Job{Config: cfg, Done: func(r *Result) {
					running.Add(-1)
					done <- r
				}}
				if err := p.Go(context.Background(), job); err != nil {
					t.Error(err)
					return
				}
				res := <-done
				if deref(res.ExitCode) != code || res.Error != nil || deref(res.PIDsPeak) != uint64(1) || res.Cgroup == nil {
					t.Errorf("exit %d: %s", code, res.JSON(false))
					return
				}
				mu.Lock()
				if seen[*res.Cgroup] {
					t.Errorf("%s twice", *res.Cgroup)
				}
				seen[*res.Cgroup] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(seen) != callers*runs || most.Load() > jobs {
		t.Errorf("%d results, %d at once", len(seen), most.Load())
	}
}

func TestPoolCancel(t *testing.T) {
	p := newPool(t, PoolConfig{Jobs: 1})
	ready, wait := readiness(t)
	ctx, cancel := context.WithCancel(context.Background())
	running := make(chan *Result, 1)
	go func() { running <- p.Run(ctx, shell("", diesAtOnce, ready)) }()
	wait()

	// There is no room.
	if p.TryGo(context.Background(), &Job{Config: shell("", "exit 0"), Done: func(*Result) { t.Error("it was run") }}) {
		t.Error("TryGo of a pool that is busy is true")
	}
	waiting, stop := context.WithCancel(context.Background())
	queued := make(chan *Result, 1)
	go func() { queued <- p.Run(waiting, shell("", "exit 0")) }()
	time.Sleep(20 * time.Millisecond)
	stop()
	if res := finished(t, queued); res.Verdict != Cancelled || res.PID != nil || res.Error == nil || res.Error.Step != "cancelled" || res.ExitStatus() != ExitFailed {
		t.Errorf("queued: %s", res.JSON(false))
	}
	if err := p.Go(waiting, &Job{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Go: %v", err)
	}

	cancel()
	if res := finished(t, running); res.Verdict != Cancelled || deref(res.Signal) != 15 || res.Error != nil {
		t.Errorf("running: %s", res.JSON(false))
	}
	// A context that was over before.
	if res := p.Run(ctx, shell("", "exit 0")); res.Verdict != Cancelled || res.PID != nil {
		t.Errorf("%s", res.JSON(false))
	}
	// And the next one is not affected.
	done := make(chan *Result, 1)
	for !p.TryGo(context.Background(), &Job{Config: shell("", "exit 7"), Done: func(r *Result) { done <- r }}) {
		time.Sleep(time.Millisecond) // until its thread is there again
	}
	if res := finished(t, done); deref(res.ExitCode) != 7 {
		t.Errorf("%s", res.JSON(false))
	}
}

// Close waits for what runs, and can be called again.
func TestPoolClose(t *testing.T) {
	parent := newParent(t)
	p := newPool(t, PoolConfig{Jobs: 3, Parent: parent})
	var ended atomic.Int64
	for range 3 {
		job := &Job{Config: shell("", "sleep 0.3; exit 2"), Done: func(r *Result) {
			if deref(r.ExitCode) == 2 {
				ended.Add(1)
			}
		}}
		if err := p.Go(context.Background(), job); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := p.Close(); err != nil || ended.Load() != 3 {
			t.Errorf("%v, and %d have ended", err, ended.Load())
		}
	}
	for _, mount := range cgroupMounts(t) {
		assertNoGroup(t, mount+parent)
	}
}

// A pool that is made and not used leaves nothing, either; nor does one that could not be made.
func TestPoolUnused(t *testing.T) {
	parent := newParent(t)
	mustRun(t, Config{Args: []string{"/bin/true"}, Parent: parent})
	before := openFiles(t)
	for range 3 {
		p, err := NewPool(PoolConfig{Parent: parent})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		for _, cfg := range []PoolConfig{
			{Jobs: -1, Parent: parent},
			{Jobs: 1, Parent: "relative"},
			{Jobs: 1, Parent: parent, Manager: "nobody"},
			{Jobs: 5000, Pin: true, Parent: parent},
			{Jobs: -1, Pin: true, Parent: parent},
		} {
			if _, err := NewPool(cfg); err == nil {
				t.Errorf("%+v is accepted", cfg)
			}
		}
	}
	assertNoChild(t)
	if after := openFiles(t); !slices.Equal(after, before) {
		t.Errorf("open files %q, before %q", after, before)
	}
}

func TestPoolPrepare(t *testing.T) {
	p := newPool(t, PoolConfig{Jobs: 1})
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	run := func(prepare func(*Config) error) *Result {
		done := make(chan *Result, 1)
		job := &Job{Config: shell("", "echo $A; exit 3"), Prepare: prepare, Done: func(r *Result) { done <- r }}
		if err := p.Go(context.Background(), job); err != nil {
			t.Fatal(err)
		}
		return finished(t, done)
	}
	if res := run(func(cfg *Config) error {
		cfg.Stdout, cfg.Env = out, []string{"A=prepared"}
		return nil
	}); deref(res.ExitCode) != 3 {
		t.Errorf("%s", res.JSON(false))
	}
	if content, err := os.ReadFile(out.Name()); string(content) != "prepared\n" {
		t.Errorf("%q, %v", content, err)
	}
	res := run(func(*Config) error { return errors.New("it is no good") })
	if res.Verdict != Failed || res.Error.Step != "usage" || !strings.Contains(res.Error.Message, "it is no good") || res.PID != nil || res.ExitStatus() != ExitFailed {
		t.Errorf("%s", res.JSON(false))
	}
	if res := run(nil); deref(res.ExitCode) != 3 {
		t.Errorf("%s", res.JSON(false))
	}
}

// A run's own name and parent are its own, and gone with it; between runs with another place it is the pool's again.
func TestPoolParentAndName(t *testing.T) {
	parent, other := newParent(t), newParent(t)
	p := newPool(t, PoolConfig{Jobs: 1, Parent: parent})
	for range 3 {
		if res := poolRun(t, p, shell("", "exit 0")); !strings.HasPrefix(deref(res.Cgroup).(string), parent+"/") {
			t.Errorf("%s", res.JSON(false))
		}
		cfg := shell(other+"/below", "exit 0")
		cfg.Name = "mine"
		if res := poolRun(t, p, cfg); deref(res.Cgroup) != other+"/below/mine" || res.Verdict != OK {
			t.Errorf("%s", res.JSON(false))
		}
		for _, mount := range cgroupMounts(t) {
			assertNoGroup(t, mount+other)
		}
		cfg = shell("", "exit 0")
		cfg.Name = "mine"
		if res := poolRun(t, p, cfg); deref(res.Cgroup) != parent+"/mine" || res.Verdict != OK {
			t.Errorf("%s", res.JSON(false))
		}
	}
	// The will names all parents: more than a pipe would take.
	for i := range 64<<10/maxName + 5 {
		below := fmt.Sprintf("%s/%0*d", other, maxName, i)
		if res := poolRun(t, p, Config{Args: []string{"/bin/true"}, Parent: below}); res.Verdict != OK {
			t.Fatalf("%d: %s", i, res.JSON(false))
		}
	}
}

// What a pool is not made for is done as Run does it, in the pool's place all the same.
func TestPoolColdPath(t *testing.T) {
	parent := newParent(t)
	p := newPool(t, PoolConfig{Jobs: 1, Parent: parent, Manager: ManagerCgroupfs})
	for name, change := range map[string]func(*Config){
		"best effort": func(c *Config) { c.BestEffort = true },
		"manager":     func(c *Config) { c.Manager, c.Parent = ManagerAuto, parent },
		"nest":        func(c *Config) { c.Nest = true },
		"same":        func(c *Config) { c.Manager = ManagerCgroupfs },
	} {
		cfg := shell("", "sleep 1000 & exit 3")
		cfg.Limits.Memory, cfg.Subreaper = 64<<20, true
		change(&cfg)
		res := poolRun(t, p, cfg)
		if deref(res.ExitCode) != 3 || res.Error != nil || res.Enforced["mem"] != ByCgroup || deref(res.LeftoverKilled) != uint64(1) ||
			res.Cgroup == nil || !strings.HasPrefix(*res.Cgroup, parent+"/") {
			t.Errorf("%s: %s", name, res.JSON(false))
		}
		if res := poolRun(t, p, shell("", "exit 4")); deref(res.ExitCode) != 4 {
			t.Errorf("after %s: %s", name, res.JSON(false))
		}
	}
}

// A stage, which is a guardian as well, may be killed by somebody.
func TestPoolStageIsKilled(t *testing.T) {
	parent := newParent(t)
	p := newPool(t, PoolConfig{Jobs: 1, Parent: parent})
	for i := range 5 {
		for range 2 {
			if res := poolRun(t, p, shell("", "exit 6")); deref(res.ExitCode) != 6 {
				t.Fatalf("%d: %s", i, res.JSON(false))
			}
		}
		pids := children(func(*sys.Process) bool { return true })
		if len(pids) != 2 {
			t.Fatalf("children %v: want the place's stage and the job's", pids)
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// Regression: of a stage that was found dead among zombies, a descriptor stayed.
func TestPoolStageIsReaped(t *testing.T) {
	p := newPool(t, PoolConfig{Jobs: 1, Childless: true})
	if res := poolRun(t, p, shell("", "exit 6")); deref(res.ExitCode) != 6 {
		t.Fatalf("%s", res.JSON(false))
	}
	for _, pid := range children(func(*sys.Process) bool { return true }) {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	cfg := shell("", "exit 7") // which needs a stage of its own
	cfg.BestEffort = true
	if res := poolRun(t, p, cfg); deref(res.ExitCode) != 7 {
		t.Fatalf("%s", res.JSON(false))
	}
}

// poolDies is a process that is killed while its pool runs programs, some of them in other places.
func poolDies(args []string) {
	p, err := NewPool(PoolConfig{Jobs: 4, Parent: args[0]})
	if err != nil {
		panic(err)
	}
	for i := range 4 {
		cfg := shell("", `setsid sleep 10000 & echo $! $$ >>"$0"; exec sleep 10000`, args[1])
		cfg.Limits.Memory = 64 << 20
		if i%2 == 1 {
			cfg.Parent, cfg.Name = args[0]+"/own", fmt.Sprint("run", i)
		}
		if err := p.Go(context.Background(), &Job{Config: cfg, Done: func(r *Result) { panic(string(r.JSON(false))) }}); err != nil {
			panic(err)
		}
	}
	select {}
}

func TestPoolKilled(t *testing.T) {
	parent, pidFile := newParent(t), filepath.Join(t.TempDir(), "pids")
	cfg := self(t, parent, "pool", parent, pidFile)
	cmd := exec.Command(cfg.Args[0], cfg.Args[1:]...)
	cmd.Env, cmd.Stderr = cfg.Env, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pids []string
	soon(t, "the programs run", func() bool {
		content, _ := os.ReadFile(pidFile)
		pids = strings.Fields(string(content))
		return len(pids) == 8
	})
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	soon(t, "the processes end", func() bool { return !slices.ContainsFunc(pids, alive) })
	soon(t, "the groups go", func() bool {
		return !slices.ContainsFunc(cgroupMounts(t), func(mount string) bool {
			_, err := os.Stat(mount + parent)
			return err == nil
		})
	})
}

// soon waits for something.
func soon(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(safety); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it did not come to pass that %s", what)
		}
	}
}

func TestPoolPin(t *testing.T) {
	cores, err := ownCores()
	if err != nil {
		t.Fatal(err)
	}
	if host, err := cgroup.Detect(); err != nil || !host.Has(cgroup.CPUSet) {
		t.Skip("requires writable cgroups: of cpuset")
	}
	p := newPool(t, PoolConfig{Pin: true})
	var wg sync.WaitGroup
	var mu sync.Mutex
	all := map[string]bool{}
	start := make(chan struct{})
	var inside sync.WaitGroup
	inside.Add(len(cores))
	for range cores {
		wg.Go(func() {
			cfg := shell("", "exit 0")
			// All at once: each has another slot.
			done := make(chan *Result, 1)
			job := &Job{Config: cfg, Prepare: func(*Config) error { inside.Done(); <-start; return nil }, Done: func(r *Result) { done <- r }}
			if err := p.Go(context.Background(), job); err != nil {
				t.Error(err)
				return
			}
			res := <-done
			cpus := res.Limits.CPUSetCPUs
			mu.Lock()
			defer mu.Unlock()
			if res.Verdict != OK || cpus == "" || all[cpus] || res.Enforced["cpuset_cpus"] != ByCgroup {
				t.Errorf("%s", res.JSON(false))
			}
			all[cpus] = true
		})
	}
	inside.Wait()
	close(start)
	wg.Wait()
	cfg := shell("", "exit 0")
	cfg.Limits.CPUSetCPUs = "0"
	if res := poolRun(t, p, cfg); res.Verdict != Failed || res.Error.Step != "usage" {
		t.Errorf("a cpuset of its own: %s", res.JSON(false))
	}
	if _, err := NewPool(PoolConfig{Pin: true, Jobs: len(cores) + 1}); !errors.Is(err, ErrConfig) {
		t.Errorf("more jobs than cores: %v", err)
	}
	list := filepath.Join(t.TempDir(), "cpus")
	cfg = shell("", `grep Cpus_allowed_list /proc/self/status >"$0"`, list)
	res := poolRun(t, p, cfg)
	content, err := os.ReadFile(list)
	if fields := strings.Fields(string(content)); err != nil || len(fields) != 2 {
		t.Errorf("%q, %v", content, err)
	} else if cpus, err := cgroup.ParseCPUList(fields[1]); err != nil || !slices.Equal(cpus, mustParse(t, res.Limits.CPUSetCPUs)) {
		t.Errorf("it runs on %v, %v: %s", cpus, err, res.JSON(false))
	}
}

func mustParse(t *testing.T, list string) []int {
	t.Helper()
	cpus, err := cgroup.ParseCPUList(list)
	if err != nil {
		t.Fatal(err)
	}
	return cpus
}

func TestCores(t *testing.T) {
	pairs := func(cpu int) []int { return []int{cpu % 4, cpu%4 + 4} } // 0 and 4, 1 and 5, …
	neighbours := func(cpu int) []int { return []int{cpu &^ 1, cpu | 1} }
	alone := func(cpu int) []int { return []int{cpu} }
	for _, test := range []struct {
		cpus     []int
		siblings func(int) []int
		want     string
	}{
		{[]int{0, 1, 2, 3, 4, 5, 6, 7}, pairs, "[[0 4] [1 5] [2 6] [3 7]]"},
		{[]int{0, 1, 2, 3}, neighbours, "[[0 1] [2 3]]"},
		{[]int{0, 1, 5, 6}, pairs, "[[0] [1 5] [6]]"}, // others' are left out
		{[]int{3, 7, 9}, alone, "[[3] [7] [9]]"},
		{[]int{1, 2, 3}, neighbours, "[[1] [2 3]]"},
		{nil, alone, "[]"},
	} {
		if got := fmt.Sprint(cores(test.cpus, test.siblings)); got != test.want {
			t.Errorf("%v: %s, want %s", test.cpus, got, test.want)
		}
	}
	if list := siblings(1 << 20); !slices.Equal(list, []int{1 << 20}) {
		t.Errorf("siblings of a CPU that is not there: %v", list)
	}
}

func TestDivide(t *testing.T) {
	pairs := [][]int{{0, 4}, {1, 5}, {2, 6}, {3, 7}}
	singles := [][]int{{0}, {1}, {2}, {3}, {4}}
	for _, test := range []struct {
		cores [][]int
		jobs  int
		want  []string
	}{
		{pairs, 0, []string{"0,4", "1,5", "2,6", "3,7"}},
		{pairs, 4, []string{"0,4", "1,5", "2,6", "3,7"}},
		{pairs, 2, []string{"0,4,1,5", "2,6,3,7"}},
		{pairs, 1, []string{"0,4,1,5,2,6,3,7"}},
		{pairs, 3, []string{"0,4", "1,5", "2,6,3,7"}},
		{singles, 2, []string{"0,1", "2,3,4"}},
		{singles, 4, []string{"0", "1", "2", "3,4"}},
		{[][]int{{0}, {1, 5}}, 2, []string{"0", "1,5"}},
	} {
		got, err := divide(test.cores, test.jobs)
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%v among %d: %q, %v, want %q", test.cores, test.jobs, got, err, test.want)
		}
	}
	for _, jobs := range []int{5, 1000} {
		if got, err := divide(pairs, jobs); !errors.Is(err, ErrConfig) {
			t.Errorf("%d jobs on 4 cores: %q, %v", jobs, got, err)
		}
	}
	// Whatever the numbers, each CPU is in one share, and no share is empty or cuts a core.
	for n := 1; n < 40; n++ {
		var all [][]int
		for i := range n {
			all = append(all, []int{2 * i, 2*i + 1})
		}
		for jobs := 1; jobs <= n; jobs++ {
			shares, err := divide(all, jobs)
			seen := map[string]int{}
			for i, share := range shares {
				for _, cpu := range strings.Split(share, ",") {
					if _, twice := seen[cpu]; twice {
						t.Fatalf("%d jobs on %d cores: %s twice", jobs, n, cpu)
					}
					seen[cpu] = i
				}
			}
			if err != nil || len(shares) != jobs || len(seen) != 2*n {
				t.Fatalf("%d jobs on %d cores: %q, %v", jobs, n, shares, err)
			}
			for _, core := range all {
				if seen[strconv.Itoa(core[0])] != seen[strconv.Itoa(core[1])] {
					t.Fatalf("%d jobs on %d cores: core %v is cut: %q", jobs, n, core, shares)
				}
			}
		}
	}
}

// children lists the children of this process that are wanted.
func children(wanted func(*sys.Process) bool) (pids []int) {
	for _, p := range sys.Processes() {
		if p.Parent == os.Getpid() && wanted(&p) {
			pids = append(pids, p.PID)
		}
	}
	return pids
}

// zombies makes so many children of its parent's (CLONE_PARENT), which end at once.
func zombies(args []string) {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		panic(err)
	}
	for range n {
		pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, unix.CLONE_PARENT|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if errno != 0 {
			panic(errno)
		}
		if pid == 0 {
			_, _, _ = unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
	}
}

// Each job's zombies are gone when it is done, whatever the others do. Regression: while a job with BestEffort ran, nobody
// reaped; nor after one whose own stage was dead.
func TestPoolReaps(t *testing.T) {
	parent := newParent(t)
	mustRun(t, self(t, parent, "leave", filepath.Join(t.TempDir(), "pids"))) // package cgroups opens the mount point now
	before := children(func(*sys.Process) bool { return true })              // another test's, which its run has given up
	p := newPool(t, PoolConfig{Jobs: 2, Parent: parent, Childless: true})
	ctx, cancel := context.WithCancel(context.Background())
	long := make(chan *Result, 1)
	cfg := self(t, "", "sleep")
	cfg.BestEffort, cfg.StopTimeout = true, -1
	if err := p.Go(ctx, &Job{Config: cfg, Done: func(r *Result) { long <- r }}); err != nil {
		t.Fatal(err)
	}
	killed := map[int]bool{}
	for _, pid := range before {
		killed[pid] = true
	}
	for i := range 6 {
		cfg := self(t, "", "zombies", "50")
		cfg.BestEffort = i%2 == 1
		if res := poolRun(t, p, cfg); res.Verdict != OK {
			t.Fatalf("%d: %s", i, res.JSON(false))
		}
		if left := children(func(p *sys.Process) bool { return p.Zombie && !killed[p.PID] }); len(left) > 0 {
			t.Errorf("%d: zombies are left: %v", i, left)
		}
		if i == 3 {
			for _, pid := range children(func(p *sys.Process) bool { return !p.Zombie }) { // the stages, and the program that runs
				killed[pid] = true
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
	}
	cancel()
	<-long
}
