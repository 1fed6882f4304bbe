package reexec

import (
	"bufio"
	"bytes"
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
	will = bytes.TrimSpace(will)
	if len(will) == 0 {
		return // see TestNoWill
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
	stage, err := Start(Options{Guardian: true, Stay: strings.Contains(point, "staying"), NewSession: true})
	if err == nil {
		err = stage.Bequeath([]byte(will))
	}
	if err != nil {
		fatalf("%v", err)
	}
	spec := &Spec{Args: os.Args[3:]}
	var program Program
	switch point {
	case "launched", "failed":
		program, err = stage.Launch(spec, Join{}, Descriptors{Keep: keep})
		if point == "failed" && errors.Is(err, unix.ENOENT) {
			err = nil
		}
	case "staying", "staying, failed":
		program, err = stage.Launch(spec, Join{}, Descriptors{Keep: keep})
		if point == "staying, failed" && err == nil {
			if _, err = stage.Launch(&Spec{Args: []string{"/no/such/program"}}, Join{}, Descriptors{}); errors.Is(err, unix.ENOENT) {
				err = nil
			}
		}
	case "closed", "staying, closed":
		program, err = stage.Launch(spec, Join{}, Descriptors{})
		stage.Close()
	}
	if err != nil {
		fatalf("%v", err)
	}
	fmt.Println(program.PID, stage.PID())
	time.Sleep(time.Hour)
}

// killedAt kills a shim at a point, and says whether its will was executed.
func killedAt(t *testing.T, env []string, point string, program ...string) (executed bool) {
	t.Helper()
	becomeSubreaper(t)
	will := t.TempDir() + "/will"
	cmd := exec.Command(self(t), append([]string{point, will}, program...)...)
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
		"bequeathed": "/bin/sleep", "launched": "/bin/sleep", "failed": "/no/such/program",
		"staying": "/bin/sleep", "staying, failed": "/bin/sleep",
	}
	everyPoint := slices.Sorted(maps.Keys(programs))
	for name, c := range map[string]struct{ env, points []string }{
		"":             {nil, everyPoint},
		"old kernel, ": {[]string{oldKernelEnv + "=1"}, []string{"bequeathed", "launched", "staying"}},
	} {
		for _, point := range c.points {
			t.Run(name+point, func(t *testing.T) {
				if !killedAt(t, c.env, point, programs[point], "1000") {
					t.Error("nobody executed the will")
				}
			})
		}
		for _, point := range []string{"closed", "staying, closed"} {
			t.Run(name+point, func(t *testing.T) {
				if killedAt(t, c.env, point, "/bin/sleep", "1000") {
					t.Error("the guardian was ended, and executed the will")
				}
			})
		}
	}
}

// leaveWill is a shim that ends without a word, and with the will that it was given.
func leaveWill() {
	runtime.LockOSThread()
	stage, err := Start(Options{Guardian: true})
	for range 100 { // more than a pipe takes
		if err == nil && len(os.Args) > 1 {
			err = stage.Bequeath(bytes.Repeat([]byte("\n"), 4096))
		}
	}
	if err == nil {
		err = stage.Bequeath([]byte(strings.Join(os.Args[1:], "")))
	}
	if err != nil {
		fatalf("%v", err)
	}
}

// leftWill has a shim leave a will, and waits for its guardian.
func leftWill(t *testing.T, args ...string) {
	t.Helper()
	leftWillBy(t, exec.Command(self(t), args...))
}

func leftWillBy(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	becomeSubreaper(t)
	cmd.Env = append(os.Environ(), helper("leave-will"))
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	for { // the guardian, and what has made it
		var status unix.WaitStatus
		switch _, err := unix.Wait4(-1, &status, unix.WALL, nil); {
		case errors.Is(err, unix.ECHILD):
			return
		case err != nil || status != 0:
			t.Fatalf("it ended with wait status %#x, %v", status, err)
		}
	}
}

// A stage whose process has forgotten it ends, with a will that says nothing.
func TestNoWill(t *testing.T) { leftWill(t) }

// A will may be as long as it has to be: paths of groups are up to 4 KiB.
func TestLongWill(t *testing.T) {
	file := t.TempDir() + "/will"
	leftWill(t, file)
	if content, err := os.ReadFile(file); string(content) != "done" {
		t.Errorf("%q, %v", content, err)
	}
}

// … whatever the caller's limit of file sizes is, if we may raise it; we are not killed by it.
func TestWillAboveFileSize(t *testing.T) {
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("-1"), 0); err != nil {
		t.Skip("requires sys_resource")
	}
	file := t.TempDir() + "/will"
	leftWillBy(t, exec.Command("sh", "-c", `ulimit -f 1 && exec "$0" "$1"`, self(t), file))
	if content, err := os.ReadFile(file); string(content) != "done" {
		t.Errorf("%q, %v", content, err)
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
	stage, err := Start(Options{Guardian: true, NewSession: true})
	if err != nil {
		t.Fatal(err)
	}
	program, err := stage.Launch(&Spec{Args: []string{"/bin/cat"}, Dir: t.TempDir()}, Join{}, Descriptors{})
	if err != nil {
		t.Fatal(err)
	}
	proc := "/proc/" + strconv.Itoa(stage.PID())
	var fds []os.DirEntry
	for end := time.Now().Add(generous); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if fds, err = os.ReadDir(proc + "/fd"); err == nil && len(fds) == 2 {
			break
		}
	}
	if len(fds) != 2 { // the socket, and the file
		t.Errorf("it has descriptors %v, want two", fds)
	}
	if dir, err := os.Readlink(proc + "/cwd"); dir != "/" {
		t.Errorf("it is in %q, %v", dir, err)
	}
	own, ownErr := unix.Getsid(0)
	if sid, err := unix.Getsid(stage.PID()); sid == own || err != nil || ownErr != nil {
		t.Errorf("it is in session %d, as we are, %v, %v", sid, err, ownErr)
	}
	var status []byte
	for end := time.Now().Add(generous); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if status, err = os.ReadFile(proc + "/status"); err != nil {
			t.Fatal(err)
		}
		if !entered || resident(string(status)) <= 1024 { // else it is the copy of a Go process
			break
		}
	}
	if entered && resident(string(status)) > 1024 {
		t.Errorf("%s: more than 1 MiB", status)
	}
	if !strings.HasPrefix(string(status), "Name:\t"+guardianName+"\n") {
		t.Errorf("it is called %.20q", status)
	}
	_ = unix.Kill(program.PID, unix.SIGKILL)
	wait(t, program.PID)
	stage.Close()
	stage.Close()
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
			stage, err := Start(Options{Guardian: guarded})
			if err != nil {
				b.Fatal(err)
			}
			program, err := stage.Launch(&Spec{Args: []string{"/bin/true"}}, Join{}, Descriptors{})
			if err != nil {
				b.Fatal(err)
			}
			reap(program.PID)
			stage.Close()
			took[i] = append(took[i], time.Since(begin))
		}
	}
	for _, t := range took {
		slices.Sort(t)
	}
	b.ReportMetric((took[1][b.N/2]-took[0][b.N/2]).Seconds()*1e3, "ms/guardian")
	b.ReportMetric(took[0][b.N/2].Seconds()*1e3, "ms/launch")
}
