package reexec

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const nobody = 65534

func requireRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("requires root")
	}
}

// listFDs prints a program's descriptors, "number target".
var listFDs = []string{"/bin/sh", "-c", `for fd in /proc/$$/fd/*; do echo "${fd##*/} $(readlink "$fd")"; done`}

// keepable opens a file under each number that is free. listed is what listFDs prints of them.
func keepable(t *testing.T) (numbers []int, listed []string) {
	t.Helper()
	dir := t.TempDir()
	for number := 3; number < 40; number++ {
		if _, err := unix.FcntlInt(uintptr(number), unix.F_GETFD, 0); err == nil {
			continue // the test's own, or the Go runtime's
		}
		path := filepath.Join(dir, "keep-"+strconv.Itoa(number))
		fd, err := unix.Open(path, unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
		if err == nil && fd != number {
			err = errors.Join(unix.Dup3(fd, number, unix.O_CLOEXEC), unix.Close(fd))
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(number) })
		numbers = append(numbers, number)
		listed = append(listed, fmt.Sprint(number, " ", path))
	}
	slices.Sort(listed)
	return numbers, listed
}

// keptIn is what listFDs has printed, but for stdio, and for the shell's own: those are close-on-exec, and on the
// directory that it lists.
func keptIn(out string) (lines []string) {
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		number, target, _ := strings.Cut(line, " ")
		if number > "2" && strings.Contains(target, "/keep-") || len(number) > 1 {
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	return lines
}

// Kept descriptors have their own numbers, whichever of the stage's were there, and there are no others.
func TestKeep(t *testing.T) {
	everyWay(t, func(t *testing.T, join Join) {
		lock(t)
		numbers, want := keepable(t)
		if got := keptIn(runKeeping(t, &Spec{Args: listFDs}, join, numbers).out); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestKeepRefused(t *testing.T) {
	lock(t)
	for name, test := range map[string]struct {
		keep  []int
		errno syscall.Errno
		index int
	}{
		"closed":   {[]int{0x7fff0000}, unix.EBADF, 0},
		"standard": {[]int{2}, unix.EINVAL, 0},
		"negative": {[]int{-1}, unix.EINVAL, 0},
		"too many": {make([]int, 129), unix.EINVAL, 128},
	} {
		stage := start(t)
		_, err := stage.Launch(&Spec{Args: []string{"/bin/true"}}, Join{}, Descriptors{Keep: test.keep})
		var e *Error
		if !errors.As(err, &e) || e.Step != StepFD || e.Errno != test.errno || e.Index != test.index {
			t.Errorf("%s: %+v", name, err)
		}
		noChildren(t)
	}
}

// With too few descriptors to pass them all on, nothing runs.
func TestKeepWithoutRoom(t *testing.T) {
	out := underShell(t, Join{}, "ulimit -n 12", "/bin/true")
	if out != "" {
		t.Error(out)
	}
	lock(t)
	file := openFile(t, filepath.Join(t.TempDir(), "x"), os.O_CREATE|os.O_RDWR)
	number := 200
	if err := unix.Dup3(file, number, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(number)
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	low := unix.Rlimit{Cur: 100, Max: 100}
	stage := start(t)
	if err := unix.Prlimit(stage.PID(), unix.RLIMIT_NOFILE, &low, nil); err != nil {
		t.Fatal(err)
	}
	_, err := stage.Launch(&Spec{Args: []string{"/bin/true"}}, Join{}, Descriptors{Keep: []int{number}})
	var e *Error
	if !errors.As(err, &e) || e.Step != StepFD || e.Errno != unix.EBADF || e.Index != 0 {
		t.Errorf("descriptor 200 with a limit of 100: %+v", err)
	}
	noChildren(t)
}

func TestStdio(t *testing.T) {
	lock(t)
	dir := t.TempDir()
	in := openFile(t, dir+"/in", os.O_CREATE|os.O_RDWR)
	out := openFile(t, dir+"/out", os.O_CREATE|os.O_RDWR)
	if _, err := unix.Write(in, []byte("text")); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Seek(in, 0, 0); err != nil {
		t.Fatal(err)
	}
	stage := start(t)
	program, err := stage.Launch(&Spec{Args: []string{"/bin/sh", "-c", "cat; echo err >&2"}}, Join{}, Descriptors{Stdio: &[3]int{in, out, out}})
	if err != nil {
		t.Fatal(err)
	}
	if status, _ := wait(t, program.PID); status != 0 {
		t.Errorf("wait status %#x", status)
	}
	if content, err := os.ReadFile(dir + "/out"); err != nil || string(content) != "texterr\n" {
		t.Errorf("%q, %v", content, err)
	}
}

// limitsOf runs a program that prints its resource limits.
func limitsOf(t *testing.T, spec Spec, join Join, name string) string {
	t.Helper()
	spec.Args = []string{"/bin/cat", "/proc/self/limits"}
	for line := range strings.Lines(output(t, &spec, join)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			fields := strings.Fields(rest)
			return fields[0] + " " + fields[1]
		}
	}
	t.Fatalf("no limit %q", name)
	return ""
}

func TestRlimits(t *testing.T) {
	everyWay(t, func(t *testing.T, join Join) {
		lock(t)
		unlimited := ^uint64(0)
		spec := Spec{Rlimits: []Rlimit{
			{unix.RLIMIT_NOFILE, 64, 128},
			{unix.RLIMIT_CORE, 0, 0},
			{unix.RLIMIT_STACK, 1 << 20, unlimited},
			{unix.RLIMIT_NPROC, 1, 1},
			{unix.RLIMIT_NOFILE, 33, 44},
		}}
		for name, want := range map[string]string{
			"Max open files": "33 44", "Max core file size": "0 0", "Max stack size": "1048576 unlimited", "Max processes": "1 1",
		} {
			if got := limitsOf(t, spec, join, name); got != want {
				t.Errorf("%s: %s, want %s", name, got, want)
			}
		}
	})
}

// Without a limit on files the program has the caller's, and not what the Go runtime made of it.
func TestRlimitsLeaveNofile(t *testing.T) {
	out := underShell(t, Join{}, "ulimit -Sn 77", "/bin/sh", "-c", "ulimit -Sn")
	if strings.TrimSpace(out) != "77" {
		t.Errorf("soft limit %q", out)
	}
}

func TestRlimitRefused(t *testing.T) {
	lock(t)
	e := launchError(t, &Spec{Args: []string{"/bin/true"}, Rlimits: []Rlimit{{unix.RLIMIT_CORE, 0, 0}, {unix.RLIMIT_CPU, 2, 1}}}, Join{})
	if e.Step != StepRlimit || e.Errno != unix.EINVAL || e.Index != 1 {
		t.Errorf("soft above hard: %+v", *e)
	}
	if err := (&Spec{Args: []string{"x"}, Rlimits: []Rlimit{{Resource: 16}}}).check(); err == nil {
		t.Error("resource 16 is accepted")
	}
}

// idsOf are the ids of a program with a credential, as /proc/PID/status says.
func idsOf(t *testing.T, credential *Credential, join Join) string {
	t.Helper()
	out := output(t, &Spec{Args: []string{"/bin/cat", "/proc/self/status"}, Credential: credential}, join)
	var ids []string
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "Uid:") || strings.HasPrefix(line, "Gid:") || strings.HasPrefix(line, "Groups:") {
			ids = append(ids, strings.Join(strings.Fields(line), " "))
		}
	}
	return strings.Join(ids, ", ")
}

func TestCredential(t *testing.T) {
	requireRoot(t)
	everyWay(t, func(t *testing.T, join Join) {
		lock(t)
		for want, credential := range map[string]*Credential{
			"Uid: 65534 65534 65534 65534, Gid: 1 1 1 1, Groups:":     {UID: nobody, GID: 1},
			"Uid: 65534 65534 65534 65534, Gid: 1 1 1 1, Groups: 5 7": {UID: nobody, GID: 1, Groups: []uint32{7, 5}},
		} {
			if got := idsOf(t, credential, join); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
	})
}

// A program that runs as another user has no capability that could be left from the one before: an ambient one, an
// inheritable one, or all of them with the securebit no_setuid_fixup.
func TestCredentialCapabilities(t *testing.T) {
	requireRoot(t)
	if err := exec.Command("setpriv", "--securebits=+noroot", "/bin/true").Run(); err != nil {
		t.Skip("requires setpriv of util-linux: ", err) // a busybox's knows no securebits
	}
	const none = "CapInh 0, CapPrm 0, CapEff 0, CapAmb 0"
	const caps = "+setuid,+setgid,+dac_read_search" // the last one for the way to this binary
	ambient := []string{"--inh-caps=" + caps, "--ambient-caps=" + caps}
	alice := slices.Concat([]string{"--reuid=1000", "--regid=1000", "--clear-groups"}, ambient)
	bits := func(s string) []string { return []string{"--securebits=" + s} }
	for _, test := range []struct {
		name   string
		caller []string // how setpriv makes it
		user   string
		want   string
	}{
		{"root", nil, "65534", none},
		{"root with inheritable ones", ambient[:1], "65534", none},
		{"root with ambient ones", ambient, "65534", none},
		{"no_setuid_fixup", bits("+no_setuid_fixup"), "65534", none},
		{"no_setuid_fixup, ambient", slices.Concat(bits("+no_setuid_fixup"), ambient), "65534", none},
		{"no_setuid_fixup, noroot, ambient", slices.Concat(bits("+no_setuid_fixup,+noroot"), ambient), "65534", none},
		{"noroot, to root", slices.Concat(bits("+noroot"), ambient), "0", none},
		{"another user with ambient ones", alice, "65534", none},
		{"the same user with ambient ones", alice, "1000", none},
		{"another user to root", alice, "0", "CapInh c4, CapPrm c4, CapEff c4, CapAmb 0"},
	} {
		cmd := exec.Command("setpriv", slices.Concat(test.caller, []string{self(t), "/bin/cat", "/proc/self/status"})...)
		cmd.Env = append(os.Environ(), helper("launch"), "AS="+test.user)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		status := parseStatus(string(out))
		var sets []string
		for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapAmb"} {
			sets = append(sets, set+" "+cmp.Or(strings.TrimLeft(status[set], "0"), "0"))
		}
		uid, _, _ := strings.Cut(status["Uid"], "\t")
		if got := strings.Join(sets, ", "); got != test.want || uid != test.user {
			t.Errorf("%s: user %s, %s; want %s, %s", test.name, uid, got, test.user, test.want)
		}
	}
}

// A limit of one process does not stop a user who has others from execve, and does from fork.
func TestCredentialWithNproc(t *testing.T) {
	requireRoot(t)
	lock(t)
	other := exec.Command("/bin/sleep", "1000")
	other.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	o := outcome{}
	func() {
		defer func() {
			_ = other.Process.Kill()
			_ = other.Wait()
		}()
		file := openFile(t, filepath.Join(t.TempDir(), "out"), os.O_CREATE|os.O_RDWR)
		stage := start(t)
		spec := &Spec{
			Args:       []string{"/bin/sh", "-c", "/bin/true; exit 3"},
			Credential: &Credential{UID: nobody, GID: nobody}, Rlimits: []Rlimit{{unix.RLIMIT_NPROC, 1, 1}},
		}
		program, err := stage.Launch(spec, Join{}, Descriptors{Stdio: &[3]int{file, file, file}})
		if err != nil {
			t.Fatalf("Launch: %v", err)
		}
		o.status, o.usage = wait(t, program.PID)
	}()
	if o.status.ExitStatus() == 3 || o.status.ExitStatus() == 0 {
		t.Errorf("it could fork: wait status %#x", o.status)
	}
}

func TestAffinity(t *testing.T) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil || !set.IsSet(0) || !set.IsSet(1) {
		t.Skip("requires two CPUs")
	}
	everyWay(t, func(t *testing.T, join Join) {
		lock(t)
		var narrow unix.CPUSet
		narrow.Set(0)
		if err := unix.SchedSetaffinity(0, &narrow); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.SchedSetaffinity(0, &set) }()
		for want, mask := range map[string][]uint64{"1": {2}, "0-1": {3}, "0": nil} {
			got := output(t, &Spec{Args: []string{"/bin/grep", "Cpus_allowed_list", "/proc/self/status"}, Affinity: mask}, join)
			if fields := strings.Fields(got); fields[1] != want {
				t.Errorf("mask %v: CPUs %s, want %s", mask, fields[1], want)
			}
		}
	})
}

