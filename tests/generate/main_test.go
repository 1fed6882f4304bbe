package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// newPages is about the types of the tree.
func newPages(t *testing.T) *pages {
	t.Helper()
	t.Chdir("../..")
	s, err := parseSource("shim", "shim/doctor", "shim/runs")
	if err != nil {
		t.Fatal(err)
	}
	schema, err := newSchema(s)
	if err != nil {
		t.Fatal(err)
	}
	return &pages{schema: schema, named: map[string][]string{}}
}

func TestNode(t *testing.T) {
	p := newPages(t)
	for _, c := range []struct{ typ, tag, want string }{
		{"*int", "minimum=0,maximum=255", `{"type":["integer","null"],"minimum":0,"maximum":255}`},
		{"uint64", "", `{"type":"integer","minimum":0}`},
		{"uint64", "minimum=1", `{"type":"integer","minimum":1}`},
		{"*shim.Seconds", "", `{"type":["number","null"],"minimum":0}`},
		{"*int", "enum=1 2", `{"enum":[1,2,null]}`},
		{"string", "const=none", `{"const":"none"}`},
		{"string", "words=ByR", `{"enum":["rlimit","relay"]}`},
		{"[]string", "values.limits=hits,uniqueItems", `{"type":"array","items":{"enum":[` +
			`"memory","swap","mem_high","pids","cpus","cpu_time","wall_time","output","ulimit_cpu","ulimit_fsize"]},"uniqueItems":true}`},
		{"map[string]uint64", "keys.pattern=^a,values.minimum=1", `{"type":"object","patternProperties":{"^a":{"type":"integer","minimum":1}},` +
			`"additionalProperties":false}`},
		{"*doctor.Place", "", `{"oneOf":[{"$ref":"#/$defs/place"},{"type":"null"}]}`},
	} {
		node, err := p.schema.source.node("shim", c.typ, options(c.tag))
		if err != nil {
			t.Fatal(err)
		}
		got, err := json.Marshal(node)
		if err != nil || string(got) != c.want {
			t.Errorf("%s %s: %s, %v, want %s", c.typ, c.tag, got, err, c.want)
		}
	}
	for _, typ := range []string{"chan int", "shim.Config"} {
		if node, err := p.schema.source.node("shim", typ, nil); err == nil {
			t.Errorf("%s is %v", typ, node)
		}
	}
	if _, err := p.schema.source.node("shim", "string", options("words=Nothing")); err == nil {
		t.Error("constants that there are not are accepted")
	}
}

func TestManualText(t *testing.T) {
	p := newPages(t)
	for text, want := range map[string]string{
		"One. Two.":                       "One.\nTwo.",
		"From memory.peak (since 5.19).":  "From\n.Pa memory.peak\n(since 5.19).",
		"Asked (memory.swap.max) or not.": "Asked\n.Pq Pa memory.swap.max\nor not.",
		"Without --cpu-time), so":         "Without\n.Fl -cpu-time ) ,\nso",
		"By wait4(2).":                    "By\n.Xr wait4 2 .",
		`cpu_seconds of "no words" is`:    ".Cm cpu_seconds\nof\n.Ql no words\nis",
		`a signal, "signal"; SIGKILL`:     "a signal,\n.Cm signal ;\n.Dv SIGKILL",
		`for byte \xff`:                   `for byte \exff`,
	} {
		p.out.Reset()
		p.text(text)
		if got := strings.TrimSuffix(p.out.String(), "\n"); got != want {
			t.Errorf("%q is\n%s\nwant\n%s", text, got, want)
		}
	}
}

func TestManualTables(t *testing.T) {
	schema := newPages(t).schema
	page := func(tables ...string) []byte {
		return []byte("top\n" + beginMark + strings.Join(tables, "\nold\n"+endMark+"\nmiddle\n"+beginMark) + "\nold\n" + endMark + "\nbottom\n")
	}
	good, err := manual(schema, page("ulimit hard", "ulimit ...", "limit wall_seconds ends_run limit type"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"top\n", "\nmiddle\n", "\nbottom\n", "ulimit hard\n.It Cm hard\n" + endMark, "...\n.It Cm soft\n" + endMark, ".It Cm ends_run\nWhether"} {
		if !strings.Contains(string(good), want) {
			t.Errorf("no %q in\n%s", want, good)
		}
	}
	if strings.Contains(string(good), "old") || strings.Contains(string(good), "It Cm type") {
		t.Errorf("%s", good)
	}
	for _, tables := range [][]string{{"ulimit hard"}, {"ulimit hard soft hard"}, {"ulimit ... luck"}, {"luck ..."}} {
		if bad, err := manual(schema, page(tables...)); err == nil {
			t.Errorf("%q: %s", tables, bad)
		}
	}
	if bad, err := manual(schema, []byte(beginMark+"ulimit ...\n")); err == nil {
		t.Errorf("no end: %s", bad)
	}
}
