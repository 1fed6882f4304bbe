package shim

import (
	"errors"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/shim/internal/ledger"
)

func TestValidate(t *testing.T) {
	ok := []string{"true"}
	for name, test := range map[string]struct {
		cfg  Config
		good bool
	}{
		"minimal":              {Config{Args: ok}, true},
		"everything":           {Config{Args: ok, Env: []string{"A=", "B=x=y"}, Dir: "/", Parent: "/a/b", Name: "x-1_.:@+", CPUTime: 1, WallTime: 1, StopTimeout: -1}, true},
		"empty argument":       {Config{Args: []string{"true", ""}}, true},
		"no args":              {Config{}, false},
		"empty args":           {Config{Args: []string{}}, false},
		"empty program":        {Config{Args: []string{"", "x"}}, false},
		"NUL in program":       {Config{Args: []string{"a\x00b"}}, false},
		"NUL in argument":      {Config{Args: []string{"true", "a\x00"}}, false},
		"NUL in environment":   {Config{Args: ok, Env: []string{"A=\x00"}}, false},
		"NUL in directory":     {Config{Args: ok, Dir: "/\x00"}, false},
		"NUL in parent":        {Config{Args: ok, Parent: "/\x00"}, false},
		"environment without=": {Config{Args: ok, Env: []string{"A"}}, false},
		"environment no key":   {Config{Args: ok, Env: []string{"=A"}}, false},
		"empty environment":    {Config{Args: ok, Env: []string{""}}, false},
		"relative parent":      {Config{Args: ok, Parent: "a/b"}, false},
		"negative CPU time":    {Config{Args: ok, CPUTime: -1}, false},
		"negative wall time":   {Config{Args: ok, WallTime: -time.Second}, false},
		"memory limit -2":      {Config{Args: ok, Limits: cgroup.Limits{Memory: -2}}, false},
		"NaN CPUs":             {Config{Args: ok, Limits: cgroup.Limits{CPUs: math.NaN()}}, false},
		"swap without memory":  {Config{Args: ok, Limits: cgroup.Limits{Swap: 1}}, false},
		"longest name":         {Config{Args: ok, Name: strings.Repeat("n", 200)}, true},
		"name of 300":          {Config{Args: ok, Name: strings.Repeat("n", 300)}, false},
		// Allowed: on v1, where there is no such file, it is a name like any other; on v2 Create refuses it.
		"name memory.max": {Config{Args: ok, Name: "memory.max"}, true},
		"name ..inside":   {Config{Args: ok, Name: "a..b"}, true},
	} {
		if err := test.cfg.Validate(); (err == nil) != test.good {
			t.Errorf("%s: %v, want success: %v", name, err, test.good)
		} else if err != nil && !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v is not ErrConfig", name, err)
		}
	}
}

// A name that is more than one element, or that a shell or a table would mangle, must not get as far as mkdir.
func TestValidateNames(t *testing.T) {
	for _, name := range []string{"/", "a/b", "/a", "..", ".", ".a", "-a", "_a", "a b", "a\nb", "\n", "a\x00", "\x00", "ä", "a\x7f", "a\\", "a*", "a\xff"} {
		cfg := Config{Args: []string{"true"}, Name: name}
		if err := cfg.Validate(); !errors.Is(err, ErrConfig) {
			t.Errorf("name %q: %v, want ErrConfig", name, err)
		}
	}
}

// The cause of a refused limit stays visible to errors.Is, next to ErrConfig.
func TestValidateKeepsCause(t *testing.T) {
	cfg := Config{Args: []string{"true"}, Limits: cgroup.Limits{CPUShares: 1}}
	if err := cfg.Validate(); !errors.Is(err, cgroup.ErrInvalid) {
		t.Errorf("%v is not cgroup.ErrInvalid", err)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("SHIM_TEST_INHERITED", "yes")
	for name, test := range map[string]struct{ env, want []string }{
		"empty":     {[]string{}, []string{}},
		"order":     {[]string{"B=1", "A=2"}, []string{"B=1", "A=2"}},
		"last wins": {[]string{"A=1", "B=1", "A=2", "C=1", "A=3"}, []string{"B=1", "C=1", "A=3"}},
		"prefixes":  {[]string{"AB=1", "A=B=2", "A=3"}, []string{"AB=1", "A=3"}},
	} {
		cfg := Config{Env: test.env}
		if got := cfg.environment(); !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
		// Reexec's Spec and execve take nil for empty, but a nil here would mean "inherit" to a reader.
		if got := cfg.environment(); got == nil {
			t.Errorf("%s: nil", name)
		}
	}
	inherited := (&Config{}).environment()
	if !slices.Contains(inherited, "SHIM_TEST_INHERITED=yes") || len(inherited) > len(os.Environ()) {
		t.Errorf("nil is not the caller's environment: %q", inherited)
	}
}

func TestStopTimeout(t *testing.T) {
	for given, want := range map[time.Duration]time.Duration{
		0:           DefaultStopTimeout,
		-1:          0,
		-time.Hour:  0,
		1:           1,
		time.Minute: time.Minute,
	} {
		if got := (&Config{StopTimeout: given}).stopTimeout(); got != want {
			t.Errorf("StopTimeout %v: %v, want %v", given, got, want)
		}
	}
}

func TestNameMade(t *testing.T) {
	if got := (&Config{Name: "x"}).runName(); got != "x" {
		t.Errorf("%q, want x", got)
	}
	cfg := &Config{}
	a, b := cfg.runName(), cfg.runName()
	if a == b || CheckName(a) != nil {
		t.Errorf("the names made are %q and %q", a, b)
	}
	for path, want := range map[string]bool{
		DefaultParent + "-" + a: true, // see run.path
		DefaultParent + "/" + a: true,
		"/other/" + a:           true,
		"/" + a:                 false, // anybody's
		"/other-" + a:           false,
		"/other/x":              false,
	} {
		if got := ledger.Automatic(path); got != want {
			t.Errorf("%q was made for a run without a name: %v, want %v", path, got, want)
		}
	}
}
