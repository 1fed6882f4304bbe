package request

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/cgshim/cgshim/cmd/cgshim/internal/flags"
	"github.com/cgshim/cgshim/shim"
)

func TestParseRequest(t *testing.T) {
	r, err := Parse([]byte(`{"id":"7","argv":["./prog","a b",5],"mem":"64M","pids":1,"cpus":0.5,"wall-time":"1.5s","env":["A=1","B=2,3"],
		"stdin":"in.txt","stdout":"out.txt","clear-env":true,"wait-all":false,"user":null,"ulimit":["nofile=9"],"sample":"100ms"}` + "\n"))
	if err != nil || r.Cancels != "" {
		t.Fatalf("%q, %v", r.Cancels, err)
	}
	cfg := &r.Config
	if r.ID != `"7"` || !slices.Equal(cfg.Args, []string{"./prog", "a b", "5"}) || cfg.Limits.Memory != 64<<20 || cfg.Limits.PIDs != 1 ||
		cfg.Limits.CPUs != 0.5 || cfg.WallTime != 1500*time.Millisecond || !slices.Equal(cfg.Env, []string{"A=1", "B=2,3"}) ||
		cfg.WaitAll || cfg.User != nil || len(cfg.Rlimits) != 1 || cfg.Sample != 100*time.Millisecond {
		t.Errorf("%+v", r)
	}
	if r.Flags.String("stdin") != "in.txt" || r.Flags.String("stdout") != "out.txt" || r.Flags.IsSet("stderr") || cfg.Stdin != nil {
		t.Errorf("files %q", r.Flags)
	}
	// An alias is the flag.
	if r, err := Parse([]byte(`{"argv":["x"],"memory":"1M","pids-limit":"3"}`)); err != nil || r.Config.Limits.Memory != 1<<20 || r.Config.Limits.PIDs != 3 || r.ID != "null" {
		t.Errorf("%+v, %v", r, err)
	}
}

// The id is there whenever it can be told, and never something else that is not a string or a number.
func TestParseRequestError(t *testing.T) {
	for _, test := range []struct{ line, id, mentions string }{
		{``, `null`, "no JSON object"},
		{`x`, `null`, "no JSON object"},
		{`null`, `null`, `"argv"`},
		{`[]`, `null`, "no JSON object"},
		{`{"id":1,"argv":["x"]`, `null`, "no JSON object"},
		{`{"id":1,"argv":["x"]} x`, `null`, "more"},
		{`{"id":1,"argv":["x"]}{}`, `null`, "more"},
		{`{"id":{},"argv":["x"]}`, `null`, `"id"`},
		{`{"id":false,"argv":["x"]}`, `null`, `"id"`},
		{`{"id":1}`, `1`, `"argv"`},
		{`{"id":1,"argv":null}`, `1`, `"argv"`},
		{`{"id":1,"argv":[]}`, `1`, "no program"},
		{`{"id":1,"argv":[""]}`, `1`, "no program"},
		{`{"id":1,"argv":"x"}`, `1`, `"argv"`},
		{`{"id":1,"argv":[true]}`, `1`, `"argv"`},
		{`{"id":1,"argv":["x"],"bogus":1}`, `1`, `"bogus"`},
		{`{"id":1,"argv":["x"],"help":true}`, `1`, `"help"`},
		{`{"id":1,"argv":["x"],"h":true}`, `1`, `"h"`},
		{`{"id":1,"argv":["x"],"fd":3}`, `1`, `"fd"`},
		{`{"id":1,"argv":["x"],"m":"1M","memory":"1M"}`, `1`, "given twice"},
		{`{"id":1,"argv":["x"],"mem":[1]}`, `1`, `"mem"`},
		{`{"id":1,"argv":["x"],"mem":false}`, `1`, `"mem"`},
		{`{"id":1,"argv":["x"],"env":"A=1","net":{}}`, `1`, `"net"`},
		{`{"id":1,"argv":["x"],"nest":1}`, `1`, `"nest"`},
		{`{"id":1,"argv":["x"],"mem":""}`, `1`, `--mem ""`},
		{`{"id":1,"argv":["x"],"mem":1.5}`, `1`, `--mem "1.5"`},
		{`{"id":"1","argv":["x"],"grace":1}`, `"1"`, "--grace"},
		{`{"id":"1","argv":["x"],"keep-fd":[2]}`, `"1"`, "--keep-fd"},
		{`{"id":"1","argv":["x"],"stdin":""}`, `"1"`, "--stdin"},
		{`{"id":"a\u0000","cancel":"1"}`, `"a\u0000"`, `"cancel"`},
		{`{"cancel":null}`, `null`, `"cancel"`},
		{`{"cancel":true}`, `null`, "string or a number"},
		{`{"cancel":"1","argv":["x"]}`, `null`, `"cancel"`},
	} {
		r, err := Parse([]byte(test.line))
		if err == nil {
			t.Errorf("%s: accepted: %+v, %q", test.line, r, r.Cancels)
			continue
		}
		if r.ID != test.id || !strings.Contains(err.Error(), test.mentions) {
			t.Errorf("%s: id %s, %v: want %s, and %q", test.line, r.ID, err, test.id, test.mentions)
		}
		if line := Tag(r.ID, shim.UsageError(&r.Config, err).JSON(false)); !json.Valid(line) {
			t.Errorf("%s: the answer is no JSON: %s", test.line, line)
		}
	}
}

