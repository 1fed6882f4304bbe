package flags

import (
	"strings"
	"testing"
)

func TestScan(t *testing.T) {
	for _, test := range []struct {
		args, want string
		found      bool
	}{
		{"", "", false},
		{"--", "", false},
		{"prog", "", false},
		{"--fd 3 prog", "3", true},
		{"--fd=3 prog", "3", true},
		{"-fd 3 prog", "3", true},
		{"-fd=3 prog", "3", true},
		{"--fd= prog", "", true},
		{"--bogus --fd 3 prog", "3", true}, // the parser stops before it, the result has to go there
		{"--pretty --fd 3 prog", "3", true},
		{"--mem 64M --fd 3 prog", "3", true},
		{"--mem=64M --fd 3 -- prog", "3", true},
		{"--fd 3 --fd 4 prog", "4", true}, // the last one, as for every flag
		{"--fd 3 --fd=4 prog", "4", true},
		{"--fd 3 -- --fd 4", "3", true},
		{"-- prog --fd 3", "", false},
		{"--fd -- prog", "", false},
		{"--fd 3 prog --fd 4", "3", true}, // the program's own
		{"--bogus prog --fd 4", "", false},
		{"--bogus value --fd 4 -- prog", "4", true},
		{"--bogus 1 --fd 3 --bogus 2 --fd 4 --bogus -- prog --fd 5", "4", true},
		{"--bogus=1 --nosuch --fd=3 -x 5 -- prog", "3", true},
		{"--mem --fd 3 -- prog", "3", true}, // a value that is missing
		{"--mem --fd=3 prog", "3", true},
		{"--env --pretty --fd 3 prog", "3", true},
		{"--fd --pretty prog", "", false},
		{"--fd 3 --mem -- --fd 4", "3", true},
		{"--wall-time -1s --fd 3 prog", "3", true},
		{"--stdin - --fd 3 prog", "3", true},
		{"- --fd 3", "", false},
		{"--fd", "", false},
		{"---fd 3", "", false},
		{"--fdx 3", "", false},
		{"--fdx=3", "", false},
		{"fd 3", "", false},
	} {
		if got, found := Scan(strings.Fields(test.args))("fd"); got != test.want || found != test.found {
			t.Errorf("%q: %q, %v, want %q, %v", test.args, got, found, test.want, test.found)
		}
	}
}
