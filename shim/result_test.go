package shim

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/cgshim/cgshim/cgroup"
)

// resultKeys is the example of the design, in its order.
var resultKeys = []string{
	"type", "schema_version", "verdict",
	"exit_code", "signal", "signal_name", "core_dumped",
	"peak_memory_bytes", "cpu_seconds", "cpu_user_seconds",
	"cpu_system_seconds", "wall_seconds",
	"oom_kills", "pids_peak", "pids_denied", "limits_hit",
	"peak_swap_bytes", "cpu_throttled_seconds", "io_read_bytes", "io_write_bytes",
	"memory_anon_bytes", "memory_file_bytes", "memory_kernel_bytes",
	"voluntary_context_switches", "involuntary_context_switches",
	"pressure_cpu_some_seconds", "pressure_cpu_full_seconds", "pressure_memory_some_seconds",
	"pressure_memory_full_seconds", "pressure_io_some_seconds", "pressure_io_full_seconds",
	"output_bytes",
	"leftover_killed", "setup_seconds", "teardown_seconds",
	"sources",
	"enforced",
	"limits",
	"cgroup_version", "cgroup", "pid", "argv", "argv_truncated",
	"started_at", "error", "warnings",
}

// checkLine fails unless the result is one line with one object with exactly the keys of the contract.
func checkLine(t *testing.T, line []byte) {
	t.Helper()
	if bytes.Count(line, []byte("\n")) != 1 || !bytes.HasSuffix(line, []byte("}\n")) {
		t.Errorf("not exactly one line: %q", line)
	}
	dec := json.NewDecoder(bytes.NewReader(line))
	if first, err := dec.Token(); err != nil || first != json.Delim('{') {
		t.Fatalf("not an object: %q", line)
	}
	var keys []string
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key.(string))
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(keys, resultKeys) {
		t.Errorf("keys\n%q, want\n%q", keys, resultKeys)
	}
}

func TestJSONOfNothingKnown(t *testing.T) {
	line := newResult(&Config{Args: []string{"x"}}).JSON(false)
	checkLine(t, line)
	var values map[string]any
	if err := json.Unmarshal(line, &values); err != nil {
		t.Fatal(err)
	}
	// Everything else is null: 0 would claim to know.
	known := map[string]string{
		"type": `"result"`, "schema_version": "1", "verdict": `""`, "limits_hit": "[]",
		"sources": "{}", "enforced": "{}", "limits": "{}", "argv": `["x"]`, "argv_truncated": "false", "warnings": "[]",
	}
	for key, value := range values {
		got, _ := json.Marshal(value)
		want, ok := known[key]
		if !ok {
			want = "null"
		}
		if string(got) != want {
			t.Errorf("%s: %s, want %s", key, got, want)
		}
	}
}

func TestSecondsJSON(t *testing.T) {
	for value, want := range map[Seconds]string{
		0: "0.000000", 1e-7: "0.000000", 6e-7: "0.000001", 1e-6: "0.000001", 0.041203: "0.041203",
		1.5: "1.500000", 1e9: "1000000000.000000", 1e21: "1000000000000000000000.000000",
	} {
		got, err := json.Marshal(value)
		if err != nil || string(got) != want {
			t.Errorf("%v: %s, %v, want %s", float64(value), got, err, want)
		}
	}
	if got := *seconds(1234567 * time.Microsecond); got != 1.234567 {
		t.Errorf("seconds: %v", got)
	}
}

func TestJSONEscaping(t *testing.T) {
	r := newResult(&Config{Args: []string{"<a>&\n\r\u2028\ufffd"}})
	line := r.JSON(false)
	checkLine(t, line) // no newline of the argument's may split it
	if !bytes.Contains(line, []byte(`<a>&\n\r`)) {
		t.Errorf("HTML escaped: %s", line)
	}
	if bytes.ContainsRune(line, '\u2028') {
		t.Error("a line separator is written as it is: some readers split lines there")
	}
}