func TestParseCancel(t *testing.T) {
	for line, want := range map[string]string{
		`{"cancel":"7"}`: `"7"`, `{"cancel":7}`: `7`, `{"cancel":""}`: `""`, `{"cancel":"null"}`: `"null"`, `{"cancel":7.0}`: `7.0`,
	} {
		if r, err := Parse([]byte(line)); err != nil || r.Cancels != want || r.ID != "null" {
			t.Errorf("%s: %q, %v", line, r.Cancels, err)
		}
	}
}

func TestRequestID(t *testing.T) {
	for value, want := range map[string]string{
		``: `null`, `null`: `null`, `"7"`: `"7"`, `"null"`: `"null"`, `""`: `""`, `7`: `7`, `-0`: `-0`, `-1.50e+99999`: `-1.50e+99999`, `1e400`: `1e400`,
		`123456789012345678901234567890`: `123456789012345678901234567890`,
		// One way to write each string, so that a request can be cancelled by another way.
		`"a\"b\\\n\u0000<"`: `"a\"b\\\u000a\u0000<"`, `"\u0041\/\u00e4\ud83d\ude00\u2028"`: `"A/ä😀\u2028"`,
		// Nothing is lost of strings that are no Unicode: Python gets back what it sent.
		`"\ud800"`: `"\ud800"`, `"\uDCFF"`: `"\udcff"`, "\"a\xffb\"": `"a\udcffb"`, `"\ude00\ud83d"`: `"\ude00\ud83d"`, "\"\xed\xa0\x80\"": `"\udced\udca0\udc80"`,
	} {
		if got, err := requestID([]byte(value)); err != nil || got != want || !json.Valid([]byte(got)) {
			t.Errorf("%s: %s, %v, want %s", value, got, err, want)
		}
	}
	for _, value := range []string{`true`, `false`, `["1"]`, `{}`} {
		if got, err := requestID([]byte(value)); err == nil || got != "null" {
			t.Errorf("%s: %s, %v", value, got, err)
		}
	}
}

// A request may have every flag of a run, but for those about where the result goes, and by every name.
func TestRequestKeys(t *testing.T) {
	for _, flag := range flags.Run() {
		names := flag.Names()
		for _, name := range names {
			key, ok := keyOf(name)
			if ok == slices.Contains(notOfRequests, names[0]) || ok && key.name != names[0] {
				t.Errorf("%q: %+v, %v", name, key, ok)
			}
		}
	}
	for _, name := range notOfRequests {
		if !slices.ContainsFunc(flags.Run(), func(f cli.Flag) bool { return f.Names()[0] == name }) {
			t.Errorf("there is no flag %q", name)
		}
	}
}

func TestRequestFlags(t *testing.T) {
	f := flags.Given{}
	for key, value := range map[string]string{
		"memory": `5`, "env": `["A=1", 2]`, "nest": `false`, "wait-all": `true`, "name": `"n"`, "ulimit": `"nofile=9"`, // one is a list, too
	} {
		if err := set(f, key, []byte(value)); err != nil {
			t.Error(err)
		}
	}
	if f.String("mem") != "5" || !slices.Equal(f.StringSlice("env"), []string{"A=1", "2"}) || f.Bool("nest") || f.IsSet("nest") ||
		!f.Bool("wait-all") || f.String("name") != "n" || f.IsSet("pids") || f.String("pids") != "" || f.StringSlice("device-read-bps") != nil ||
		!slices.Equal(f.StringSlice("ulimit"), []string{"nofile=9"}) {
		t.Errorf("%q", f)
	}
	for key, value := range map[string]string{
		"bogus": `"1"`, "output": `"x"`, "mem": `true`, "pids": `["1"]`, "best-effort": `"true"`, "env": `[[]]`, "": `""`, "chdir": `{"a":1,"a":2}`,
	} {
		if err := set(f, key, []byte(value)); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", key)) {
			t.Errorf("%q: %v: %v", key, value, err)
		}
	}
}

