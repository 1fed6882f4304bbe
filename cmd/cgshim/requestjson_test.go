package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestUnquote(t *testing.T) {
	for quoted, want := range map[string]string{
		`""`: "", `"a b"`: "a b", `"\"\\\/\b\f\n\r\t"`: "\"\\/\b\f\n\r\t", `"\u00e4ä\u20AC"`: "ää€", `"\ud83d\ude00"`: "😀", `"\\udcff"`: `\udcff`,
		"\"\ufffd\"": "\ufffd", `"\ufffd"`: "\ufffd",
		// The bytes as they are.
		"\"\xff\"": "\xff", "\"\xc3\"": "\xc3", "\"\xed\xb3\xbf\"": "\xed\xb3\xbf", "\"\xc0\x80\"": "\xc0\x80", "\"a\xf0\x9f\x98\"": "a\xf0\x9f\x98",
		// As Python writes the bytes that it could not decode.
		`"\udcff"`: "\xff", `"\uDC80"`: "\x80", `"a\udcc3\udca4z"`: "aäz", `"\udcff\udcfe\udcff"`: "\xff\xfe\xff", "\"\\udcff\xfe\"": "\xff\xfe",
	} {
		if got, err := unquote([]byte(quoted)); err != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", quoted, got, err, want)
		}
	}
	for quoted, mentions := range map[string]string{
		`"a\u0000b"`: `NUL byte in "a\u0000b"`, `"\ud800"`: `\ud800`, `"\ud83d"`: `\ud83d`, `"\udc00"`: `\udc00`, `"\udc7f"`: `\udc7f`, `"\udd00"`: `\udd00`,
		`"\udfff"`: `\udfff`, `"\ud83dx\ude00"`: `\ud83d`, `"\ud83d\ud83d\ude00"`: `\ud83d`, `"\ud83d\u0041"`: `\ud83d`, "\"\\ud83d\xff\"": `\ud83d`, `"\ud83d\n"`: `\ud83d`,
	} {
		if got, err := unquote([]byte(quoted)); err == nil || !strings.Contains(err.Error(), mentions) {
			t.Errorf("%q: %q, %v, want something about %s", quoted, got, err, mentions)
		}
	}
}

// A JSON number is a number, whichever way it is written; sizes and counts are whole, and durations are not negative.
func TestRequestNumbers(t *testing.T) {
	for _, test := range []struct {
		key, number string
		want        string // the flag's text, or what the error mentions
		refused     bool
	}{
		{key: "mem", number: "67108864", want: "67108864"},
		{key: "mem", number: "1e6", want: "1000000"},
		{key: "mem", number: "1E+6", want: "1000000"},
		{key: "mem", number: "1.5e3", want: "1500"},
		{key: "mem", number: "4096.0", want: "4096"},
		{key: "mem", number: "40960e-1", want: "4096"},
		{key: "memory", number: "1e17", want: "100000000000000000"},
		{key: "mem", number: "9007199254740993", want: "9007199254740993"},
		{key: "mem", number: "4611686018427387903", want: "4611686018427387903"},
		{key: "mem", number: "4611686018427387904", want: "too large", refused: true},
		{key: "mem", number: "1.5", want: `--mem "1.5"`, refused: true},
		{key: "m", number: "1.5", want: `--m "1.5"`, refused: true},
		{key: "memory", number: "1e-1", want: `--memory "1e-1"`, refused: true},
		{key: "mem", number: "0.0000001", want: "whole", refused: true},
		{key: "mem", number: "1e-99999999999999999999", want: "whole", refused: true},
		{key: "mem", number: "-0", want: "more than zero", refused: true},
		{key: "mem", number: "0e99999999999999999999", want: "more than zero", refused: true},
		{key: "mem", number: "-1", want: `--mem "-1": must not be negative`, refused: true},
		{key: "mem", number: "1e400", want: `--mem "1e400"`, refused: true},
		{key: "mem", number: "1e2147483648", want: "too large", refused: true},
		{key: "mem", number: "1e9999999999999999999999", want: "too large", refused: true},
		{key: "mem", number: "123456789012345678901234567890", want: `--mem "123456789012345678901234567890"`, refused: true},
		{key: "swap", number: "-0.0", want: "0"},
		{key: "output-limit", number: "1e3", want: "1000"},
		{key: "output-limit", number: "0.5", want: "whole", refused: true},
		{key: "pids", number: "1e2", want: "100"},
		{key: "pids", number: "1.0", want: "1"},
		{key: "pids-limit", number: "1.5", want: `--pids-limit "1.5"`, refused: true},
		{key: "pids", number: "1e400", want: `--pids "1e400"`, refused: true},
		{key: "cpu-weight", number: "1e2", want: "100"},
		{key: "wall-time", number: "1.5", want: "1.5"},
		{key: "wall-time", number: "15e-1", want: "1.5"},
		{key: "wall-time", number: "1e-3", want: "0.001"},
		{key: "wall-time", number: "1E3", want: "1000"},
		{key: "wall-time", number: "1e400", want: `--wall-time "1e400"`, refused: true},
		{key: "wall-time", number: "1e10", want: `--wall-time "1e10"`, refused: true},
		{key: "wall-time", number: "-1e-3", want: "negative", refused: true},
		{key: "wall-time", number: "1e-400", want: "more than zero", refused: true},
		{key: "stop-timeout", number: "-0", want: "0"},
		{key: "stop-timeout", number: "-0.0e5", want: "0"},
		{key: "cpus", number: "5e-1", want: "5e-1"},
		{key: "cpus", number: "1e400", want: `--cpus "1e400"`, refused: true},
		{key: "keep-fd", number: "1e400", want: `--keep-fd "1e400"`, refused: true},
	} {
		line := fmt.Sprintf(`{"argv":["x"],"mem":"1M",%q:%s}`, test.key, test.number)
		if flag, _ := requestFlag(test.key); flag.name == "mem" {
			line = fmt.Sprintf(`{"argv":["x"],%q:%s}`, test.key, test.number)
		}
		r, _, err := parseRequest([]byte(line))
		switch flag, _ := requestFlag(test.key); {
		case test.refused && (err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), flag.name) && !strings.Contains(err.Error(), test.key)):
			t.Errorf("%s: %v, want an error about %s", line, err, test.want)
		case !test.refused && (err != nil || r.files.String(flag.name) != test.want):
			t.Errorf("%s: %q, %v, want %s", line, r.files.String(flag.name), err, test.want)
		}
	}
	r, _, err := parseRequest([]byte(`{"argv":["x"],"mem":1e17,"swap":-0,"pids":2.0,"wall-time":1e-3}`))
	if l := r.cfg.Limits; err != nil || l.Memory != 1e17 || l.Swap != 0 || l.PIDs != 2 || r.cfg.WallTime != time.Millisecond {
		t.Errorf("%+v, %v", r.cfg, err)
	}
}

