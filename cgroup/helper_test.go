package cgroup

import (
	"bufio"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// The helper programs. Test and helper talk in lines, so that neither has to guess how long the other takes:
//
//	test                     helper
//	  │ ◀──── "ready" ──────── │  has started
//	  │ ───── "go" ──────────▶ │  the test has put it where it wants it: the helper does its work
//	  │ ◀──── its report ───── │  one line
//	  │ ───── end of file ───▶ │  the helper exits: it can't outlive the test
const helperEnv = "CGSHIM_CGROUP_TEST_HELPER"

// helpers do the work, and return the report.
var helpers = map[string]func(args []string) string{
	"wait":        func([]string) string { return "done" },
	"ignore-term": func([]string) string { signal.Ignore(unix.SIGTERM); return "deaf" },
	"work":        work,
	"eat":         eat,
	"count":       count,
	"fork-bomb":   forkBomb,
	"join":        join,
}

func runHelper(name string, args []string) int {
	in := bufio.NewReader(os.Stdin)
	fmt.Println("ready")
	if _, err := in.ReadString('\n'); err != nil {
		return 0
	}
	fmt.Println(helpers[name](args))
	_, _ = in.ReadString('\n')
	return 0
}

// What work has used, at least.
const (
	workBytes = 32 << 20
	workCPU   = 100 * time.Millisecond
)

// work touches memory, which it keeps, and burns CPU time; reports how much, in nanoseconds.
func work([]string) string {
	touch(workBytes)
	start := cpuTime()
	for cpuTime()-start < workCPU {
		for n := range 100_000 {
			sink += n
		}
	}
	return strconv.FormatInt(int64(cpuTime()-start), 10)
}

var sink int

func cpuTime() time.Duration {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// touch maps memory outside of Go's heap, and writes to each page.
func touch(bytes int) {
	memory, err := unix.Mmap(-1, 0, bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		panic(err)
	}
	for i := 0; i < bytes; i += 4096 {
		memory[i] = 1
	}
}

// eat takes more memory than any test allows it, but not all that a machine without a limit has.
func eat([]string) string {
	for range 256 {
		touch(1 << 20)
	}
	return "survived"
}

// count appends a byte to a file, again and again, until it is killed. A file that does not grow tells
// the test that the helper does not run.
func count(args []string) string {
	f, err := os.OpenFile(args[0], os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err.Error()
	}
	for {
		if _, err := f.WriteString("."); err != nil {
			return err.Error()
		}
		time.Sleep(100 * time.Microsecond)
	}
}

// join enters a group as package reexec does it: the literal "0" into each of the descriptors from 3 up.
// Only the thread that writes moves; it reports where to.
func join(args []string) string {
	runtime.LockOSThread()
	n, _ := strconv.Atoi(args[0])
	for fd := 3; fd < 3+n; fd++ {
		if _, err := unix.Write(fd, []byte("0")); err != nil {
			return "join: " + err.Error()
		}
	}
	content, err := os.ReadFile("/proc/thread-self/cgroup")
	if err != nil {
		return err.Error()
	}
	return strconv.Quote(string(content))
}

// used remembers the helpers that tests started; tests run one after the other.
var used = map[string]bool{}

func unusedHelpers() []string {
	var unused []string
	for name := range helpers {
		if !used[name] {
			unused = append(unused, name)
		}
	}
	slices.Sort(unused)
	return unused
}