func TestReadLine(t *testing.T) {
	long := strings.Repeat("x", maxLine)
	lines := bufio.NewReaderSize(strings.NewReader("one\n\n"+long[1:]+"\n"+long+"\n"+long+long+long+"\ntwo\nend"), 64<<10)
	for i, want := range []struct {
		line string
		err  error
	}{
		{"one\n", nil},
		{"\n", nil},
		{long[1:] + "\n", nil},
		{"", ErrTooLong},
		{"", ErrTooLong},
		{"two\n", nil},
		{"end", io.EOF},
		{"", io.EOF},
	} {
		line, err := ReadLine(lines)
		if string(line) != want.line || !errors.Is(err, want.err) {
			t.Errorf("line %d: %.20q (%d), %v; want %.20q, %v", i, line, len(line), err, want.line, want.err)
		}
	}
	// The last one, without an end.
	if line, err := ReadLine(bufio.NewReader(strings.NewReader(long + "x"))); line != nil || !errors.Is(err, ErrTooLong) || !errors.Is(err, io.EOF) {
		t.Errorf("%d bytes, %v", len(line), err)
	}
	fails := errors.New("broken")
	if _, err := ReadLine(bufio.NewReader(io.MultiReader(strings.NewReader("part"), failing{fails}))); !errors.Is(err, fails) {
		t.Errorf("%v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestTagged(t *testing.T) {
	for id, want := range map[string]string{
		"null": `{"id":null,"type":"x"}` + "\n", `"a,\"b"`: `{"id":"a,\"b","type":"x"}` + "\n", "-1e5": `{"id":-1e5,"type":"x"}` + "\n",
	} {
		object := []byte(`{"type":"x"}` + "\n")
		if got := Tag(id, object); string(got) != want || object[0] != '{' {
			t.Errorf("%s: %s", id, got)
		}
	}
	result := Tag(`"7"`, shim.Unstarted(&shim.Config{Args: []string{"x"}}).JSON(false))
	var fields map[string]any
	if err := json.Unmarshal(result, &fields); err != nil || fields["id"] != "7" || fields["verdict"] != "cancelled" || bytes.Count(result, []byte("\n")) != 1 {
		t.Errorf("%v: %s", err, result)
	}
}

// Whatever the line, there is no panic; what is accepted can be run, and what is answered is one line of JSON with the id.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		`{"id":"7","argv":["./prog"],"mem":"64M","pids":1,"stdin":"in.txt","stdout":"out.txt"}`,
		`{"id":1e5,"argv":["a","b",3],"env":["A=1"],"ulimit":"nofile=1:2","wall-time":1.5,"clear-env":true,"net":"none","user":"1:2"}`,
		`{"cancel":"7"}`, `{"cancel":7,"id":1}`, `null`, `{}`, `[[[[`, `{"id":"\ud800","argv":[""]}`, `{"id":"x","id":"y","argv":["x"],"argv":null}`,
		`{"argv":["x"],"sample":"1ms","stop-timeout":0,"name":"a","parent":"/a","manager":"auto","keep-fd":[1],"chdir":"/","grace":1,"cpu-time":1}`,
		`{"argv":["x"],"cpuset-cpus":"0","cpuset-mems":0,"device-read-bps":["/dev/null:1M"],"swap":0,"output-limit":"1k","cpu-weight":1}`,
		"\x00", "{\"argv\":[\"\xff\"]}", `{"id":0,"argv":["x"]} `, `{"ID":1,"ARGV":["x"]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := Parse(line)
		var id any
		if jsonErr := json.Unmarshal([]byte(r.ID), &id); jsonErr != nil && !strings.Contains(jsonErr.Error(), "range") {
			t.Errorf("%q: the id %s is no JSON: %v", line, r.ID, jsonErr)
		}
		switch {
		case err != nil:
			if answer := Tag(r.ID, shim.UsageError(&r.Config, err).JSON(false)); !json.Valid(answer) || bytes.Count(answer, []byte("\n")) != 1 {
				t.Errorf("%q: answered with %q", line, answer)
			}
		case r.Cancels != "":
			if r.Cancels == "null" || r.ID != "null" {
				t.Errorf("%q cancels %s, and has the id %s", line, r.Cancels, r.ID)
			}
		default:
			if err := r.Config.Validate(); err != nil {
				t.Errorf("%q is refused later: %v", line, err)
			}
			if len(r.Config.Args) == 0 || r.Config.Stdin != nil || r.Config.Stdout != nil || r.Config.Stderr != nil {
				t.Errorf("%q: %+v", line, r.Config)
			}
		}
	})
}
