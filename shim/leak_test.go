package shim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/reexec"
)

// Eight threads at a time: parent-death signals, waits and groups must not get mixed up.
func TestParallelRuns(t *testing.T) {
	newParent(t) // skips where nothing can run
	const threads, runs = 8, 10
	results := make(chan *Result, threads*runs)
	var wg sync.WaitGroup
	for i := range threads {
		wg.Go(func() {
			for j := range runs {
				code := i*runs + j
				// In the default parent, which each run that is the last one removes.
				res := Run(context.Background(), shell("", fmt.Sprint("exit ", code)))
				if deref(res.ExitCode) != code || res.Error != nil || deref(res.PIDsPeak) != uint64(1) {
					t.Errorf("exit %d: %s", code, res.JSON(false))
				}
				results <- res
			}
		})
	}
	wg.Wait()
	close(results)
	seen := map[string]bool{}
	for res := range results {
		if res.Cgroup == nil || seen[*res.Cgroup] {
			t.Fatalf("cgroup %v: unknown or used twice", deref(res.Cgroup))
		}
		seen[*res.Cgroup] = true
		for _, mount := range cgroupMounts(t) {
			assertNoGroup(t, mount+*res.Cgroup)
		}
	}
	if len(seen) != threads*runs {
		t.Errorf("%d results", len(seen))
	}
	assertNoChild(t)
}

// A caller that runs thousands of programs must not run out of anything.
func TestNothingLeaks(t *testing.T) {
	parent := newParent(t)
	once := func() {
		mustRun(t, shell(parent, "exit 0"))
		mustRun(t, Config{Args: []string{"cgshim-no-such-program"}, Parent: parent})
		mustRun(t, Config{Args: []string{"/bin/true"}, Dir: "/nonexistent", Parent: parent})
		mustRun(t, Config{Args: []string{"/bin/true"}, Parent: parent, Limits: cgroup.Limits{CPUSetCPUs: "99999"}})
		cfg := shell(parent, "sleep 10000 & exec sleep 10000")
		cfg.WallTime, cfg.Limits.Memory, cfg.CPUTime = 50*time.Millisecond, 64<<20, time.Minute
		mustRun(t, cfg)
	}
	once() // the runtime opens its own descriptors and threads now
	fds, goroutines := openFiles(t), runtime.NumGoroutine()
	for range 5 {
		once()
	}
	if now := openFiles(t); !slices.Equal(now, fds) {
		t.Errorf("open files %q, before %q", now, fds)
	}
	assertNoChild(t)
	for deadline := time.Now().Add(safety); runtime.NumGoroutine() > goroutines; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, before %d:\n%s", runtime.NumGoroutine(), goroutines, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

// openFiles lists this process's descriptors and what they are.
func openFiles(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, entry := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + entry.Name()); err == nil { // all but the directory's own
			list = append(list, entry.Name()+" "+target)
		}
	}
	return list
}

// descriptorsRunOut runs a program with ever fewer descriptors left, so that each step of a run fails in turn.
func descriptorsRunOut(args []string) {
	slowWithoutDescriptors()
	Run(context.Background(), Config{Args: []string{"/bin/true"}, Parent: args[0], Limits: cgroup.Limits{Memory: 64 << 20}})
	free, err := unix.Dup(0)
	if err != nil {
		panic(err)
	}
	unix.Close(free)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		panic(err)
	}
	all, steps := limit, map[string]int{}
	for spare := uint64(0); spare < 16; spare++ {
		limit.Cur = uint64(free) + spare
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			panic(err)
		}
		res := Run(context.Background(), Config{Args: []string{"/bin/true"}, Parent: args[0], Limits: cgroup.Limits{Memory: 64 << 20}})
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &all); err != nil {
			panic(err)
		}
		if res.Error == nil {
			steps["none"]++
		} else {
			steps[res.Error.Step]++
		}
		fmt.Printf("%d spare: %s", spare, res.JSON(false))
		if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.ECHILD {
			fmt.Printf("LEAK: %d spare: child %d, %v\n", spare, pid, err)
		}
		if res.Verdict == Failed != (res.Error != nil) && res.ExitCode == nil {
			fmt.Printf("LEAK: %d spare: neither a result nor an error\n", spare)
		}
	}
	if len(steps) < 2 { // on v2 nothing after the start of the stage needs as many
		fmt.Printf("LEAK: the test tests nothing: %v\n", steps)
	}
}

// slowWithoutDescriptors needs a timer while there is no descriptor left for the poller that Go's first timer opens, which ended the
// process: without it there is no stage, and with a stage a launch that takes long is supervised all the same.
func slowWithoutDescriptors() {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		panic(err)
	}
	none := func(do func()) {
		err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Max: limit.Max})
		do()
		if err = errors.Join(err, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)); err != nil {
			panic(err)
		}
	}
	res := resourcesOf(&Config{Args: []string{"/bin/true"}})
	none(func() {
		if err := res.startStage(); !errors.Is(err, unix.EMFILE) {
			fmt.Printf("LEAK: there is a stage that nobody could supervise: %v\n", err)
		}
	})
	if err := res.startStage(); err != nil {
		panic(err)
	}
	defer res.release()
	var spec reexec.Spec
	stop := res.superviseStage(context.Background(), &spec, func() {})
	none(spec.Slow)
	if stop(); res.launching.GaveUp != nil {
		fmt.Printf("LEAK: the launch was given up: %v\n", res.launching.GaveUp)
	}
}

// At whichever step a run fails, it leaves no group (newParent checks) and no process.
func TestDescriptorsRunOut(t *testing.T) {
	cfg := self(t, newParent(t), "descriptors")
	ctx, cancel := context.WithTimeout(context.Background(), 2*safety)
	defer cancel()
	cmd := exec.CommandContext(ctx, cfg.Args[0], cfg.Parent)
	cmd.Env = cfg.Env
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "LEAK") {
		t.Errorf("%v\n%s", err, out)
	}
}