// What is no UTF-8 is told in base64, and nowhere in a way that a strict reader would refuse the line for.
func TestJSONOfBytes(t *testing.T) {
	group := "/a\xff/b"
	r := UsageError(&Config{Args: []string{"./prog\xff", "", "\xed\xa0\x80", "\U0001f600\ufffd"}}, errors.New("m"))
	r.Cgroup = &group
	for _, pretty := range []bool{false, true} {
		var got struct {
			Argv   []string `json:"argv"`
			Bytes  [][]byte `json:"argv_base64"`
			Cgroup string   `json:"cgroup"`
			Group  []byte   `json:"cgroup_base64"`
		}
		line := r.JSON(pretty)
		if err := json.Unmarshal(line, &got); err != nil || !utf8.Valid(line) || bytes.Contains(line, []byte(`\ud`)) {
			t.Fatalf("%v: %q", err, line)
		}
		if want := []string{"./prog\ufffd", "", "\ufffd\ufffd\ufffd", "\U0001f600\ufffd"}; !slices.Equal(got.Argv, want) || got.Cgroup != "/a\ufffd/b" {
			t.Errorf("%q, %q", got.Argv, got.Cgroup)
		}
		for i, arg := range r.Argv {
			if len(got.Bytes) != len(r.Argv) || string(got.Bytes[i]) != arg {
				t.Errorf("argument %d: %q, want %q", i, got.Bytes, arg)
			}
		}
		if string(got.Group) != group {
			t.Errorf("%q, want %q", got.Group, group)
		}
	}
	assertValid(t, r.JSON(false))
	assertValid(t, (&Started{Type: "started", SchemaVersion: 1, PID: 1, Cgroup: &group, StartedAt: "2026-01-02T03:04:05.678901Z"}).JSON())
	if r.CgroupBase64 != "" || r.ArgvBase64 != nil {
		t.Errorf("JSON has changed the result: %+v", r)
	}
}

func TestJSONPretty(t *testing.T) {
	r := UsageError(&Config{Args: []string{"x"}}, errors.New("m"))
	pretty := r.JSON(true)
	if n := bytes.Count(pretty, []byte("\n")); n < len(resultKeys) {
		t.Errorf("%d lines, want one for each key", n)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, pretty); err != nil {
		t.Fatal(err)
	}
	if got, want := compact.String()+"\n", string(r.JSON(false)); got != want {
		t.Errorf("pretty says\n%s, plain\n%s", got, want)
	}
}

func TestUsageError(t *testing.T) {
	cfg := Config{
		Args: []string{"x"}, CPUTime: 1500 * time.Millisecond, WallTime: time.Second,
		Limits: cgroup.Limits{Memory: 1 << 20, Swap: 4096, PIDs: 3, CPUs: 0.5, CPUWeight: 7},
	}
	r := UsageError(&cfg, errors.New("a message"))
	line := r.JSON(false)
	checkLine(t, line)
	for _, want := range []string{
		`"verdict":"error"`,
		`"error":{"step":"usage","errno":null,"message":"a message","hint":"`,
		`"limits":{"mem_bytes":1048576,"swap_bytes":4096,"pids":3,"cpus":0.5,"cpu_weight":7,"cpu_time_seconds":1.500000,"wall_time_seconds":1.000000}`,
	} {
		if !bytes.Contains(line, []byte(want)) {
			t.Errorf("%s lacks %s", line, want)
		}
	}
	if r.ExitStatus() != ExitFailed {
		t.Errorf("exit status %d", r.ExitStatus())
	}
}

// A refused Config has a result too: there is always one. Regression: NaN CPUs went into "limits", and
// JSON, which has no NaN, panicked.
func TestJSONOfRefusedLimits(t *testing.T) {
	defer func() {
		if p := recover(); p != nil {
			t.Errorf("panic instead of a result: %v", p)
		}
	}()
	for _, cpus := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		checkLine(t, mustRun(t, Config{Args: []string{"true"}, Limits: cgroup.Limits{CPUs: cpus}}).JSON(false))
	}
}

func TestExitStatusOfResult(t *testing.T) {
	number := func(n int) *int { return &n }
	for name, test := range map[string]struct {
		result Result
		want   int
	}{
		"success":        {Result{ExitCode: number(0)}, 0},
		"exit 3":         {Result{ExitCode: number(3)}, 3},
		"own 137":        {Result{ExitCode: number(137)}, 137},
		"signal 9":       {Result{Signal: number(9)}, 137},
		"signal 15":      {Result{Signal: number(15)}, 143},
		"nothing known":  {Result{}, 125},
		"error":          {Result{Error: &ErrorInfo{}}, 125},
		"cannot execute": {Result{Error: &ErrorInfo{exitStatus: 126}}, 126},
		"not found":      {Result{Error: &ErrorInfo{exitStatus: 127}}, 127},
		// An error of the teardown does not hide how the program ended.
		"ran, then error": {Result{ExitCode: number(0), Error: &ErrorInfo{}}, 0},
	} {
		if got := test.result.ExitStatus(); got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}
}