func TestAffinityRefused(t *testing.T) {
	lock(t)
	spec := &Spec{Args: []string{"/bin/true"}, Affinity: []uint64{0}}
	if e := launchError(t, spec, Join{}); e.Step != StepAffinity || e.Errno != unix.EINVAL {
		t.Errorf("no CPU: %+v", *e)
	}
	spec.AffinityOptional = true
	output(t, spec, Join{})
}

func TestNewNet(t *testing.T) {
	requireRoot(t)
	everyWay(t, func(t *testing.T, join Join) {
		lock(t)
		before, err := os.Readlink("/proc/thread-self/ns/net")
		if err != nil {
			t.Fatal(err)
		}
		const script = `tail -n +3 /proc/net/dev | cut -d: -f1; readlink /proc/self/ns/net; cat /proc/net/fib_trie | grep -c 127.0.0.1`
		lines := strings.Fields(output(t, &Spec{Args: []string{"/bin/sh", "-c", script}, NewNet: true}, join))
		// With loopback up, its address is in the routing table.
		if len(lines) != 3 || lines[0] != "lo" || lines[1] == before || lines[2] == "0" {
			t.Errorf("%q; the caller's is %s", lines, before)
		}
		if after, err := os.Readlink("/proc/thread-self/ns/net"); err != nil || after != before {
			t.Errorf("the caller's network has changed: %s, %v", after, err)
		}
	})
}

