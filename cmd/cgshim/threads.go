package main

import (
	"runtime"
	"sync"
)

// A program without --pids can take all tasks that a limit above leaves (docker's --pids-limit, systemd's TasksMax,
// another cgshim's --pids), and a Go process that can't make a thread when it wants one ends, with no result. So the
// threads are made before the program: the runtime keeps those that nobody uses.
const (
	mostProcs    = 4 // more CPUs would only want more threads
	spareThreads = 8 // for system calls that block: the program's end, its output, files
)

func reserveThreads() {
	procs := min(runtime.GOMAXPROCS(0), mostProcs)
	if procs < runtime.GOMAXPROCS(0) {
		runtime.GOMAXPROCS(procs)
	}
	var made sync.WaitGroup
	release := make(chan struct{})
	for range procs + spareThreads {
		made.Add(1)
		go func() {
			runtime.LockOSThread() // which takes one for itself alone
			defer runtime.UnlockOSThread()
			made.Done()
			<-release
		}()
	}
	made.Wait()
	close(release)
}