// Two keys of one name are refused, for nobody can say which one was meant; the id is that of the answer nevertheless.
func TestRequestKeysTwice(t *testing.T) {
	for _, test := range []struct{ line, id, mentions string }{
		{`{"id":1,"argv":["x"],"mem":1,"mem":1}`, `1`, `"mem"`},
		{`{"id":1,"argv":["x"],"mem":1,"m\u0065m":2}`, `1`, `"mem"`},
		{`{"argv":["x"],"argv":["y"],"id":1}`, `1`, `"argv"`},
		{`{"id":1,"argv":["x"],"mem":1,"memory":1}`, `1`, `"memory"`},
		{`{"id":1,"argv":["x"],"m":1,"mem":"1"}`, `1`, `"m"`},
		{`{"id":1,"argv":["x"],"pids":1,"pids-limit":1}`, `1`, `"pids-limit"`},
		{`{"id":1,"argv":["x"],"mem":null,"memory":1}`, `1`, `"memory"`},
		{`{"id":1,"argv":["x"],"nest":false,"nest":true}`, `1`, `"nest"`},
		{`{"id":1,"argv":["x"],"env":[],"env":["A=1"]}`, `1`, `"env"`},
		{`{"id":1,"argv":["x"],"bogus":1,"bogus":2}`, `1`, `"bogus"`},
		{`{"id":1,"argv":["x"],"net":{"a":1,"a":2}}`, `1`, `"net"`},
		{`{"id":1,"argv":["x"],"env":[{"a":1,"a":2}]}`, `1`, `"env"`},
		{`{"id":1,"argv":["x"],"id":2}`, `null`, `"id"`},
		{`{"id":1,"argv":["x"],"id":1}`, `null`, `"id"`},
		{`{"cancel":"1","cancel":"2"}`, `null`, `"cancel"`},
		{`{"cancel":"1","id":"2"}`, `"2"`, `"cancel"`},
	} {
		r, cancels, err := parseRequest([]byte(test.line))
		if err == nil || !strings.Contains(err.Error(), test.mentions) || r.id != test.id {
			t.Errorf("%s: id %s, cancels %q, %v; want id %s, and an error about %s", test.line, r.id, cancels, err, test.id, test.mentions)
		}
	}
}

