package reexec

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// execute is what the guardian of a test becomes: the will is the name of a file to write "done" to.
func execute(will []byte) {
	if len(will) == 0 {
		return // see TestForkAndNothing
	}
	if err := os.WriteFile(string(will), []byte("done"), 0o644); err != nil {
		fatalf("%v", err)
	}
}

// launchGuarded is a shim that comes to a certain point, says so, and waits to be killed. Its arguments are
// the point, the will and the program.
func launchGuarded() {
	runtime.LockOSThread()
	point, will := os.Args[1], os.Args[2]
	var keep []int
	for fd := 3; fd < 10; fd++ { // where the stage has its own
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			continue
		}
		if err := unix.Dup3(2, fd, unix.O_CLOEXEC); err != nil {
			fatalf("dup3: %v", err)
		}
		keep = append(keep, fd)
	}
	stage, err := Start(true)
	if err == nil {
		err = stage.Bequeath([]byte(will))
	}
	spec := &Spec{Args: os.Args[3:], NewSession: stage != nil && !stage.Terminal}
	if point != "bequeathed" && err == nil {
		err = stage.Prepare(spec)
	}
	var program Program
	switch point {
	case "launched", "failed":
		program, err = stage.Launch(Join{}, Descriptors{Keep: keep})
		if point == "failed" && errors.Is(err, unix.ENOENT) {
			err = nil
		}
	case "staying", "staying, failed":
		stage.Stay = true
		program, err = stage.Launch(Join{}, Descriptors{Keep: keep})
		if point == "staying, failed" && err == nil {
			if _, err = launchOn(stage, &Spec{Args: []string{"/no/such/program"}}, Join{}); errors.Is(err, unix.ENOENT) {
				err = nil
			}
		}
	case "dismissed", "staying, dismissed":
		stage.Stay = point != "dismissed"
		program, err = stage.Launch(Join{}, Descriptors{})
		stage.Dismiss()
	}
	if err != nil {
		fatalf("%v", err)
	}
	fmt.Println(program.PID, stage.pid)
	time.Sleep(time.Hour)
}

