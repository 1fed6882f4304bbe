package cgroup_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/cgshim/cgshim/cgroup"
)

// Limit a new group, and remove it in the end.
func ExampleGroup_Set() {
	host, err := cgroup.Detect()
	if err != nil {
		fmt.Println(err)
		return
	}
	group, err := host.Create(fmt.Sprintf("/cgshim-test-%d-set", os.Getpid()), cgroup.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer group.Remove()

	err = group.Set(cgroup.Limits{
		Memory: 64 << 20, // 64 MiB, and no swap
		PIDs:   16,
		CPUs:   0.5, // half of one CPU
	})
	fmt.Println("error:", err)
	// Output: error: <nil>
}

// Move a running program into a group. It keeps the memory that it has used before.
func ExampleGroup_Add() {
	host, err := cgroup.Detect()
	if err != nil {
		fmt.Println(err)
		return
	}
	group, err := host.Create(fmt.Sprintf("/cgshim-test-%d-add", os.Getpid()), cgroup.Options{Controllers: []cgroup.Controller{cgroup.PIDs}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer group.Remove()

	program := exec.Command("sleep", "60")
	if err := program.Start(); err != nil {
		fmt.Println(err)
		return
	}
	defer program.Wait()
	defer program.Process.Kill()
	if err := group.Add(program.Process.Pid); err != nil {
		fmt.Println(err)
		return
	}

	processes, err := group.Procs()
	fmt.Println("processes:", len(processes), "error:", err)
	// Output: processes: 1 error: <nil>
}

// Look at a program's peak memory while it runs.
func ExampleGroup_Stats() {
	host, err := cgroup.Detect()
	if err != nil {
		fmt.Println(err)
		return
	}
	group, err := host.Create(fmt.Sprintf("/cgshim-test-%d-stats", os.Getpid()), cgroup.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer group.Remove()

	// The shell waits for a line: it does nothing before it is in the group.
	program := exec.Command("sh", "-c", "read line; sleep 0.1")
	stdin, err := program.StdinPipe()
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := program.Start(); err != nil {
		fmt.Println(err)
		return
	}
	if err := group.Add(program.Process.Pid); err != nil {
		fmt.Println(err)
	}
	fmt.Fprintln(stdin, "go")

	exited := make(chan error)
	go func() { exited <- program.Wait() }()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	var peak cgroup.Figure
	for running := true; running; {
		select {
		case <-ticker.C:
		case <-exited:
			running = false
		}
		stats, err := group.Stats()
		if err != nil {
			fmt.Println(err)
		}
		peak = stats.MemoryPeak // bytes; not Known before Linux 5.19 on cgroup v2
	}
	fmt.Println("has a peak:", peak.Value > 0)
	// Output: has a peak: true
}

// Kill whatever a program has started, and remove the group. A group with a process can't be removed.
func ExampleGroup_Kill() {
	host, err := cgroup.Detect()
	if err != nil {
		fmt.Println(err)
		return
	}
	group, err := host.Create(fmt.Sprintf("/cgshim-test-%d-kill", os.Getpid()), cgroup.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer group.Remove()

	program := exec.Command("sleep", "60")
	if err := program.Start(); err != nil {
		fmt.Println(err)
		return
	}
	if err := group.Add(program.Process.Pid); err != nil {
		fmt.Println(err)
	}

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := group.Kill(ctx); err != nil {
		fmt.Println(err)
	}
	fmt.Println(program.Wait())
	fmt.Println("removed:", group.Remove() == nil)
	// Output:
	// signal: killed
	// removed: true
}
