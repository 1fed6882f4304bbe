package shim

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cgshim/cgshim/cgroup"
)

// A caller that reads only after the end has a pipe's room, 64 KiB, with an id in front; and still has valid JSON that says
// what is missing.
func TestResultFitsIntoPipe(t *testing.T) {
	long := func(unit string) string { return strings.Repeat(unit, 100_000/len(unit)) }
	many := slices.Repeat([]string{"y"}, 100_000)
	errorOf := func(text string) *Result { return UsageError(&Config{Args: []string{"x"}}, errors.New(text)) }
	warned := newResult(&Config{Args: []string{"x", "y"}})
	warned.Warnings = slices.Repeat([]string{long("w")}, 100)
	lists := newResult(&Config{Args: []string{"x"}, Limits: cgroup.Limits{CPUSetCPUs: long("0,"), CPUSetMems: long("0,")}})
	for name, test := range map[string]struct {
		result *Result
		args   bool // cut
	}{
		"short":               {newResult(&Config{Args: []string{"x", "y"}}), false},
		"a long argument":     {newResult(&Config{Args: []string{"x", long("a"), "z"}}), true},
		"many":                {newResult(&Config{Args: many}), true},
		"escaped":             {newResult(&Config{Args: []string{"x", long("\x01"), "z"}}), true},
		"invalid":             {newResult(&Config{Args: []string{"x", long("\xff"), "z"}}), true},
		"wide":                {newResult(&Config{Args: []string{"x", long("𝄞"), "z"}}), true},
		"a long program":      {newResult(&Config{Args: []string{long("x")}}), true},
		"message":             {errorOf(long("m")), false},
		"message, escaped":    {errorOf(long("\x02")), false},
		"warnings":            {warned, false},
		"cpusets":             {lists, false},
		"paths":               {newResult(&Config{Args: []string{"x"}, FSReadOnly: slices.Repeat([]string{long("/")}, 20), FSReadWrite: slices.Repeat([]string{"/a"}, 20000)}), false},
		"message and args":    {UsageError(&Config{Args: many}, errors.New(long("m"))), true},
		"a hundred long ones": {newResult(&Config{Args: slices.Repeat([]string{strings.Repeat("b", 1000)}, 100)}), true},
	} {
		args := slices.Clone(test.result.Argv)
		for _, pretty := range []bool{false, true} {
			line := test.result.JSON(pretty)
			var got Result
			if err := json.Unmarshal(line, &got); err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if len(line) > maxResult {
				t.Errorf("%s: %d bytes, want at most %d", name, len(line), maxResult)
			}
			if got.ArgvTruncated != test.args || len(got.Argv) == 0 {
				t.Errorf("%s: truncated %v, %d arguments of %d", name, got.ArgvTruncated, len(got.Argv), len(args))
			}
			for i, arg := range got.Argv {
				last := got.ArgvTruncated && i == len(got.Argv)-1
				if whole := strings.ToValidUTF8(args[i], "\ufffd"); arg != whole && !last {
					t.Errorf("%s: argument %d is another one", name, i)
				}
			}
		}
		if !slices.Equal(args, test.result.Argv) || test.result.ArgvTruncated {
			t.Errorf("%s: JSON has changed the result", name)
		}
	}
	// What there is room for is used.
	if line := newResult(&Config{Args: many}).JSON(false); len(line) < maxResult-100 {
		t.Errorf("%d bytes, of %d", len(line), maxResult)
	}
}
