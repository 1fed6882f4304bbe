package cgroup_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/cgshim/cgshim/cgroup"
)

// Are there cgroups here, and which?
func ExampleDetect() {
	host, err := cgroup.Detect()
	if errors.Is(err, cgroup.ErrNotMounted) {
		fmt.Println("no cgroups here")
		return
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("version 1 or 2:", host.Version() == cgroup.V1 || host.Version() == cgroup.V2)
	fmt.Println("can limit memory:", host.Has(cgroup.Memory))
	// Output:
	// version 1 or 2: true
	// can limit memory: true
}

// Where the controllers are mounted: on v2 all in the same place, on v1 usually each in its own.
func ExampleHost_MountPoint() {
	host, err := cgroup.Detect()
	if err != nil {
		fmt.Println(err)
		return
	}
	memory, pids := host.MountPoint(cgroup.Memory), host.MountPoint(cgroup.PIDs)
	fmt.Println("mounted:", memory != "" && pids != "")
	fmt.Println("in one place on v2:", host.Version() == cgroup.V1 || memory == pids)
	// Output:
	// mounted: true
	// in one place on v2: true
}

// Make a group by name, for the resources that matter, and remove it. Its parent is made and removed with it.
func ExampleHost_Create() {
	host, err := cgroup.Detect()
	if err != nil {
		fmt.Println(err)
		return
	}
	parent := fmt.Sprintf("/cgshim-test-%d-create", os.Getpid())
	group, err := host.Create(parent+"/job-1", cgroup.Options{
		Controllers: []cgroup.Controller{cgroup.Memory, cgroup.PIDs},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("exists:", host.Exists(group.Path()))
	_, err = host.Create(parent+"/job-1", cgroup.Options{})
	fmt.Println("again:", errors.Is(err, os.ErrExist))

	fmt.Println("error:", group.Remove())
	fmt.Println("exists:", host.Exists(group.Path()), host.Exists(parent))
	// Output:
	// exists: true
	// again: true
	// error: <nil>
	// exists: false false
}

// Clean up after a program that was killed before it could remove its group.
func ExampleHost_Open() {
	host, err := cgroup.Detect()
	if err != nil {
		fmt.Println(err)
		return
	}
	path := fmt.Sprintf("/cgshim-test-%d-open", os.Getpid())
	if _, err := host.Create(path, cgroup.Options{}); err != nil { // and then that program was killed
		fmt.Println(err)
		return
	}

	group, err := host.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return // nothing is left
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	fmt.Println("kill:", group.Kill(ctx), "remove:", group.Remove())
	// Output: kill: <nil> remove: <nil>
}

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

// Some swap besides memory, where the host has any.
func ExampleGroup_Set_swap() {
	host, err := cgroup.Detect()
	if err != nil {
		fmt.Println(err)
		return
	}
	group, err := host.Create(fmt.Sprintf("/cgshim-test-%d-swap", os.Getpid()), cgroup.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer group.Remove()

	err = group.Set(cgroup.Limits{Memory: 64 << 20, Swap: 16 << 20})
	fmt.Println("done:", err == nil || errors.Is(err, cgroup.ErrSwapAccounting))
	// Output: done: true
}

// Give one group twice as much of the CPUs as another, when both want them: by v1's shares, of which every group has 1024, or by
// v2's weight, of which it has 100. Either works on either version.
func ExampleGroup_Set_shares() {
	host, err := cgroup.Detect()
	if err != nil {
		fmt.Println(err)
		return
	}
	for name, limits := range map[string]cgroup.Limits{"shares": {CPUShares: 2048}, "weight": {CPUWeight: 200}} {
		group, err := host.Create(fmt.Sprintf("/cgshim-test-%d-%s", os.Getpid(), name), cgroup.Options{})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println("error:", group.Set(limits))
		if err := group.Remove(); err != nil {
			fmt.Println(err)
		}
	}
	// Output:
	// error: <nil>
	// error: <nil>
}

// The process limit: a program that starts more than it may is refused that, and the group counts it.
func ExampleGroup_Set_processes() {
	host, err := cgroup.Detect()
	if err != nil {
		fmt.Println(err)
		return
	}
	group, err := host.Create(fmt.Sprintf("/cgshim-test-%d-processes", os.Getpid()), cgroup.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer group.Remove()
	if err := group.Set(cgroup.Limits{PIDs: 1}); err != nil {
		fmt.Println(err)
		return
	}

	program := exec.Command("sh", "-c", "read line; sleep 60 & exit 0")
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
	fmt.Println("success:", program.Wait() == nil)
	stats, err := group.Stats(cgroup.PartPIDs)
	fmt.Println("denied:", stats.PIDsDenied.Value > 0, "error:", err)
	// Output:
	// success: false
	// denied: true error: <nil>
}

// Move a running program into a group. It keeps the memory that it has used before.
func ExampleGroup_Add() {
	host, err := cgroup.Detect()
	if err != nil {
		fmt.Println(err)
		return
	}
	group, err := host.Create(fmt.Sprintf("/cgshim-test-%d-add", os.Getpid()), cgroup.Options{
		Controllers: []cgroup.Controller{cgroup.PIDs},
	})
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
		stats, err := group.Stats(cgroup.PartMemory)
		if err != nil {
			fmt.Println(err)
		}
		peak = stats.MemoryPeak // bytes; not Known before Linux 5.19 on cgroup v2
	}
	fmt.Println("has a peak:", peak.Value > 0)
	// Output: has a peak: true
}

// How much CPU time was used, also after the last process is gone.
func ExampleGroup_Stats_cpu() {
	host, err := cgroup.Detect()
	if err != nil {
		fmt.Println(err)
		return
	}
	group, err := host.Create(fmt.Sprintf("/cgshim-test-%d-cpu", os.Getpid()), cgroup.Options{
		Controllers: []cgroup.Controller{cgroup.CPU},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer group.Remove()

	program := exec.Command("sh", "-c", "read line; i=0; while [ $i -lt 1000 ]; do i=$((i+1)); done")
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
	if err := program.Wait(); err != nil {
		fmt.Println(err)
	}

	stats, err := group.Stats(cgroup.PartCPU)
	used := time.Duration(stats.CPUUsage.Value)
	fmt.Println("used some:", used > 0, "error:", err)
	// Output: used some: true error: <nil>
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

// Hear of it when a group runs out of memory.
func ExampleGroup_WatchOOM() {
	host, err := cgroup.Detect()
	if err != nil {
		fmt.Println(err)
		return
	}
	group, err := host.Create(fmt.Sprintf("/cgshim-test-%d-oom", os.Getpid()), cgroup.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer group.Remove()
	if err := group.Set(cgroup.Limits{Memory: 64 << 20}); err != nil && !errors.Is(err, cgroup.ErrSwapAccounting) {
		fmt.Println(err)
		return
	}
	watch, err := group.WatchOOM()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer watch.Close()

	// Nobody is in the group, which is why this ends with the context.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	fmt.Println(watch.Wait(ctx))
	// Output: context deadline exceeded
}

func ExampleParseCPUList() {
	cpus, err := cgroup.ParseCPUList("0-2,7")
	fmt.Println(cpus, err)
	// Output: [0 1 2 7] <nil>
}
