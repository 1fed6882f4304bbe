package reexec

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// planned are the system calls of an order, by the flag that has them left out.
func planned(t *testing.T, spec *Spec, skipped uint32) (traps []uintptr) {
	t.Helper()
	m := composed(t, spec, Join{}, Descriptors{})
	for i := range m.order.calls[:m.order.count] {
		if c := &m.order.calls[i]; c.flags&skipped == 0 {
			traps = append(traps, c.trap)
		}
	}
	return traps
}

// The user changes before there is a user namespace that lacks the caller's, whose files are opened while that many may be open; and
// what limits the user's processes is set outside.
func TestPlanUserNS(t *testing.T) {
	spec := &Spec{Args: []string{"x"}, NewNet: true, Credential: &Credential{UID: 1}, Rlimits: []Rlimit{{unix.RLIMIT_NPROC, 1, 1}}}
	before := []uintptr{unix.SYS_SETSID, unix.SYS_SETGROUPS, unix.SYS_SETRESGID}
	after := []uintptr{
		unix.SYS_PRLIMIT64, unix.SYS_PRCTL, unix.SYS_PRCTL, unix.SYS_GETPPID,
		unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGACTION,
		unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK,
	}
	write := []uintptr{unix.SYS_OPENAT, unix.SYS_WRITE}
	want := slices.Concat(before, []uintptr{unix.SYS_SETRESUID, unix.SYS_SETFSUID, unix.SYS_CAPSET, unix.SYS_PRLIMIT64, unix.SYS_UNSHARE},
		write, write, write, []uintptr{unix.SYS_SOCKET, unix.SYS_IOCTL, unix.SYS_SETRESUID, unix.SYS_CAPSET}, after)
	if got := planned(t, spec, callPrivileged); !slices.Equal(got, want) {
		t.Errorf("in a user namespace: system calls %d, want %d", got, want)
	}
	want = slices.Concat(before, []uintptr{unix.SYS_SETRESUID, unix.SYS_CAPSET, unix.SYS_PRLIMIT64}, after)
	if got := planned(t, spec, callUnprivileged); !slices.Equal(got, want) {
		t.Errorf("without: system calls %d, want %d", got, want)
	}
	spec.Credential = nil
	if got := planned(t, spec, callPrivileged); slices.Contains(got, unix.SYS_SETFSUID) || !slices.Contains(got, unix.SYS_UNSHARE) {
		t.Errorf("as the caller: system calls %d", got)
	}
	spec.AllowNewPrivs = true
	if got := planned(t, spec, 0); slices.Contains(got, unix.SYS_UNSHARE) {
		t.Errorf("set-user-ID programs are to work: system calls %d", got)
	}
}

// who prints who it is, its network and its user namespace: of an ordinary user the numbers are those outside, and capabilities none.
var who = []string{"/bin/sh", "-c", `echo $(id -u) $(id -g) $(grep -hE '^(Groups|Cap(Inh|Prm|Eff|Amb)):' /proc/self/status) \
	$(tail -n +3 /proc/net/dev | cut -d: -f1) $(grep -c 127.0.0.1 /proc/net/fib_trie) $(readlink /proc/self/ns/net; readlink /proc/self/ns/user)`}

// A stage that may not make a network namespace has the program make it, again and again, and stays where it is.
func TestNewNetUnprivileged(t *testing.T) {
	requireRoot(t)
	for _, as := range []string{"nobody", "root", "change"} {
		cmd := exec.Command(self(t), as)
		cmd.Env = append(os.Environ(), helper("no-network"))
		out, err := cmd.CombinedOutput()
		if strings.HasPrefix(string(out), "skip") {
			t.Skip(string(out))
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		if err != nil || len(lines) != 5 {
			t.Fatalf("%s: %q, %v", as, out, err)
		}
		before, with, after := lines[0], lines[1:4], lines[4]
		want := fmt.Sprintf("%d %[1]d Groups: 65534", nobody)
		switch as {
		case "root":
			want = "0 0 Groups: 65534"
		case "change":
			want = strings.TrimSuffix(want, " 65534")
		}
		want += " CapInh: 0000000000000000 CapPrm: 0000000000000000 CapEff: 0000000000000000 CapAmb: 0000000000000000 lo "
		for _, line := range with {
			rest, is := strings.CutPrefix(line, want)
			if !is || strings.HasPrefix(rest, "0 ") {
				t.Errorf("%s: %q, want %q, and loopback up", as, line, want)
			}
			for _, namespace := range strings.Fields(rest)[1:] {
				if strings.Contains(before, namespace) {
					t.Errorf("%s: %q: %s is the caller's", as, line, namespace)
				}
			}
		}
		if after != before {
			t.Errorf("%s: the program after it is in %q, the one before in %q", as, after, before)
		}
	}
}

// launchWithoutNetwork launches programs without a privilege to make a network namespace, and prints what they do: one with this
// process's network, three with their own, and one more.
func launchWithoutNetwork() {
	runtime.LockOSThread()
	where := &Spec{Args: []string{"/bin/sh", "-c", "echo $(readlink /proc/self/ns/net; readlink /proc/self/ns/user)"}}
	spec := &Spec{Args: who, NewNet: true}
	var err error
	switch os.Args[1] {
	case "nobody":
		err = errors.Join(unix.Setgroups([]int{4}), unix.Setgid(nobody), unix.Setuid(nobody))
	case "change":
		spec.Credential = &Credential{UID: nobody, GID: nobody}
		fallthrough
	case "root": // also what it executes is to lack the capability
		err = errors.Join(unix.Setgroups([]int{4}), unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_SYS_ADMIN, 0, 0, 0))
	}
	if err != nil {
		fatalf("%v", err)
	}
	stage, err := Start(Options{Stay: true})
	if err != nil {
		fatalf("Start: %v", err)
	}
	defer stage.Close()
	for _, s := range []*Spec{where, spec, spec, spec, where} {
		program, err := stage.Launch(s, Join{}, Descriptors{})
		if err != nil {
			if exec.Command("/usr/bin/unshare", "--user", "true").Run() != nil {
				fmt.Println("skip: no user namespaces for users")
				return
			}
			fatalf("%v", err)
		}
		var status unix.WaitStatus
		if _, err := unix.Wait4(program.PID, &status, 0, nil); err != nil || status != 0 {
			fatalf("%v %v", status, err)
		}
	}
}
