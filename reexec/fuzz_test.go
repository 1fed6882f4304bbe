package reexec

import (
	"encoding/binary"
	"strings"
	"testing"
)

// What an order says is what was asked for, whatever that is.
func FuzzCompose(f *testing.F) {
	f.Add([]byte("prog\x00arg\x00K=V\x00PATH=/a::b"), "/dir", uint8(2), uint16(0), []byte{})
	f.Add([]byte(""), "", uint8(0), uint16(0xffff), []byte{7, 1, 2, 9, 255, 255, 7, 3, 4})
	f.Add([]byte("/x\x00\xff\n\x00=\x00\x00"), "\x80", uint8(9), uint16(0x155), []byte("numbers of all kinds"))
	f.Fuzz(func(t *testing.T, raw []byte, dir string, nargs uint8, flags uint16, numbers []byte) {
		list := strings.Split(string(raw), "\x00") // never empty
		n := min(max(int(nargs), 1), len(list))
		flag := func(i int) bool { return flags>>i&1 != 0 }
		spec := &Spec{
			Args: list[:n:n], Env: list[n:], Dir: strings.ReplaceAll(dir, "\x00", ""), AllowNewPrivs: flag(0), NewNet: flag(1),
			AffinityOptional: flag(3),
		}
		if flag(4) {
			for b := numbers; len(b) >= 3; b = b[3:] {
				spec.Rlimits = append(spec.Rlimits, Rlimit{int(b[0] % rlimits), uint64(b[1]) << 32, uint64(b[2]) << 32})
			}
		}
		if flag(5) {
			spec.Credential = &Credential{UID: uint32(flags), GID: uint32(nargs)}
			for _, b := range numbers {
				spec.Credential.Groups = append(spec.Credential.Groups, uint32(b)<<24|uint32(b))
			}
		}
		if flag(6) {
			for b := numbers; len(b) >= 8; b = b[8:] {
				spec.Affinity = append(spec.Affinity, binary.NativeEndian.Uint64(b))
			}
		}
		if err := spec.check(); err != nil {
			t.Fatal(err)
		}
		checkCompose(t, spec)
	})
}
