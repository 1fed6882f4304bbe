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

// The signals of each subcommand but "run" are left alone, and of no other word.
func TestEverySubcommand(t *testing.T) {
	var words []string
	for _, s := range subcommands {
		if s.run != nil {
			words = append(append(words, s.aliases...), s.name)
		}
	}
	others := slices.Clone(signals.Others)
	slices.Sort(words)
	slices.Sort(others)
	if !slices.Equal(words, others) {
		t.Errorf("%q, want %q", others, words)
	}
	if findSubcommand("prog") != nil || findSubcommand("--mem") != nil || findSubcommand("") != nil {
		t.Error("a word that is no subcommand is one")
	}
}
