package reexec

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// staying starts a stage that stays. After end nothing of it may be left.
func staying(t *testing.T, guardian bool) (stage *Stage, end func()) {
	t.Helper()
	before := countFDs(t)
	stage, err := Start(Options{Guardian: guardian, Stay: true})
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	watch(t, stage)
	return stage, func() {
		t.Helper()
		stage.Close()
		noChildren(t)
		if after := countFDs(t); after != before {
			t.Errorf("%d descriptors before, %d after", before, after)
		}
		if stage.Ready() || stage.PID() != 0 {
			t.Errorf("after Close, Ready() is %v and PID() is %d", stage.Ready(), stage.PID())
		}
	}
}

// outputOn is output of a stage that stays.
func outputOn(t *testing.T, stage *Stage, spec *Spec, join Join) string {
	t.Helper()
	o := runOn(t, stage, spec, join, nil)
	if !o.status.Exited() || o.status.ExitStatus() != 0 {
		t.Fatalf("%q ended with wait status %#x", spec.Args, o.status)
	}
	if !stage.Ready() {
		t.Fatalf("the stage has ended after %q", spec.Args)
	}
	return o.out
}

// errorOn is launchError of a stage that stays.
func errorOn(t *testing.T, stage *Stage, spec *Spec, join Join) Error {
	t.Helper()
	program, err := stage.Launch(spec, join, Descriptors{})
	var e *Error
	if !errors.As(err, &e) || program != (Program{}) {
		t.Fatalf("%q: Launch = %+v, %v", spec.Args, program, err)
	}
	if children, err := childrenOf(os.Getpid()); err != nil || len(children) > 1 {
		t.Errorf("after %v there are processes %v beside the stage, %v", e, children, err)
	}
	return *e
}

// steady waits until a stage has done what it does after a launch, and returns its descriptors.
func steady(t *testing.T, stage *Stage, want int) (targets map[int]string) {
	t.Helper()
	for end := time.Now().Add(generous / 2); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if targets = descriptorsOf(stage.PID()); len(targets) == want {
			return targets
		}
	}
	t.Errorf("the stage has descriptors %v, want %d", targets, want)
	return targets
}

var whereAmI = []string{"/bin/sh", "-c", "pwd -P; readlink /proc/self/ns/net"}

// What one launch asks for, or fails of, does not change the next one.
func TestStay(t *testing.T) {
	everyWay(t, func(t *testing.T, join Join) {
		for _, guarded := range []bool{false, true} {
			testStay(t, join, guarded)
		}
	})
}

func testStay(t *testing.T, join Join, guarded bool) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	full := openFile(t, "/dev/full", os.O_WRONLY)
	stage, end := staying(t, guarded)
	defer end()
	pid := stage.PID()
	// 0 is a group of another pid namespace, which Start leaves alone.
	if pgrp, err := unix.Getpgid(pid); err != nil || unix.Getpgrp() != 0 && pgrp == unix.Getpgrp() {
		t.Errorf("the stage's process group is %d, this one's %d, %v", pgrp, unix.Getpgrp(), err)
	}
	want := outputOn(t, stage, &Spec{Args: whereAmI}, join)
	wd, err := os.Getwd()
	if err != nil || !strings.HasPrefix(want, wd+"\nnet:") {
		t.Fatalf("it is in %q, this process in %q, %v", want, wd, err)
	}
	elsewhere := &Spec{Args: whereAmI, Dir: dir, NewNet: os.Geteuid() == 0}
	for round := range 2 {
		got := strings.Split(outputOn(t, stage, elsewhere, join), "\n")
		if inherited := strings.Contains(want, got[1]); got[0] != dir || inherited == elsewhere.NewNet {
			t.Errorf("round %d: it is in %q, with a network of its own and in %q", round, got, dir)
		}
		for _, c := range []struct {
			spec Spec
			join Join
			want Error
		}{
			{Spec{Args: []string{"/missing"}}, join, Error{Step: StepLookup, Errno: unix.ENOENT, Arg: "/missing"}},
			{Spec{Args: []string{"/missing"}, Dir: dir}, join, Error{Step: StepLookup, Errno: unix.ENOENT, Arg: "/missing"}},
			{Spec{Args: whereAmI, Dir: "/missing"}, join, Error{Step: StepChdir, Errno: unix.ENOENT, Arg: "/missing"}},
			{Spec{Args: []string{"/dev/null"}, Dir: dir, NewNet: elsewhere.NewNet}, join, Error{Step: StepExec, Errno: unix.EACCES, Arg: "/dev/null"}},
			{Spec{Args: whereAmI}, Join{Tasks: []int{full}}, Error{Step: StepJoin, Errno: unix.ENOSPC}},
			{Spec{Args: whereAmI, Rlimits: []Rlimit{{unix.RLIMIT_CPU, 2, 1}}}, join, Error{Step: StepRlimit, Errno: unix.EINVAL}},
			{Spec{Args: []string{"x", strings.Repeat("x", stageMemory)}}, join, Error{Step: StepExec, Errno: unix.E2BIG, Arg: "x"}},
		} {
			if got := errorOn(t, stage, &c.spec, c.join); got != c.want {
				t.Errorf("round %d: %+v, want %+v", round, got, c.want)
			}
			if got := outputOn(t, stage, &Spec{Args: whereAmI}, join); got != want {
				t.Errorf("round %d: after %v, it is in %q, want %q", round, c.want.Error(), got, want)
			}
		}
	}
	if stage.PID() != pid {
		t.Errorf("the stage was %d, and is %d", pid, stage.PID())
	}
}

