package reexec

import (
	"reflect"
	"strings"
	"testing"
)

func TestSpecRoundTrip(t *testing.T) {
	for name, spec := range map[string]Spec{
		"minimal":         {Args: []string{"true"}},
		"everything":      {Args: []string{"a", "b"}, Env: []string{"K=V", "L=W"}, Dir: "/tmp", AllowNewPrivs: true, NewSession: true, parent: 4242, pgrp: 4241},
		"empty strings":   {Args: []string{"", ""}, Env: []string{"", ""}},
		"odd bytes":       {Args: []string{"\xff\n\x01"}, Env: []string{"no equals sign", "=x", "\x80=\xfe"}, Dir: "\xc3\x28"},
		"env like args":   {Args: []string{"x"}, Env: []string{"x", "y", "z"}},
		"largest parent":  {Args: []string{"x"}, parent: 1<<62 + 1},
		"a long argument": {Args: []string{strings.Repeat("x", 1<<20)}},
	} {
		t.Run(name, func(t *testing.T) { checkRoundTrip(t, &spec) })
	}
}

func checkRoundTrip(t *testing.T, spec *Spec) {
	t.Helper()
	b := spec.encode()
	if got := uint64At(b); got != uint64(len(b)-8) {
		t.Errorf("leading length is %d, of %d bytes that follow", got, len(b)-8)
	}
	var got Spec
	if !got.decode(b[8:]) {
		t.Fatalf("decode refused %q", b)
	}
	if !reflect.DeepEqual(got, *spec) {
		t.Errorf("round trip gave %+v, want %+v", got, *spec)
	}
}

func TestDecodeRefuses(t *testing.T) {
	whole := (&Spec{Args: []string{"prog", "arg"}, Env: []string{"K=V"}, Dir: "/"}).encode()[8:]
	env := len("K=V\x00")
	for n := range whole {
		// At exactly this length nothing but the environment is missing: that is a spec too.
		if accepted := new(Spec).decode(whole[:n]); accepted != (n == len(whole)-env) {
			t.Errorf("decode of the first %d of %d bytes = %v", n, len(whole), accepted)
		}
	}
	if none := (&Spec{Env: []string{"K=V"}}).encode()[8:]; new(Spec).decode(none) {
		t.Error("decode accepted a spec without arguments")
	}
}

// FuzzSpec: what encode wrote decode reads back, and no bytes make decode panic or accept a spec that
// has no program.
func FuzzSpec(f *testing.F) {
	f.Add([]byte("prog\x00arg\x00K=V\x00"), "/dir", uint8(2), true)
	f.Add([]byte(""), "", uint8(0), false)
	f.Add((&Spec{Args: []string{"prog"}, Env: []string{"K=V"}}).encode()[8:], "", uint8(9), false)
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), "", uint8(1), false)
	f.Fuzz(func(t *testing.T, raw []byte, dir string, nargs uint8, allow bool) {
		if s := new(Spec); s.decode(raw) && len(s.Args) == 0 {
			t.Errorf("decode accepted %q without arguments", raw)
		}
		list := strings.Split(string(raw), "\x00") // never empty
		n := min(max(int(nargs), 1), len(list))
		spec := Spec{Args: list[:n:n], Dir: strings.ReplaceAll(dir, "\x00", ""), AllowNewPrivs: allow, parent: len(raw)}
		if n < len(list) {
			spec.Env = list[n:]
		}
		checkRoundTrip(t, &spec)
	})
}

// The names are the contract's "step" values: lookup is part of exec there.
func TestStepNames(t *testing.T) {
	want := map[Step]string{
		StepStage: "stage", StepChdir: "chdir", StepLookup: "exec", StepClone: "clone", StepJoin: "join",
		StepRlimit: "rlimit", StepNoNewPrivs: "no-new-privs", StepPdeathsig: "pdeathsig", StepExec: "exec",
		StepExec + 1: "unknown",
	}
	for step, name := range want {
		if got := step.String(); got != name {
			t.Errorf("Step(%d).String() = %q, want %q", step, got, name)
		}
	}
}