// White space is JSON's own business.
func TestRequestWhiteSpace(t *testing.T) {
	r, _, err := parseRequest([]byte(" \t{ \"id\" :\t7 , \"argv\" : [ \"x\" , 5 ]\t, \"nest\" : true , \"env\" : [ ] , \"mem\" : 1e6 } \r\n"))
	if err != nil || r.id != "7" || !slices.Equal(r.cfg.Args, []string{"x", "5"}) || !r.cfg.Nest || r.cfg.Limits.Memory != 1e6 {
		t.Errorf("%+v, %v", r, err)
	}
}

// No flag and no argument takes what stands for no bytes.
func TestRequestStringsRefused(t *testing.T) {
	for _, value := range []string{`"a\u0000"`, `"\ud800"`, `"A=\udfff"`} {
		for key := range requestKeys() {
			flag, _ := requestFlag(key)
			if flag.isBool {
				continue
			}
			line := fmt.Sprintf(`{"id":1,"argv":["x"],%q:%s}`, key, value)
			if r, _, err := parseRequest([]byte(line)); err == nil || r.id != "1" || !strings.Contains(err.Error(), fmt.Sprintf("%q", key)) {
				t.Errorf("%s: %+v, %v", line, r, err)
			}
		}
		if r, _, err := parseRequest([]byte(`{"id":1,"argv":["x",` + value + `]}`)); err == nil || r.id != "1" || !strings.Contains(err.Error(), `"argv"`) {
			t.Errorf("%s: %+v, %v", value, r, err)
		}
	}
}

// allBytes has every byte but NUL, in one argument and in pieces.
func allBytes() []string {
	var all []byte
	var list []string
	for b := 1; b < 256; b++ {
		all = append(all, byte(b))
		list = append(list, string(all[len(all)-1:]))
	}
	return append(list, string(all), "", " ", " x ", "ä\xff", "\xed\xa0\x80\xed\xb3\xbf", "\ufffd", "😀", `\udcff`)
}

