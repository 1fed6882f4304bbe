package main

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// The manual has tables of keys between two comments. The first one names a definition, and the keys that are in the table; "..." is all
// that no table of the definition names.
const (
	beginMark = `.\" generated: begin `
	endMark   = `.\" generated: end`
)

// manual replaces the tables of a page.
func manual(s *schema, page []byte) ([]byte, error) {
	p := &pages{schema: s, named: map[string][]string{}}
	lines := strings.Split(string(page), "\n")
	for _, line := range lines {
		if def, keys, ok := mark(line); ok {
			p.named[def] = append(p.named[def], keys...)
		}
	}
	for def, keys := range p.named {
		if err := p.checkNames(def, keys); err != nil {
			return nil, err
		}
	}
	inside := false
	for _, line := range lines {
		if inside = inside && line != endMark; inside {
			continue
		}
		p.line(line)
		if def, keys, ok := mark(line); ok {
			inside = true
			p.table(def, keys)
		}
	}
	if inside {
		return nil, fmt.Errorf("%s: the last table has no end", manualFile)
	}
	return bytes.TrimSuffix(p.out.Bytes(), []byte("\n")), nil
}

func mark(line string) (def string, keys []string, ok bool) {
	rest, ok := strings.CutPrefix(line, beginMark)
	words := strings.Fields(rest)
	if !ok || len(words) == 0 {
		return "", nil, false
	}
	return words[0], words[1:], true
}

// pages is a page that is being made.
type pages struct {
	schema *schema
	named  map[string][]string // keys that are named in a table, by definition
	out    bytes.Buffer
}

func (p *pages) line(s string) { p.out.WriteString(s + "\n") }

// typeOf is the type of a definition, which there is.
func (p *pages) typeOf(def string) *goType {
	i := slices.IndexFunc(definitions, func(d definition) bool { return d.name == def })
	if i < 0 {
		return nil
	}
	return p.schema.source.types[definitions[i].typ]
}

// checkNames is about the keys in all tables of a definition: each is in one, once.
func (p *pages) checkNames(def string, keys []string) error {
	typ := p.typeOf(def)
	if typ == nil {
		return fmt.Errorf("%s: %s is no definition", manualFile, def)
	}
	rest := slices.Contains(keys, "...")
	for i, key := range keys {
		known := key == "..." || slices.ContainsFunc(typ.fields, func(f field) bool { return f.key == key })
		if !known || slices.Contains(keys[:i], key) {
			return fmt.Errorf("%s: %s has no key %s, or two tables have it", manualFile, def, key)
		}
	}
	for _, f := range typ.fields {
		if !rest && !slices.Contains(keys, f.key) {
			return fmt.Errorf("%s: %s of %s is in no table", manualFile, f.key, def)
		}
	}
	return nil
}

// table has the keys in the order of the mark, those of "..." in that of the type.
func (p *pages) table(def string, keys []string) {
	var fields []field
	for _, key := range keys {
		for _, f := range p.typeOf(def).fields {
			if f.key == key || key == "..." && !slices.Contains(p.named[def], f.key) {
				fields = append(fields, f)
			}
		}
	}
	i := slices.IndexFunc(definitions, func(d definition) bool { return d.name == def })
	p.fields(definitions[i].typ, fields)
}

// fields has those that say the same one after the other in one entry. What is constant and says nothing has none.
func (p *pages) fields(typ string, fields []field) {
	pkg, _, _ := strings.Cut(typ, ".")
	for i := 0; i < len(fields); i++ {
		f := fields[i]
		if len(f.text) == 0 && len(f.tag) > 0 && f.tag[0].name == "const" {
			continue
		}
		same := []string{f.key}
		for len(f.text) > 0 && i+1 < len(fields) && slices.Equal(fields[i+1].text, f.text) {
			i++
			same = append(same, fields[i].key)
		}
		p.line(".It Cm " + strings.Join(same, " , "))
		p.text(f.text.first())
		p.inside(pkg, f)
		for _, paragraph := range f.text[min(1, len(f.text)):] {
			p.text(paragraph)
		}
	}
}

