package flags

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/sys/user"
	"github.com/urfave/cli/v2"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/shim"
)

// parseFlags is what a command line becomes, without a run.
func parseFlags(t *testing.T, args ...string) (cfg shim.Config, err error) {
	t.Helper()
	app := &cli.App{
		Flags: Run(), HideHelp: true, DisableSliceFlagSeparator: true,
		Action: func(c *cli.Context) error {
			cfg, err = NewConfig(c, c.Args().Slice())
			return nil
		},
	}
	if runErr := app.Run(append([]string{"cgshim"}, args...)); runErr != nil {
		t.Fatalf("%q: %v", args, runErr)
	}
	return cfg, err
}

func TestFlags(t *testing.T) {
	t.Setenv("CGSHIM_FD", "3")
	t.Setenv("CGSHIM_TEST_OUTER", "1")
	for _, test := range []struct {
		args string
		want shim.Config
	}{
		{"prog", shim.Config{}},
		{"-- prog", shim.Config{}},
		{"--mem 64M prog", shim.Config{Limits: cgroup.Limits{Memory: 64 << 20}}},
		{"--memory=64M prog", shim.Config{Limits: cgroup.Limits{Memory: 64 << 20}}},
		{"-m 64M prog", shim.Config{Limits: cgroup.Limits{Memory: 64 << 20}}},
		{"--mem 1M --mem 2M prog", shim.Config{Limits: cgroup.Limits{Memory: 2 << 20}}},
		{"--mem 64M --swap 0 prog", shim.Config{Limits: cgroup.Limits{Memory: 64 << 20}}},
		{"--mem 64M --swap 1k prog", shim.Config{Limits: cgroup.Limits{Memory: 64 << 20, Swap: 1024}}},
		{"--mem-high 48M prog", shim.Config{Limits: cgroup.Limits{MemoryHigh: 48 << 20}}},
		{"--mem 64M --mem-high=65M prog", shim.Config{Limits: cgroup.Limits{Memory: 64 << 20, MemoryHigh: 65 << 20}}}, // never reached
		{"--pids 1 prog", shim.Config{Limits: cgroup.Limits{PIDs: 1}}},
		{"--pids-limit 7 prog", shim.Config{Limits: cgroup.Limits{PIDs: 7}}},
		{"--cpus 0.5 prog", shim.Config{Limits: cgroup.Limits{CPUs: 0.5}}},
		{"--cpu-weight 10000 prog", shim.Config{Limits: cgroup.Limits{CPUWeight: 10000}}},
		{"--cpu-shares 2 prog", shim.Config{Limits: cgroup.Limits{CPUShares: 2}}},
		{"--cpu-time 1.5 prog", shim.Config{CPUTime: 1500 * time.Millisecond}},
		{"--wall-time 300ms prog", shim.Config{WallTime: 300 * time.Millisecond}},
		{"--stop-timeout 0 prog", shim.Config{StopTimeout: -1}}, // at once; a zero Config is 5 s
		{"--stop-timeout 2s prog", shim.Config{StopTimeout: 2 * time.Second}},
		{"--chdir /x --name n --parent /p --allow-new-privs prog", shim.Config{Dir: "/x", Name: "n", Parent: "/p", AllowNewPrivs: true}},
	} {
		cfg, err := parseFlags(t, strings.Fields(test.args)...)
		if err != nil {
			t.Errorf("%s: %v", test.args, err)
		}
		if !slices.Contains(cfg.Env, "CGSHIM_TEST_OUTER=1") || slices.Contains(cfg.Env, "CGSHIM_FD=3") {
			t.Errorf("%s: environment %q", test.args, cfg.Env)
		}
		cfg.Env = nil
		test.want.Args, test.want.Subreaper = []string{"prog"}, true
		if !reflect.DeepEqual(cfg, test.want) {
			t.Errorf("%s: %+v, want %+v", test.args, cfg, test.want)
		}
	}
}

func TestEnvironmentFlags(t *testing.T) {
	cfg, err := parseFlags(t, "--clear-env", "--env", "A=1,2", "--env=B=", "--env", "A=x=y", "prog")
	if want := []string{"A=1,2", "B=", "A=x=y"}; err != nil || !slices.Equal(cfg.Env, want) {
		t.Errorf("%q, %v, want %q", cfg.Env, err, want) // shim makes the last A count
	}
	if cfg, err = parseFlags(t, "--clear-env", "prog"); err != nil || cfg.Env == nil || len(cfg.Env) != 0 {
		t.Errorf("%#v, %v, want an empty environment, and not nil, which is the caller's", cfg.Env, err)
	}
}

