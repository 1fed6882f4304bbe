package main

import (
	"slices"
	"testing"

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
	got := slices.Clone(signals.Forwarded)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// Each word that is a subcommand is one of those whose signals are left alone, and has a completion.
func TestEverySubcommand(t *testing.T) {
	for _, word := range signals.Others {
		if word[0] != '-' && !isSubcommand(word) {
			t.Errorf("%s is no subcommand", word)
		}
	}
	if isSubcommand("prog") || isSubcommand("--help") {
		t.Error("what is none is a subcommand")
	}
}
