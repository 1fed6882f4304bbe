package reexec

import (
	"reflect"
	"strings"
	"testing"
)

// What is decoded encodes to the same, and garbage is refused without a panic.
func FuzzDecodeSpec(f *testing.F) {
	for _, spec := range []*Spec{
		{Args: []string{"prog"}},
		{
			Args: []string{"prog", "", "a b"}, Env: []string{"A=1", "B="}, Dir: "/tmp", AllowNewPrivs: true, NewNet: true,
			Rlimits: []Rlimit{{7, 1, 2}, {9, ^uint64(0), ^uint64(0)}}, Credential: &Credential{1, 2, []uint32{3, 4}},
			Affinity: []uint64{1, 1 << 63}, AffinityOptional: true, parent: 1, mask: 1 << 40,
		},
		{Args: []string{strings.Repeat("x", 1000)}, Credential: &Credential{}},
	} {
		f.Add(spec.encode()[8:])
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		var spec, again Spec
		if !spec.decode(b) {
			return
		}
		if !again.decode(spec.encode()[8:]) || !reflect.DeepEqual(spec, again) {
			t.Errorf("%+v becomes %+v", spec, again)
		}
	})
}
