package sys

import (
	"os"
	"slices"
	"testing"
)

func TestProcesses(t *testing.T) {
	self := os.Getpid()
	list := Processes()
	i := slices.IndexFunc(list, func(p Process) bool { return p.PID == self })
	if i < 0 {
		t.Fatal("this process is not there")
	}
	if p := list[i]; p.Parent != os.Getppid() || p.Zombie || p.Threads < 2 {
		t.Errorf("%+v", p)
	}
}