// rawJSON writes the bytes as they are.
func rawJSON(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(text) {
		switch c := text[i]; {
		case c == '"' || c == '\\':
			b.WriteString(`\` + string(rune(c)))
		case c < ' ':
			fmt.Fprintf(&b, `\u%04x`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String() + `"`
}

// pythonJSON is json.dumps(os.fsdecode(text)).
func pythonJSON(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\udc%02x`, text[0])
		default:
			quoted, _ := json.Marshal(string(r))
			b.Write(quoted[1 : len(quoted)-1])
		}
		text = text[size:]
	}
	return b.String() + `"`
}

func jsonArray(write func(string) string, list []string) string {
	quoted := make([]string, len(list))
	for i, text := range list {
		quoted[i] = write(text)
	}
	return "[" + strings.Join(quoted, ",") + "]"
}

// What goes in as bytes comes out at the program as the same bytes, and the result tells them.
func TestBytesReachProgram(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{self}, allBytes()...)
	all := args[256]
	variable := "A= " + all + " "
	want := strings.Join(append(slices.Clone(args), variable[2:]), "\x00") + "\x00"
	check := func(name, stdout string, line []byte) {
		t.Helper()
		var r struct {
			Verdict string   `json:"verdict"`
			Argv    []string `json:"argv"`
			Bytes   [][]byte `json:"argv_base64"`
		}
		if err := json.Unmarshal(line, &r); err != nil || r.Verdict != "ok" || !utf8.Valid(line) {
			t.Fatalf("%s: %v: %.300q", name, err, line)
		}
		if stdout != want {
			t.Errorf("%s: the program got %q, want %q", name, stdout, want)
		}
		told := make([]string, len(r.Bytes))
		for i := range told {
			told[i] = string(r.Bytes[i])
		}
		if !slices.Equal(told, args) || len(r.Argv) != len(args) {
			t.Errorf("%s: the result has %q", name, told)
		}
	}
	out := invoke(t, slices.Concat([]string{"--fd", "3", "--parent", newParent(t), "--env", helperEnv + "=args", "--env", variable, "--"}, args)...)
	check("run", out.stdout, []byte(out.fd3))
	for name, write := range map[string]func(string) string{"raw": rawJSON, "surrogateescape": pythonJSON} {
		file := filepath.Join(t.TempDir(), "out \xff\ufffd ")
		line := fmt.Sprintf(`{"id":1,"argv":%s,"env":%s,"stdout":%s}`,
			jsonArray(write, args), jsonArray(write, []string{helperEnv + "=args", variable}), write(file))
		answer := askBatch(t, line)
		stdout, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
		}
		check(name, string(stdout), answer)
	}
}

// askBatch is the answer to a request.
func askBatch(t *testing.T, line string) []byte {
	t.Helper()
	cmd := command(t, "batch", "--jobs", "1", "--parent", newParent(t))
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(line+"\n"), &out, os.Stderr
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// The file that is named is the one that runs, and not one that is called U+FFFD.
func TestNameOfBytes(t *testing.T) {
	parent := newParent(t)
	dir := filepath.Join(t.TempDir(), "d\xfe")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, script := range map[string]string{"p\xff": "exit 7", "p\ufffd": "exit 8", "p?": "exit 9"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	exitCode := func(line []byte) int {
		var r struct {
			ExitCode *int `json:"exit_code"`
		}
		if err := json.Unmarshal(line, &r); err != nil || r.ExitCode == nil {
			t.Fatalf("%v: %s", err, line)
		}
		return *r.ExitCode
	}
	if out := invoke(t, "--fd", "3", "--parent", parent, "--chdir", dir, "./p\xff"); out.status != 7 {
		t.Errorf("%+v", out)
	}
	for name, write := range map[string]func(string) string{"raw": rawJSON, "surrogateescape": pythonJSON} {
		for program, want := range map[string]int{"./p\xff": 7, "./p\ufffd": 8} {
			line := fmt.Sprintf(`{"argv":[%s],"chdir":%s}`, write(program), write(dir))
			if got := exitCode(askBatch(t, line)); got != want {
				t.Errorf("%s: %q exits with %d, want %d", name, program, got, want)
			}
		}
	}
	answer := askBatch(t, fmt.Sprintf(`{"argv":["./nosuch\udcff"],"chdir":%s}`, pythonJSON(dir)))
	if encoded := base64.StdEncoding.EncodeToString([]byte("./nosuch\xff")); !bytes.Contains(answer, []byte(encoded)) || !utf8.Valid(answer) || !bytes.Contains(answer, []byte(`nosuch\\xff`)) {
		t.Errorf("%s", answer)
	}
}

// Whatever the bytes, raw or as Python has them, the program's argument, its variable and its files are those bytes.
func FuzzRequestBytes(f *testing.F) {
	for _, seed := range []string{"a", " a ", "\xff", "ä\xc3", "\xed\xa0\x80", "\xed\xb3\xbf", `\udcff`, "\xf0\x9f\x98", "\u2028\"\\\n\x01", "\ufffd😀", "<&>"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if text == "" || strings.ContainsRune(text, 0) {
			return
		}
		var ids []string
		for _, write := range []func(string) string{rawJSON, pythonJSON} {
			quoted := write(text)
			line := fmt.Sprintf(`{"id":%[1]s,"argv":[%[1]s,%[1]s],"env":[%[2]s],"chdir":%[1]s,"stdin":%[1]s}`, quoted, write("A="+text))
			r, _, err := parseRequest([]byte(line))
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			if c := r.cfg; !slices.Equal(c.Args, []string{text, text}) || c.Env[len(c.Env)-1] != "A="+text || c.Dir != text || r.files.String("stdin") != text {
				t.Errorf("%q: %q", line, r.files)
			}
			if !json.Valid([]byte(r.id)) || !utf8.ValidString(r.id) {
				t.Errorf("%q: id %q", line, r.id)
			}
			ids = append(ids, r.id)
		}
		if ids[0] != ids[1] {
			t.Errorf("%q: ids %q", text, ids)
		}
	})
}

// FuzzNumbers: what is made of a JSON number is the same number, without an exponent, or an error.
func FuzzNumbers(f *testing.F) {
	for _, seed := range []string{"0", "-0", "1e6", "1.5", "15e-1", "1e400", "-1e-400", "0e9999999999999999999", "1e-9999999999999999999", "123456789012345678901234567890", "4.0000"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, number string) {
		if len(number) > 400 || strings.TrimSpace(number) != number || !json.Valid([]byte(number)) || kindOf([]byte(number)) != kindNumber {
			return
		}
		var n float64
		inRange := json.Unmarshal([]byte(number), &n) == nil
		for _, write := range []func(string) (string, error){wholeNumber, plainNumber} {
			text, err := write(number)
			if err != nil {
				continue
			}
			var again float64
			if jsonErr := json.Unmarshal([]byte(text), &again); jsonErr != nil || again != n && inRange && n >= 1e-300 || strings.ContainsAny(text, "eE-+") || !isSeconds(text) {
				t.Errorf("%s is %s, %v", number, text, jsonErr)
			}
		}
		if digits.MatchString(number) && len(number) < 19 {
			if text, err := wholeNumber(number); err != nil || text != number {
				t.Errorf("%s is %s, %v", number, text, err)
			}
		}
	})
}