// inside is what a key has in it: words, names, or keys.
func (p *pages) inside(pkg string, f field) {
	source := p.schema.source
	elem := f.typ[strings.LastIndexAny(f.typ, "*]")+1:]
	keys, _ := part(f.tag, "keys.")
	values, _ := part(f.tag, "values.")
	if names := limitNames(valueOf("limits", append(keys, values...))); names != nil {
		p.line("The names are")
		p.line(".Cm " + strings.Join(names, " , ") + " .")
	}
	if def := defOf(elem); def != "" {
		p.line(".Bl -tag -width Ds -compact")
		p.fields(elem, source.types[elem].fields)
		p.line(".El")
	}
	if words := source.wordsOf(pkg, elem, append(values, f.tag...)); words != nil {
		p.line(".Bl -tag -width Ds -compact")
		for _, w := range words {
			p.line(".It Cm " + w.value)
			for _, paragraph := range w.text {
				p.text(paragraph)
			}
		}
		p.line(".El")
	}
}

func valueOf(name string, tag []option) string {
	for _, o := range tag {
		if o.name == name {
			return o.value
		}
	}
	return ""
}

// lineWidth is that of text; macros have lines of their own.
const lineWidth = 120

// text writes a paragraph: each sentence, and each macro, begins a line.
func (p *pages) text(paragraph string) {
	line := ""
	flush := func() {
		if line != "" {
			p.line(line)
		}
		line = ""
	}
	for _, w := range words(paragraph) {
		macro := p.macro(w)
		switch {
		case macro != "":
			flush()
			p.line(macro)
		case len(line)+1+len(w) > lineWidth:
			flush()
			line = escape(w)
		case line != "":
			line += " " + escape(w)
		default:
			line = escape(w)
		}
		if strings.HasSuffix(strings.TrimRight(w, `)"`), ".") {
			flush()
		}
	}
	flush()
}

// words are a text's, where "what is quoted" is one.
func words(s string) []string {
	var list []string
	for _, w := range strings.Fields(s) {
		if n := len(list); n > 0 && strings.Count(list[n-1], `"`) == 1 {
			list[n-1] += " " + w
			continue
		}
		list = append(list, w)
	}
	return list
}

func escape(w string) string { return strings.ReplaceAll(w, `\`, `\e`) }

var (
	// A word with the punctuation around it.
	dressed = regexp.MustCompile(`^(\(?)(.*?)([.,;:)]*)$`)
	macros  = []struct {
		is    *regexp.Regexp
		macro string
	}{
		{regexp.MustCompile(`^-(-[a-z-]+)$`), "Fl $1"},
		{regexp.MustCompile(`^([a-z0-9-]+)\(([1-8])\)$`), "Xr $1 $2"},
		{regexp.MustCompile(`^((?:memory|cpu|cpuacct|pids|io|blkio)(?:\.[a-z_]+)+|/proc/.*)$`), "Pa $1"},
		{regexp.MustCompile(`^(SIG[A-Z]+)$`), "Dv $1"},
		{regexp.MustCompile(`^"(.*)"$`), "Ql $1"},
	}
)

// macro is the line for a word that is no plain text; otherwise it is empty.
func (p *pages) macro(w string) string {
	parts := dressed.FindStringSubmatch(w)
	open, bare, behind := parts[1], parts[2], parts[3]
	if section, ok := strings.CutPrefix(behind, ")"); ok && strings.Contains(bare, "(") { // of wait4(2)
		bare, behind = bare+")", section
	}
	line := ""
	if name := strings.Trim(bare, `"`); p.isName(name) && (name != bare || strings.Contains(name, "_")) {
		line = "Cm " + name
	}
	for _, m := range macros {
		if line == "" && m.is.MatchString(bare) {
			line = m.is.ReplaceAllString(bare, m.macro)
		}
	}
	if line == "" {
		return ""
	}
	if closed, ok := strings.CutPrefix(behind, ")"); ok && open != "" {
		line, behind, open = "Pq "+line, closed, ""
	}
	if open != "" {
		macro, rest, _ := strings.Cut(line, " ")
		line = macro + " ( " + rest
	}
	for _, c := range behind {
		line += " " + string(c)
	}
	return "." + line
}

// isName says whether a word is a key, or the name of a limit.
func (p *pages) isName(w string) bool {
	if slices.Contains(limitNames("hits"), w) || slices.Contains(limitNames("enforced"), w) {
		return true
	}
	for _, d := range definitions {
		if slices.ContainsFunc(p.schema.source.types[d.typ].fields, func(f field) bool { return f.key == w }) {
			return true
		}
	}
	return false
}
