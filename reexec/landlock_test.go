package reexec

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// signalScope is a ruleset by which a program can't send signals to others.
func signalScope(t *testing.T) int {
	t.Helper()
	attr := unix.LandlockRulesetAttr{Scoped: unix.LANDLOCK_SCOPE_SIGNAL}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Offsetof(attr.Quiet_access_fs), 0)
	if errno != 0 {
		t.Skip("requires landlock: its signal scope: ", errno)
	}
	t.Cleanup(func() { _ = unix.Close(int(fd)) })
	return int(fd)
}

// The program restricts itself after no_new_privs; without that, before it loses the privileges which it takes then.
func TestPlanRestricts(t *testing.T) {
	who := &Credential{UID: 1, GID: 1}
	steps := func(spec *Spec) (list []Step, flags uint32) {
		m := composed(t, spec, Join{}, Descriptors{Keep: []int{firstFD}, Ruleset: 9})
		if last := m.fds[len(m.fds)-1]; last != 9 || m.order.rules != 1 {
			t.Errorf("the last descriptor is %d, and %d of them a ruleset", last, m.order.rules)
		}
		for _, call := range m.order.calls[:m.order.count] {
			if step := call.step; step == StepUser || step == StepNoNewPrivs || step == StepLandlock {
				list = append(list, step)
			}
			if call.step == StepLandlock {
				flags = call.flags
				if call.a1 != uintptr(len(m.fds)-1) {
					t.Errorf("restricts itself by descriptor %d of %d", call.a1, len(m.fds))
				}
			}
		}
		return slices.Compact(list), flags
	}
	for _, test := range []struct {
		spec  Spec
		want  []Step
		flags uint32
	}{
		{Spec{Credential: who}, []Step{StepUser, StepNoNewPrivs, StepLandlock}, callDescriptor},
		{Spec{Credential: who, AllowNewPrivs: true}, []Step{StepLandlock, StepUser}, callDescriptor},
		{Spec{RulesetOptional: true}, []Step{StepNoNewPrivs, StepLandlock}, callDescriptor | callTold},
	} {
		test.spec.Args = []string{"x"}
		if got, flags := steps(&test.spec); !slices.Equal(got, test.want) || flags != test.flags {
			t.Errorf("%+v: %v %#x, want %v %#x", test.spec, got, flags, test.want, test.flags)
		}
	}
}

// It is in force before execve, the program has not got the descriptor, and the next program of a stage is not bound by it.
func TestLaunchRestricts(t *testing.T) {
	ruleset := signalScope(t)
	lock(t)
	spec := &Spec{Args: []string{"/bin/sh", "-c", "kill -0 $PPID 2>/dev/null && echo can; ls /proc/self/fd"}}
	stage, end := staying(t, false)
	defer end()
	for _, test := range []struct {
		stage   *Stage
		ruleset int
	}{{stage, ruleset}, {stage, 0}, {start(t), ruleset}} {
		o := runWith(t, test.stage, spec, Join{}, Descriptors{Ruleset: test.ruleset})
		if o.status != 0 || o.Unrestricted != 0 || strings.Contains(o.out, "can") != (test.ruleset == 0) {
			t.Errorf("ruleset %d: %+v", test.ruleset, o)
		}
		if fds := strings.Fields(strings.TrimPrefix(o.out, "can\n")); len(fds) != 4 { // with that of ls itself
			t.Errorf("ruleset %d: the program has descriptors %q", test.ruleset, fds)
		}
	}
}

// What is no ruleset is an error; or the shim is told, and the program runs.
func TestLaunchCannotRestrict(t *testing.T) {
	lock(t)
	null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(null)
	spec := &Spec{Args: []string{"/bin/true"}}
	_, err = start(t).Launch(spec, Join{}, Descriptors{Ruleset: null})
	var e *Error
	if !errors.As(err, &e) || e.Step != StepLandlock || e.Errno == 0 {
		t.Errorf("launch: %v, want an error of step %v", err, StepLandlock)
	}
	noChildren(t)
	spec.RulesetOptional = true
	if o := runWith(t, start(t), spec, Join{}, Descriptors{Ruleset: null}); o.status != 0 || o.Unrestricted == 0 {
		t.Errorf("%+v", o)
	}
}
