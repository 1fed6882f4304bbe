// Package schematest holds JSON, and Go types, against a JSON Schema as cgshim's is.
package schematest

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// A Node is what tests look at in the schema.
type Node struct {
	Ref        string          `json:"$ref"`
	Type       any             `json:"type"`
	Const      any             `json:"const"`
	Enum       []any           `json:"enum"`
	OneOf      []Node          `json:"oneOf"`
	Properties json.RawMessage `json:"properties"`
	Required   []string        `json:"required"`
	Additional json.RawMessage `json:"additionalProperties"`
}

// Defs are the definitions of the schema.
func Defs(t *testing.T, schema string) map[string]Node {
	t.Helper()
	var top struct {
		Defs map[string]Node `json:"$defs"`
	}
	if err := json.Unmarshal([]byte(schema), &top); err != nil {
		t.Fatal(err)
	}
	return top.Defs
}

// Keys are the keys in their order, and what the schema says of each.
func (n Node) Keys(t *testing.T) (keys []string, nodes map[string]Node) {
	t.Helper()
	if err := json.Unmarshal(n.Properties, &nodes); err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(bytes.NewReader(n.Properties))
	_, _ = dec.Token()
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key.(string))
		var value json.RawMessage
		_ = dec.Decode(&value)
	}
	return keys, nodes
}

// types are the JSON types that a node allows.
func (n Node) types() []string {
	var list []string
	add := func(v any) {
		switch v.(type) {
		case nil:
			list = append(list, "null")
		case string:
			list = append(list, "string")
		case float64:
			list = append(list, "integer")
		}
	}
	switch v := n.Type.(type) {
	case string:
		list = append(list, v)
	case []any:
		for _, name := range v {
			list = append(list, name.(string))
		}
	}
	if n.Const != nil {
		add(n.Const)
	}
	for _, v := range n.Enum {
		add(v)
	}
	for _, one := range n.OneOf {
		list = append(list, one.types()...)
	}
	if n.Ref != "" {
		list = append(list, "object")
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// jsonTypes are the JSON types that a Go type becomes.
func jsonTypes(typ reflect.Type) []string {
	switch {
	case typ.Kind() == reflect.Pointer:
		return append(jsonTypes(typ.Elem()), "null")
	case typ.Kind() == reflect.Bool:
		return []string{"boolean"}
	case typ.Kind() == reflect.Float64:
		return []string{"number"}
	case typ.Kind() == reflect.String:
		return []string{"string"}
	case typ.Kind() == reflect.Slice:
		return []string{"array"}
	case typ.Kind() == reflect.Map, typ.Kind() == reflect.Struct:
		return []string{"object"}
	}
	return []string{"integer"}
}

// AssertFits fails the test unless the schema says of a definition what the Go type says: keys and their order, nullable or not, types.
// The keys that the schema has in front of them are before.
func AssertFits(t *testing.T, schema, name string, value any, before ...string) {
	t.Helper()
	def, ok := Defs(t, schema)[name]
	if !ok {
		t.Fatalf("%s: not in the schema", name)
	}
	keys, nodes := def.Keys(t)
	want := before
	var required []string
	for _, field := range reflect.VisibleFields(reflect.TypeOf(value)) {
		tag, ok := field.Tag.Lookup("json")
		if !ok || tag == "-" {
			continue
		}
		key, option, _ := strings.Cut(tag, ",")
		want = append(want, key)
		if option != "omitempty" {
			required = append(required, key)
		}
		types := jsonTypes(field.Type)
		slices.Sort(types)
		if got := nodes[key].types(); !slices.Equal(got, types) {
			t.Errorf("%s.%s: types %q, want %q", name, key, got, types)
		}
	}
	if !slices.Equal(keys, want) || !slices.Equal(def.Required, required) {
		t.Errorf("%s: keys\n%q, want\n%q\nrequired\n%q, want\n%q", name, keys, want, def.Required, required)
	}
}

var compiled sync.Map // schema → func() (*jsonschema.Schema, error)

// compile also finds a schema that is none.
func compile(schema string) (*jsonschema.Schema, error) {
	once, _ := compiled.LoadOrStore(schema, sync.OnceValues(func() (*jsonschema.Schema, error) {
		parsed, err := jsonschema.UnmarshalJSON(strings.NewReader(schema))
		if err != nil {
			return nil, err
		}
		compiler := jsonschema.NewCompiler()
		compiler.AssertFormat()
		if err := compiler.AddResource("schema.json", parsed); err != nil {
			return nil, err
		}
		return compiler.Compile("schema.json")
	}))
	return once.(func() (*jsonschema.Schema, error))()
}

// Validate says what is wrong with a value, by the schema.
func Validate(t *testing.T, schema string, value any) error {
	t.Helper()
	s, err := compile(schema)
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(value)
}

// AssertValid fails the test unless the line is one that the schema describes.
func AssertValid(t *testing.T, schema string, line []byte) {
	t.Helper()
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
	if err == nil {
		err = Validate(t, schema, value)
	}
	if err != nil {
		t.Errorf("%v: %s", err, line)
	}
}
