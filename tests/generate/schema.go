package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cgshim/cgshim/internal/limits"
)

// A definition is one of the schema's "$defs", in their order.
type definition struct {
	name, typ string
	line      bool // of which the schema is about: it is not only a part of one
	id        bool // cgshim batch puts an id in front
}

var definitions = []definition{
	{"result", "shim.Result", true, true},
	{"started", "shim.Started", true, true},
	{"sample", "shim.Sample", true, true},
	{"limit", "shim.LimitReached", true, true},
	{"run", "runs.Running", true, false},
	{"doctor", "doctor.Report", true, false},
	{"check", "doctor.Check", false, false},
	{"place", "doctor.Place", false, false},
	{"limits", "shim.RequestedLimits", false, false},
	{"ulimit", "shim.RequestedRlimit", false, false},
	{"error", "shim.ErrorInfo", false, false},
}

// An object is a JSON object in its order.
type object []member

type member struct {
	key   string
	value any
}

// MarshalJSON implements json.Marshaler.
func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := enc.Encode(m.key); err != nil {
			return nil, err
		}
		b.WriteByte(':')
		if err := enc.Encode(m.value); err != nil {
			return nil, err
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// A schema is the source with the JSON Schema of it.
type schema struct {
	source *source
	top    object
}

func newSchema(s *source) (*schema, error) {
	var lines []any
	var defs object
	for _, d := range definitions {
		typ := s.types[d.typ]
		if typ == nil {
			return nil, fmt.Errorf("there is no type %s", d.typ)
		}
		def, err := s.definition(d, typ)
		if err != nil {
			return nil, err
		}
		defs = append(defs, member{d.name, def})
		if d.line {
			lines = append(lines, ref(d.name))
		}
	}
	return &schema{s, object{
		{"$schema", "https://json-schema.org/draft/2020-12/schema"},
		{"$id", "https://github.com/cgshim/cgshim/schema/" + s.counts["shim.SchemaVersion"]},
		{"title", "A line that cgshim writes: its result, or, with --events, an event; those of cgshim batch have an id in front"},
		{"description", "What is not known is null, never 0. Seconds are decimals with six digits. Readers ignore keys that they do not know."},
		{"oneOf", lines},
		{"$defs", defs},
	}}, nil
}

func (s *schema) json() []byte {
	var b, spread bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s.top); err != nil {
		panic(err) // it is made of strings
	}
	if err := json.Indent(&spread, b.Bytes(), "", "  "); err != nil {
		panic(err)
	}
	return spread.Bytes()
}

func ref(name string) object { return object{{"$ref", "#/$defs/" + name}} }

func (s *source) definition(d definition, typ *goType) (object, error) {
	var properties object
	if d.id {
		properties = append(properties, member{"id", object{
			{"description", "That of the request, of cgshim batch only; null if that has none."},
			{"type", []any{"string", "number", "null"}},
		}})
	}
	required := []string{}
	for _, f := range typ.fields {
		var node object
		if len(f.text) > 0 {
			node = append(node, member{"description", f.text[0]})
		}
		pkg, _, _ := strings.Cut(d.typ, ".")
		value, err := s.node(pkg, f.typ, f.tag)
		if err != nil {
			return nil, fmt.Errorf("%s.%s: %w", d.name, f.key, err)
		}
		properties = append(properties, member{f.key, append(node, value...)})
		if !f.optional {
			required = append(required, f.key)
		}
	}
	about := typ.text.inJSON()
	if about == "" {
		return nil, fmt.Errorf("the comment of %s has no paragraph that begins with %q", d.typ, "In JSON: ")
	}
	return object{{"description", about}, {"type", "object"}, {"properties", properties}, {"required", required}}, nil
}

