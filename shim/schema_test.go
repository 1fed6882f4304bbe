package shim

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/reexec"
)

// A schemaNode is what these tests look at in the schema.
type schemaNode struct {
	Ref        string          `json:"$ref"`
	Type       any             `json:"type"`
	Const      any             `json:"const"`
	Enum       []any           `json:"enum"`
	OneOf      []schemaNode    `json:"oneOf"`
	Properties json.RawMessage `json:"properties"`
	Required   []string        `json:"required"`
	Additional json.RawMessage `json:"additionalProperties"`
}

func schemaDefs(t *testing.T) map[string]schemaNode {
	t.Helper()
	var top struct {
		Defs map[string]schemaNode `json:"$defs"`
	}
	if err := json.Unmarshal([]byte(Schema), &top); err != nil {
		t.Fatal(err)
	}
	return top.Defs
}

// properties are the keys in their order, and what the schema says of each.
func (n schemaNode) properties(t *testing.T) (keys []string, nodes map[string]schemaNode) {
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
func (n schemaNode) types() []string {
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

// Keys and their order, nullable or not, types: the schema says what the Go types say.
func TestSchemaFitsTypes(t *testing.T) {
	defs := schemaDefs(t)
	for name, value := range map[string]any{
		"result": Result{}, "started": Started{}, "sample": Sample{}, "limit": LimitReached{}, "run": Running{}, "doctor": Report{}, "check": Check{}, "place": Place{},
		"limits": RequestedLimits{}, "ulimit": RequestedRlimit{}, "error": ErrorInfo{},
	} {
		keys, nodes := defs[name].properties(t)
		var want, required []string
		if slices.Contains([]string{"result", "started", "sample", "limit"}, name) {
			want = append(want, "id") // which "cgshim batch" puts in front
		}
		for _, field := range reflect.VisibleFields(reflect.TypeOf(value)) {
			tag, ok := field.Tag.Lookup("json")
			if !ok {
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
		if !slices.Equal(keys, want) || !slices.Equal(defs[name].Required, required) {
			t.Errorf("%s: keys\n%q, want\n%q\nrequired\n%q, want\n%q", name, keys, want, defs[name].Required, required)
		}
	}
}

// The words of each list are the constants of the package.
func TestSchemaEnums(t *testing.T) {
	_, nodes := schemaDefs(t)["result"].properties(t)
	words := func(list []any) []string {
		var s []string
		for _, w := range list {
			s = append(s, w.(string))
		}
		slices.Sort(s)
		return s
	}
	verdicts, by := constants(t, "Verdict"), constants(t, "")
	if got := words(nodes["verdict"].Enum); !slices.Equal(got, verdicts) {
		t.Errorf("verdicts %q, want %q", got, verdicts)
	}
	var additional schemaNode
	if err := json.Unmarshal(nodes["enforced"].Additional, &additional); err != nil {
		t.Fatal(err)
	}
	if got := words(additional.Enum); !slices.Equal(got, by) {
		t.Errorf("enforced by %q, want %q", got, by)
	}
}

// constants are the values of result.go's string constants of a type, or of those called By….
func constants(t *testing.T, typeName string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "result.go", nil, 0)
	if err != nil {
		t.Skip("requires go toolchain: the sources: ", err)
	}
	var list []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		named, _ := spec.Type.(*ast.Ident)
		wanted := named != nil && named.Name == typeName
		if typeName == "" {
			wanted = strings.HasPrefix(spec.Names[0].Name, "By")
		}
		if literal, ok := spec.Values[0].(*ast.BasicLit); ok && wanted {
			word, _ := strconv.Unquote(literal.Value)
			list = append(list, word)
		}
		return true
	})
	slices.Sort(list)
	return list
}

// compiledSchema also finds a schema that is none.
var compiledSchema = sync.OnceValues(func() (*jsonschema.Schema, error) {
	parsed, err := jsonschema.UnmarshalJSON(strings.NewReader(Schema))
	if err != nil {
		return nil, err
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource("schema.json", parsed); err != nil {
		return nil, err
	}
	return compiler.Compile("schema.json")
})

func validate(t *testing.T, value any) error {
	t.Helper()
	schema, err := compiledSchema()
	if err != nil {
		t.Fatal(err)
	}
	return schema.Validate(value)
}

// assertValid fails the test unless the line is one that the schema describes.
func assertValid(t *testing.T, line []byte) {
	t.Helper()
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
	if err == nil {
		err = validate(t, value)
	}
	if err != nil {
		t.Errorf("%v: %s", err, line)
	}
}

func TestSchemaAccepts(t *testing.T) {
	cfg := Config{
		Args:    []string{"prog", "\xff"},
		Limits:  cgroup.Limits{Memory: 1, Swap: 2, PIDs: 3, CPUs: 0.5, CPUWeight: 4, CPUSetCPUs: "0", CPUSetMems: "0", IO: []cgroup.IOLimit{{Major: 8, ReadBPS: 1, WriteBPS: 2, ReadIOPS: 3, WriteIOPS: 4}}},
		CPUTime: 1, WallTime: 2, Grace: 3, OutputLimit: 4, NoNetwork: true,
		Rlimits: []reexec.Rlimit{{Resource: 7, Soft: 1, Hard: ^uint64(0)}},
	}
	assertValid(t, UsageError(&cfg, errors.New("wrong")).JSON(false))
	for _, id := range []string{"7", `"7"`, "null"} {
		assertValid(t, bytes.Replace(Unstarted(&cfg).JSON(false), []byte("{"), []byte(`{"id":`+id+","), 1))
	}
	path := "/a"
	assertValid(t, (&Started{Type: "started", SchemaVersion: 1, PID: 1, Cgroup: &path, StartedAt: "2026-01-02T03:04:05.678901Z"}).JSON())
	assertValid(t, (&Sample{Type: "sample"}).JSON())
	assertValid(t, (&LimitReached{Type: "limit", Limit: "pids"}).JSON())
	assertValid(t, (&LimitReached{Type: "limit", Limit: "ulimit_cpu"}).JSON())
	assertValid(t, mustRun(t, Config{Args: []string{"/bin/true"}, Parent: newParent(t)}).JSON(false))
}

func TestSchemaRefuses(t *testing.T) {
	good := string(UsageError(&Config{}, errors.New("wrong")).JSON(false))
	for _, change := range [][2]string{
		{`"verdict":"error"`, `"verdict":"fine"`},
		{`"type":"result"`, `"id":["7"],"type":"result"`},
		{`"exit_code":null`, `"exit_code":"0"`},
		{`"exit_code":null,`, ``},
		{`"limits_hit":[]`, `"limits_hit":["luck"]`},
		{`"enforced":{}`, `"enforced":{"mem":"hope"}`},
		{`"type":"result"`, `"type":"sample"`},
		{`"wall_seconds":null`, `"wall_seconds":-1`},
	} {
		bad := strings.Replace(good, change[0], change[1], 1)
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(bad))
		if err != nil || bad == good {
			t.Fatalf("%q: %v", change, err)
		}
		if validate(t, value) == nil {
			t.Errorf("%s is accepted", change[1])
		}
	}
}