// The program of a user learns of that user, unless the caller says otherwise.
func TestUserFlags(t *testing.T) {
	entry, err := user.LookupUid(1)
	if err != nil {
		t.Skip("requires user 1 in /etc/passwd: ", err)
	}
	t.Setenv("HOME", "/callers")
	t.Setenv("LOGNAME", "caller")
	theirs := []string{"HOME=" + entry.Home, "USER=" + entry.Name, "LOGNAME=" + entry.Name}
	for args, want := range map[string][]string{
		"--clear-env --user " + entry.Name:           theirs,
		"--clear-env --user 1":                       theirs,
		"--clear-env --user 1:7":                     theirs,
		"--clear-env --user 2147483646:7":            {"HOME=/", "USER=2147483646", "LOGNAME=2147483646"},
		"--clear-env --env HOME=/x --user 1:7":       append(theirs[:3:3], "HOME=/x"), // the last one counts
		"--clear-env --env A=b --env USER= --user 1": append(theirs[:3:3], "A=b", "USER="),
	} {
		cfg, err := parseFlags(t, append(strings.Fields(args), "prog")...)
		if err != nil || !slices.Equal(cfg.Env, want) {
			t.Errorf("%s: %q, %v, want %q", args, cfg.Env, err, want)
		}
	}
	for args, kept := range map[string]bool{"--user 1": false, "--user 1 --keep-env": true, "--keep-env": true, "--env A=b": true} {
		cfg, err := parseFlags(t, append(strings.Fields(args), "prog")...)
		if at := slices.Index(cfg.Env, "HOME="+entry.Home); err != nil || (at < 0) != kept || !slices.Contains(cfg.Env, "HOME=/callers") {
			t.Errorf("%s: %q, %v", args, cfg.Env, err)
		}
	}
	if _, err := parseFlags(t, "--clear-env", "--keep-env", "--user", "1", "prog"); err == nil {
		t.Error("--clear-env and --keep-env are accepted together")
	}
}

// Every byte of a value counts, whatever the flag. Regression: those of repeatable flags were trimmed.
func TestFlagValuesAsGiven(t *testing.T) {
	values := []string{
		" ", "A= x ", "\tA=1\n", "A=1,2", "\xff\xfe", "\ufeffA=", "A=\u00a0\u2003", `"A=1"`, "A=\r\n", "=", "A==", "A=\x01", "",
		"-x", "a;b", "$A", `\n`, "sl:::0:::[]",
	}
	for _, flag := range Run() {
		name := flag.Names()[0]
		if _, isBool := flag.(switchFlag); isBool {
			continue
		}
		for _, value := range values {
			for _, args := range [][]string{{"--" + name, value, "p"}, {"--" + name + "=" + value, "p"}} {
				if got, rest := flagValue(t, flag, args); !slices.Equal(got, []string{value}) || !slices.Equal(rest, []string{"p"}) {
					t.Errorf("%q: %q and %q", args, got, rest)
				}
			}
		}
	}
}

// flagValue is what the parser makes of a command line with one flag, and of what follows that.
func flagValue(t *testing.T, flag cli.Flag, args []string) (values, rest []string) {
	t.Helper()
	app := &cli.App{Flags: Run(), HideHelp: true, DisableSliceFlagSeparator: true, Action: func(c *cli.Context) error {
		name := flag.Names()[0]
		if values = c.StringSlice(name); values == nil {
			values = []string{c.String(name)}
		}
		rest = c.Args().Slice()
		return nil
	}}
	if err := app.Run(append([]string{"cgshim"}, args...)); err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return values, rest
}

// What belongs to the program stays as it is, flags and "--" included.
func TestProgramArguments(t *testing.T) {
	for _, test := range []struct{ args, want []string }{
		{[]string{"prog", "--mem", "1", "-x", "--", "--fd"}, []string{"prog", "--mem", "1", "-x", "--", "--fd"}},
		{[]string{"--", "prog", "--", "a"}, []string{"prog", "--", "a"}},
		{[]string{"--mem", "1M", "--", "--mem"}, []string{"--mem"}},
		{[]string{"--", "help"}, []string{"help"}},
		{[]string{"prog", ""}, []string{"prog", ""}},
	} {
		if cfg, err := parseFlags(t, test.args...); err != nil || !slices.Equal(cfg.Args, test.want) {
			t.Errorf("%q: %q, %v, want %q", test.args, cfg.Args, err, test.want)
		}
	}
}