// node is what the schema says of a type with a tag. These are the parts of a tag that are not the schema's own words:
//
//	words=A B     one of the string constants whose names, in the package, begin with one of these
//	limits=hits   one of the names of limits: see package limits; also limits=enforced
//	keys.WORD     WORD is about the keys of a map
//	values.WORD   WORD is about the values of a map or slice
func (s *source) node(pkg, typ string, tag []option) (object, error) {
	elem, nullable := strings.CutPrefix(typ, "*")
	values, _ := part(tag, "values.")
	switch {
	case strings.HasPrefix(elem, "[]"):
		items, err := s.node(pkg, elem[2:], values)
		return constrain(object{{"type", "array"}, {"items", items}}, tag), err
	case strings.HasPrefix(elem, "map[string]"):
		return s.table(pkg, elem[len("map[string]"):], tag)
	}
	if name := defOf(elem); name != "" {
		if nullable {
			return object{{"oneOf", []any{ref(name), object{{"type", "null"}}}}}, nil
		}
		return ref(name), nil
	}
	if node, err := s.listed(pkg, elem, tag, nullable); node != nil || err != nil {
		return node, err
	}
	name, minimum := "", false
	switch elem {
	case "string":
		name = "string"
	case "bool":
		name = "boolean"
	case "int", "int64":
		name = "integer"
	case "uint64":
		name, minimum = "integer", true
	case "float64":
		name = "number"
	case "shim.Seconds":
		name, minimum = "number", true
	default:
		return nil, fmt.Errorf("don't know what %s is in JSON", elem)
	}
	node := object{{"type", name}}
	if nullable {
		node = object{{"type", []any{name, "null"}}}
	}
	if minimum && !slices.ContainsFunc(tag, func(o option) bool { return o.name == "minimum" }) {
		node = append(node, member{"minimum", 0})
	}
	return constrain(node, tag), nil
}

// table is about a map.
func (s *source) table(pkg, elem string, tag []option) (object, error) {
	keys, _ := part(tag, "keys.")
	values, _ := part(tag, "values.")
	value, err := s.node(pkg, elem, values)
	if err != nil {
		return nil, err
	}
	node := object{{"type", "object"}}
	if len(keys) == 0 {
		return append(node, member{"additionalProperties", value}), nil
	}
	if keys[0].name == "pattern" {
		return append(node, member{"patternProperties", object{{keys[0].value, value}}}, member{"additionalProperties", false}), nil
	}
	names, err := s.listed(pkg, "string", keys, false)
	return append(node, member{"propertyNames", names}, member{"additionalProperties", value}), err
}

// listed is about what has few values; nil if it has not.
func (s *source) listed(pkg, typ string, tag []option, nullable bool) (object, error) {
	var list []any
	for _, w := range s.wordsOf(pkg, typ, tag) {
		list = append(list, w.value)
	}
	for _, o := range tag {
		switch o.name {
		case "const":
			return object{{"const", literal(typ, o.value)}}, nil
		case "enum":
			for value := range strings.SplitSeq(o.value, " ") {
				list = append(list, literal(typ, value))
			}
		case "limits":
			for _, name := range limitNames(o.value) {
				list = append(list, name)
			}
		case "words":
			if list == nil {
				return nil, fmt.Errorf("package %s has no constant %s", pkg, o.value)
			}
		}
	}
	if list == nil {
		return nil, nil
	}
	if nullable {
		list = append(list, nil)
	}
	return object{{"enum", list}}, nil
}

// wordsOf are the constants of a type, or those that a tag names.
func (s *source) wordsOf(pkg, typ string, tag []option) []word {
	var list []word
	for _, w := range s.words[pkg] {
		named := slices.ContainsFunc(tag, func(o option) bool {
			return o.name == "words" && slices.ContainsFunc(strings.Fields(o.value), func(p string) bool { return strings.HasPrefix(w.name, p) })
		})
		if named || w.typ != "" && w.typ == typ {
			list = append(list, w)
		}
	}
	return list
}

// limitNames are those of the limits, of one kind.
func limitNames(kind string) []string {
	return limits.Names(func(l *limits.Limit) []string {
		switch kind {
		case "hits":
			return l.Hits
		case "enforced":
			return []string{l.Enforced}
		}
		return nil
	})
}

// constrain adds the schema's own words.
func constrain(node object, tag []option) object {
	for _, o := range tag {
		if strings.Contains(o.name, ".") {
			continue
		}
		var value any = o.value
		if n, err := strconv.Atoi(o.value); err == nil {
			value = n
		} else if o.value == "" {
			value = true
		}
		node = append(node, member{o.name, value})
	}
	return node
}

// part is what a tag says of keys or values.
func part(tag []option, prefix string) (list []option, ok bool) {
	for _, o := range tag {
		if name, ok := strings.CutPrefix(o.name, prefix); ok {
			list = append(list, option{name, o.value})
		}
	}
	return list, list != nil
}

func literal(typ, value string) any {
	if n, err := strconv.Atoi(value); err == nil && typ != "string" {
		return n
	}
	return value
}

func defOf(typ string) string {
	for _, d := range definitions {
		if d.typ == typ {
			return d.name
		}
	}
	return ""
}
