package main

import (
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cmd/cgshim/internal/signals"
	"github.com/cgshim/cgshim/shim"
)

// What has a handler from the start is what package shim knows what to do with.
func TestForwardedSignals(t *testing.T) {
	var want []unix.Signal
	for _, sig := range shim.ForwardedSignals() {
		want = append(want, sig.(unix.Signal))
	}
	got := slices.Clone(signals.Forwarded[:])
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// A subcommand that runs no program, or many, has the signals' usual actions from its start on, also for those that came earlier.
func TestSignalsOfSubcommands(t *testing.T) {
	for i := range 24 {
		cmd := command(t, "batch", "--jobs", "1")
		stdin, err := cmd.StdinPipe() // a batch waits for requests
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * time.Millisecond)
		_ = cmd.Process.Signal(unix.SIGTERM)
		_ = cmd.Wait()
		_ = stdin.Close()
		status := cmd.ProcessState.Sys().(syscall.WaitStatus)
		if status.Signal() != unix.SIGTERM && status.ExitStatus() != 128+int(unix.SIGTERM) {
			t.Errorf("after %d ms: %v", i, cmd.ProcessState)
		}
	}
}

func TestFindSubcommand(t *testing.T) {
	for word, want := range map[string]string{"ps": "ps", "run": "run", "-h": "help", "--help": "help", "--version": "version"} {
		if s := findSubcommand(word); s == nil || s.name != want {
			t.Errorf("%s: %+v, want %s", word, s, want)
		}
	}
	for _, word := range []string{"prog", "--mem", "-m", "", "--", "--ps", "p"} {
		if s := findSubcommand(word); s != nil {
			t.Errorf("%q is %s", word, s.name)
		}
	}
}
