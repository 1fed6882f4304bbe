package shim

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/cgshim/cgshim/internal/schematest"
)

// Keys and their order, nullable or not, types: the schema says what the Go types say. The other packages' types have tests there.
func TestSchemaFitsTypes(t *testing.T) {
	for name, value := range map[string]any{
		"result": Result{}, "started": Started{}, "sample": Sample{}, "limit": LimitReached{},
		"limits": RequestedLimits{}, "ulimit": RequestedRlimit{}, "error": ErrorInfo{},
	} {
		var before []string
		if slices.Contains([]string{"result", "started", "sample", "limit"}, name) {
			before = []string{"id"} // which "cgshim batch" puts in front
		}
		schematest.AssertFits(t, Schema, name, value, before...)
	}
}

// The words of each list are the constants of the package.
func TestSchemaEnums(t *testing.T) {
	_, nodes := schematest.Defs(t, Schema)["result"].Keys(t)
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
	var additional schematest.Node
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

func assertValid(t *testing.T, line []byte) {
	t.Helper()
	schematest.AssertValid(t, Schema, line)
}

func TestSchemaAccepts(t *testing.T) {
	cfg := *allLimits()
	cfg.Args = []string{"prog", "\xff"}
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
		if schematest.Validate(t, Schema, value) == nil {
			t.Errorf("%s is accepted", change[1])
		}
	}
}