// A stage that stays has a socket and the guardian's pipe, and of the last launch the group to kill by.
func TestStayDescriptors(t *testing.T) {
	everyWay(t, func(t *testing.T, join Join) {
		numbers, kept := keepable(t)
		stage, end := staying(t, true)
		defer end()
		want := 5
		steady(t, stage, want)
		if join.Into != 0 {
			want++
		}
		for range 3 {
			o := runOn(t, stage, &Spec{Args: listFDs, Dir: "/"}, join, numbers)
			if got := keptIn(o.out); !slices.Equal(got, kept) {
				t.Errorf("got %q, want %q", got, kept)
			}
			steady(t, stage, want)
			if got := outputOn(t, stage, &Spec{Args: []string{"/bin/sh", "-c", "ls /proc/$$/fd; :"}}, join); got != "0\n1\n2\n" {
				t.Errorf("the next program has descriptors %q", strings.Fields(got))
			}
			for _, name := range []string{"/missing", "/dev/null"} {
				errorOn(t, stage, &Spec{Args: []string{name}, Dir: "/"}, join)
			}
			steady(t, stage, want)
		}
	})
}

// anonymous is how much memory a process has that no file backs, in KiB.
func anonymous(t *testing.T, pid int) (kib int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(parseStatus(string(text))["Anonymous"], &kib); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return kib
}

// An order's memory is given back, whatever its size was: else each large launch would make the copies of a stage, which
// the next programs are, more expensive.
func TestStayMemory(t *testing.T) {
	lock(t)
	stage, end := staying(t, false)
	defer end()
	launch := func(size int) {
		t.Helper()
		const each = 100_000 // the kernel's limit is 128 KiB
		spec := &Spec{Args: []string{"/bin/true"}}
		for ; size > 0; size -= each {
			spec.Args = append(spec.Args, strings.Repeat("x", min(size, each)))
		}
		outputOn(t, stage, spec, Join{})
	}
	launch(0)
	before := anonymous(t, stage.PID())
	// Each ends late in a unit of 64 KiB, and no later one reaches there.
	for units := 22; units > 4; units-- {
		launch(units<<16 + 58_000)
	}
	var after int
	for end := time.Now().Add(generous / 2); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if after = anonymous(t, stage.PID()); after <= before+64 {
			return
		}
	}
	t.Errorf("%d KiB before, %d after", before, after)
}

// A stage that was killed is an error once, and has ended then.
func TestStayKilled(t *testing.T) {
	for _, guarded := range []bool{false, true} {
		for launches := range 2 {
			t.Run(fmt.Sprintf("guarded %v, after %d launches", guarded, launches), func(t *testing.T) {
				lock(t)
				stage, end := staying(t, guarded)
				defer end()
				for range launches {
					outputOn(t, stage, &Spec{Args: []string{"/bin/true"}}, Join{})
				}
				killStage(t, stage)
				_, err := stage.Launch(&Spec{Args: []string{"/bin/true"}}, Join{}, Descriptors{})
				checkStageError(t, err)
				if stage.Ready() {
					t.Error("it has not ended")
				}
				stage.Close()
				noChildren(t)
				_, err = stage.Launch(&Spec{Args: []string{"/bin/true"}}, Join{}, Descriptors{})
				checkStageError(t, err)
			})
		}
	}
}

// What ends a staying stage while a program runs leaves the program alone.
func TestStayEnds(t *testing.T) {
	lock(t)
	stage, end := staying(t, true)
	defer end()
	program, err := stage.Launch(&Spec{Args: []string{"/bin/sleep", "1000"}}, Join{}, Descriptors{})
	if err != nil {
		t.Fatal(err)
	}
	stage.Close()
	if err := unix.Kill(program.PID, unix.SIGKILL); err != nil {
		t.Error(err)
	}
	if status, _ := wait(t, program.PID); status.Signal() != unix.SIGKILL {
		t.Errorf("wait status %#x, want SIGKILL", status)
	}
}

// Programs of one stage run at the same time, each this process's child.
func TestStayAtOnce(t *testing.T) {
	lock(t)
	stage, end := staying(t, false)
	defer end()
	var programs []Program
	for range 5 {
		program, err := stage.Launch(&Spec{Args: []string{"/bin/sleep", "1000"}}, Join{}, Descriptors{})
		if err != nil {
			t.Fatal(err)
		}
		programs = append(programs, program)
	}
	for i, program := range programs {
		if i > 0 && program.StartedNanos <= programs[i-1].StartedNanos {
			t.Errorf("%+v was started before the one before it, %+v", program, programs[i-1])
		}
		if err := unix.Kill(program.PID, unix.SIGKILL); err != nil {
			t.Error(err)
		}
		if status, _ := wait(t, program.PID); status.Signal() != unix.SIGKILL {
			t.Errorf("wait status %#x, want SIGKILL", status)
		}
	}
}

// Each program is in the groups of its own launch only, and so is the stage in none of them.
func TestStayGroups(t *testing.T) {
	t.Run("v1", func(t *testing.T) {
		lock(t)
		dir, tasks := v1Group(t, "pids")
		testStayGroups(t, "pids", dir, Join{Tasks: []int{tasks}})
	})
	t.Run("v2", func(t *testing.T) {
		lock(t)
		dir, join := v2Group(t)
		testStayGroups(t, "", dir, join)
		join.noInto = true
		testStayGroups(t, "", dir, join)
	})
}

func testStayGroups(t *testing.T, controller, dir string, join Join) {
	stage, end := staying(t, true)
	defer end()
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		inGroup(t, outputOn(t, stage, catCgroup, join), controller, dir)
		if got := outputOn(t, stage, catCgroup, Join{}); got != string(own) {
			t.Errorf("the next program is in %q, want %q", got, own)
		}
	}
	if members, err := os.ReadFile(dir + "/cgroup.procs"); err != nil || len(members) > 0 {
		t.Errorf("the group's members are %q, %v", members, err)
	}
}