// What takes a privilege is refused to who has none, and said at which step.
func TestUnprivileged(t *testing.T) {
	requireRoot(t)
	for step, args := range map[string][]string{"net": {"net"}, "user": {"user"}, "rlimit": {"rlimit"}} {
		cmd := exec.Command(self(t), args...)
		cmd.Env = append(os.Environ(), helper("unprivileged"))
		out, err := cmd.CombinedOutput()
		if want := step + ": operation not permitted"; err != nil || strings.TrimSpace(string(out)) != want {
			t.Errorf("%s: %q, %v", step, out, err)
		}
	}
}

// launchUnprivileged launches what its argument names, and prints the error.
func launchUnprivileged() {
	if err := errors.Join(unix.Setgid(nobody), unix.Setuid(nobody)); err != nil {
		fatalf("%v", err)
	}
	runtime.LockOSThread()
	spec := &Spec{Args: []string{"/bin/true"}}
	switch os.Args[1] {
	case "net":
		spec.NewNet, spec.AllowNewPrivs = true, true // else a user namespace does it
	case "user":
		spec.Credential = &Credential{UID: 1, GID: 1}
	case "rlimit":
		low := unix.Rlimit{Cur: 0, Max: 0}
		if err := unix.Setrlimit(unix.RLIMIT_CORE, &low); err != nil {
			fatalf("%v", err)
		}
		spec.Rlimits = []Rlimit{{unix.RLIMIT_CORE, 1, 1}}
	}
	_, err := launch(spec, Join{})
	fmt.Println(err)
}
