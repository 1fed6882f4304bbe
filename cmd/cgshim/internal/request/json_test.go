package request

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/cgshim/cgshim/cmd/cgshim/internal/flags"
	"github.com/cgshim/cgshim/cmd/cgshim/internal/request/requesttest"
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
		if flag, _ := keyOf(test.key); flag.name == "mem" {
			line = fmt.Sprintf(`{"argv":["x"],%q:%s}`, test.key, test.number)
		}
		r, err := Parse([]byte(line))
		switch flag, _ := keyOf(test.key); {
		case test.refused && (err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), flag.name) && !strings.Contains(err.Error(), test.key)):
			t.Errorf("%s: %v, want an error about %s", line, err, test.want)
		case !test.refused && (err != nil || r.Flags.String(flag.name) != test.want):
			t.Errorf("%s: %q, %v, want %s", line, r.Flags.String(flag.name), err, test.want)
		}
	}
	r, err := Parse([]byte(`{"argv":["x"],"mem":1e17,"swap":-0,"pids":2.0,"wall-time":1e-3}`))
	if l := r.Config.Limits; err != nil || l.Memory != 1e17 || l.Swap != 0 || l.PIDs != 2 || r.Config.WallTime != time.Millisecond {
		t.Errorf("%+v, %v", r.Config, err)
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
		r, err := Parse([]byte(test.line))
		if err == nil || !strings.Contains(err.Error(), test.mentions) || r.ID != test.id {
			t.Errorf("%s: id %s, cancels %q, %v; want id %s, and an error about %s", test.line, r.ID, r.Cancels, err, test.id, test.mentions)
		}
	}
}

// White space is JSON's own business.
func TestRequestWhiteSpace(t *testing.T) {
	r, err := Parse([]byte(" \t{ \"id\" :\t7 , \"argv\" : [ \"x\" , 5 ]\t, \"nest\" : true , \"env\" : [ ] , \"mem\" : 1e6 } \r\n"))
	if err != nil || r.ID != "7" || !slices.Equal(r.Config.Args, []string{"x", "5"}) || !r.Config.Nest || r.Config.Limits.Memory != 1e6 {
		t.Errorf("%+v, %v", r, err)
	}
}

// No flag and no argument takes what stands for no bytes.
func TestRequestStringsRefused(t *testing.T) {
	for _, value := range []string{`"a\u0000"`, `"\ud800"`, `"A=\udfff"`} {
		for key := range keys() {
			flag, _ := keyOf(key)
			if flag.kind == flags.Switch {
				continue
			}
			line := fmt.Sprintf(`{"id":1,"argv":["x"],%q:%s}`, key, value)
			if r, err := Parse([]byte(line)); err == nil || r.ID != "1" || !strings.Contains(err.Error(), fmt.Sprintf("%q", key)) {
				t.Errorf("%s: %+v, %v", line, r, err)
			}
		}
		if r, err := Parse([]byte(`{"id":1,"argv":["x",` + value + `]}`)); err == nil || r.ID != "1" || !strings.Contains(err.Error(), `"argv"`) {
			t.Errorf("%s: %+v, %v", value, r, err)
		}
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
		for _, write := range []func(string) string{requesttest.Raw, requesttest.Python} {
			quoted := write(text)
			line := fmt.Sprintf(`{"id":%[1]s,"argv":[%[1]s,%[1]s],"env":[%[2]s],"chdir":%[1]s,"stdin":%[1]s}`, quoted, write("A="+text))
			r, err := Parse([]byte(line))
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			if c := r.Config; !slices.Equal(c.Args, []string{text, text}) || c.Env[len(c.Env)-1] != "A="+text || c.Dir != text || r.Flags.String("stdin") != text {
				t.Errorf("%q: %q", line, r.Flags)
			}
			if !json.Valid([]byte(r.ID)) || !utf8.ValidString(r.ID) {
				t.Errorf("%q: id %q", line, r.ID)
			}
			ids = append(ids, r.ID)
		}
		if ids[0] != ids[1] {
			t.Errorf("%q: ids %q", text, ids)
		}
	})
}