// A value that is refused is named with its flag. The result, which is written all the same, must be JSON
// and not claim a limit that nobody asked for. Regressions: --cpus NaN panicked, --cpu-weight -5 reported
// a cpu_weight of 18446744073709551611.
func TestRefusedValues(t *testing.T) {
	for _, test := range []struct{ flag, values string }{
		{"mem", "0 -1 64X 1e3 NaN 9999999999G 0.1"},
		{"pids", "0 -1 1.5 x 4194305 99999999999999999999 0x10"},
		{"cpus", "0 -1 NaN Inf -Inf 1e999 0.001 x 1048577"},
		{"cpu-weight", "0 -5 10001 x"},
		{"cpu-shares", "0 1 -5 262145 x"},
		{"cpu-time", "0 -1s NaN 1e300 5parsecs 0s"},
		{"wall-time", "0 -1 x 1e300"},
		{"stop-timeout", "-1s x NaN"},
		{"env", "A =A"},
	} {
		for value := range strings.SplitSeq(test.values, " ") {
			cfg, err := parseFlags(t, "--"+test.flag+"="+value, "prog")
			if err == nil {
				t.Errorf("--%s %s is accepted", test.flag, value)
				continue
			}
			if !strings.Contains(err.Error(), "--"+test.flag) || !strings.Contains(err.Error(), value) {
				t.Errorf("--%s %s: %q does not name flag and value", test.flag, value, err)
			}
			if limits, err := refusedLimits(&cfg); err != nil || limits != "{}" {
				t.Errorf("--%s %s: the result's limits: %s, %v", test.flag, value, limits, err)
			}
		}
	}
}

func refusedLimits(cfg *shim.Config) (limits string, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	var parsed struct{ Limits json.RawMessage }
	err = json.Unmarshal(shim.UsageError(cfg, errors.New("m")).JSON(false), &parsed)
	return string(parsed.Limits), err
}

func TestRefusedCombinations(t *testing.T) {
	for args, mention := range map[string]string{
		"":                                "no program",
		"--":                              "no program",
		"--mem 1M":                        "no program",
		"--swap 1 p":                      "--mem",
		"--cpu-weight 1 --cpu-shares 2 p": "--cpu-shares",
		"--fd 1 --output f p":             "--output",
		"--name= p":                       "--name",
	} {
		if _, err := parseFlags(t, strings.Fields(args)...); err == nil || !strings.Contains(err.Error(), mention) {
			t.Errorf("%s: %v, want something about %s", args, err, mention)
		}
	}
}

// What Validate refuses is told in its own words. Regressions: "bad configuration" and no more, and a panic.
func TestUsageErrorOfConfig(t *testing.T) {
	for _, test := range []struct {
		cfg  shim.Config
		want string
	}{
		{shim.Config{Args: []string{"p"}, Name: "a/b"}, "a/b"},
		{shim.Config{Args: []string{"p"}, Parent: "relative"}, "relative"},
		{shim.Config{Args: []string{"p"}, Limits: cgroup.Limits{CPUShares: 1}}, "CPU shares"},
	} {
		message := shim.UsageError(&test.cfg, test.cfg.Validate()).Error.Message
		if !strings.Contains(message, test.want) || strings.Contains(message, shim.ErrConfig.Error()) {
			t.Errorf("%q says nothing about %s, or too much", message, test.want)
		}
	}
}

// Each flag has help, and a placeholder for its value.
func TestFlagsAreDocumented(t *testing.T) {
	for _, flag := range Run() {
		doc, ok := flag.(cli.DocGenerationFlag)
		if !ok || doc.GetUsage() == "" || strings.Contains(doc.GetUsage(), "VALUE") {
			t.Errorf("--%s: no help", flag.Names()[0])
			continue
		}
		if doc.TakesValue() && !strings.Contains(doc.GetUsage(), "`") {
			t.Errorf("--%s: %q has no placeholder", flag.Names()[0], doc.GetUsage())
		}
	}
}