// killedAt kills a shim at a point, and says whether its will was executed.
func killedAt(t *testing.T, env []string, point string, program ...string) (executed bool) {
	t.Helper()
	becomeSubreaper(t)
	will := t.TempDir() + "/will"
	before := ":"
	if slices.Contains(env, forkEnv+"=1") {
		before = "ulimit -Sn 5" // its descriptors' numbers are above
	}
	cmd := exec.Command("/bin/sh", append([]string{"-c", before + `; exec "$0" "$@"`, self(t), point, will}, program...)...)
	cmd.Env = append(append(os.Environ(), helper("guarded")), env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the shim said nothing: %v", err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	// Orphans come to us: the program, killed by its parent-death signal, and the guardian, in the end.
	watchdog := time.AfterFunc(generous, func() {
		orphans, _ := childrenOf(os.Getpid())
		t.Errorf("after %v there are still %v", generous, orphans)
		for pid := range orphans {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	})
	defer watchdog.Stop()
	for {
		var status unix.WaitStatus
		_, err := unix.Wait4(-1, &status, unix.WALL, nil)
		if errors.Is(err, unix.ECHILD) {
			break
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			t.Fatal(err)
		}
	}
	content, err := os.ReadFile(will)
	if err == nil && string(content) != "done" {
		t.Errorf("%s: %q", line, content)
	}
	return err == nil
}

func TestGuardian(t *testing.T) {
	programs := map[string]string{
		"bequeathed": "/bin/sleep", "prepared": "/bin/sleep", "launched": "/bin/sleep", "failed": "/no/such/program",
		"staying": "/bin/sleep", "staying, failed": "/bin/sleep",
	}
	everyPoint := slices.Sorted(maps.Keys(programs))
	for name, c := range map[string]struct{ env, points []string }{
		"":                     {nil, everyPoint},
		"forked, ":             {[]string{forkEnv + "=1"}, everyPoint},
		"old kernel, ":         {[]string{oldKernelEnv + "=1"}, []string{"launched", "staying"}},
		"old kernel, forked, ": {[]string{oldKernelEnv + "=1", forkEnv + "=1"}, []string{"bequeathed", "launched", "staying"}},
	} {
		for _, point := range c.points {
			t.Run(name+point, func(t *testing.T) {
				if !killedAt(t, c.env, point, programs[point], "1000") {
					t.Error("nobody executed the will")
				}
			})
		}
		for _, point := range []string{"dismissed", "staying, dismissed"} {
			t.Run(name+point, func(t *testing.T) {
				if killedAt(t, c.env, point, "/bin/sleep", "1000") {
					t.Error("the guardian was dismissed, and executed the will")
				}
			})
		}
	}
}

// A guardian costs next to nothing, and holds nothing that somebody could wait for.
func TestGuardianHasNothing(t *testing.T) {
	t.Run("new kernel", func(t *testing.T) { lock(t); guardianHasNothing(t) })
	t.Run("old kernel", func(t *testing.T) { oldKernel(t); guardianHasNothing(t) })
}

func guardianHasNothing(t *testing.T) {
	leak, err := unix.FcntlInt(1, unix.F_DUPFD, 900)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leak)
	before := countFDs(t)
	stage, err := Start(true)
	if err != nil {
		t.Fatal(err)
	}
	program, err := launchOn(stage, &Spec{Args: []string{"/bin/cat"}, Dir: t.TempDir()}, Join{})
	if err != nil {
		t.Fatal(err)
	}
	proc := "/proc/" + strconv.Itoa(stage.pid)
	// It closes the socket first, and is on its own from then on.
	var fds []os.DirEntry
	for end := time.Now().Add(generous); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if fds, err = os.ReadDir(proc + "/fd"); err == nil && len(fds) == 1 {
			break
		}
	}
	if len(fds) != 1 {
		t.Errorf("it has descriptors %v, want one", fds)
	}
	if dir, err := os.Readlink(proc + "/cwd"); dir != "/" {
		t.Errorf("it is in %q, %v", dir, err)
	}
	if sid, err := unix.Getsid(stage.pid); sid != stage.pid {
		t.Errorf("it is in session %d, %v", sid, err)
	}
	var status []byte
	for end := time.Now().Add(generous); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if status, err = os.ReadFile(proc + "/status"); err != nil {
			t.Fatal(err)
		}
		if usesCgo || resident(string(status)) <= 1024 { // it gives memory back only without
			break
		}
	}
	if !usesCgo && resident(string(status)) > 1024 {
		t.Errorf("%s: more than 1 MiB", status)
	}
	if !strings.HasPrefix(string(status), "Name:\t"+guardianName+"\n") {
		t.Errorf("it is called %.20q", status)
	}
	_ = unix.Kill(program.PID, unix.SIGKILL)
	wait(t, program.PID)
	stage.Dismiss()
	stage.Dismiss()
	noChildren(t)
	if after := countFDs(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// resident is the VmRSS of a status file, in KiB; a lot if it is not there.
func resident(status string) int {
	_, after, _ := strings.Cut(status, "VmRSS:")
	var kib int
	if _, err := fmt.Sscan(after, &kib); err != nil {
		return 1 << 30
	}
	return kib
}

// BenchmarkGuardian tells what a guardian costs a launch: the difference of the medians of launches with and
// without one, taken in turn. A stage in its own process group is part of it.
func BenchmarkGuardian(b *testing.B) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var took [2][]time.Duration
	for range b.N {
		for i, guarded := range []bool{false, true} {
			begin := time.Now()
			stage, err := Start(guarded)
			if err == nil {
				err = stage.Prepare(&Spec{Args: []string{"/bin/true"}})
			}
			if err != nil {
				b.Fatal(err)
			}
			program, err := stage.Launch(Join{}, Descriptors{})
			if err != nil {
				b.Fatal(err)
			}
			reap(program.PID)
			stage.Dismiss()
			took[i] = append(took[i], time.Since(begin))
		}
	}
	for _, t := range took {
		slices.Sort(t)
	}
	b.ReportMetric((took[1][b.N/2]-took[0][b.N/2]).Seconds()*1e3, "ms/guardian")
	b.ReportMetric(took[0][b.N/2].Seconds()*1e3, "ms/launch")
}
