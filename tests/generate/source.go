package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
)

// A source is what the Go files say.
type source struct {
	types  map[string]*goType // by package and name: "shim.Result"
	words  map[string][]word  // the string constants of each package, in their order
	counts map[string]string  // integer constants, by package and name
}

type goType struct {
	text   text
	fields []field
}

// A field is one that has a key.
type field struct {
	key      string
	optional bool
	typ      string // such as *shim.Seconds, map[string]uint64
	tag      []option
	text     text
}

// An option is a part of a field's tag "jsonschema".
type option struct{ name, value string }

// A text is a comment by paragraphs, each on one line.
type text []string

// A word is a string constant, with its name in Go and that of its type, if it has one.
type word struct {
	name, typ, value string
	text             text
}

func parseSource(dirs ...string) (*source, error) {
	s := &source{map[string]*goType{}, map[string][]word{}, map[string]string{}}
	structs := map[string]*ast.StructType{}
	for _, dir := range dirs {
		names, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
			if err != nil {
				return nil, err
			}
			s.addFile(file, structs)
		}
	}
	for name, typ := range structs {
		s.types[name].fields = s.fieldsOf(name, typ, structs)
	}
	return s, nil
}

func (s *source) addFile(file *ast.File, structs map[string]*ast.StructType) {
	pkg := file.Name.Name
	for _, decl := range file.Decls {
		group, ok := decl.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range group.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				if typ, ok := spec.Type.(*ast.StructType); ok {
					name := pkg + "." + spec.Name.Name
					structs[name] = typ
					s.types[name] = &goType{text: comment(spec.Doc, group.Doc)}
				}
			case *ast.ValueSpec:
				if group.Tok == token.CONST {
					s.addConstant(pkg, spec)
				}
			}
		}
	}
}

func (s *source) addConstant(pkg string, spec *ast.ValueSpec) {
	if len(spec.Values) != 1 {
		return
	}
	literal, ok := spec.Values[0].(*ast.BasicLit)
	if !ok {
		return
	}
	w := word{name: spec.Names[0].Name, text: comment(spec.Doc, spec.Comment)}
	if typ, ok := spec.Type.(*ast.Ident); ok {
		w.typ = pkg + "." + typ.Name
	}
	switch literal.Kind {
	case token.STRING:
		w.value, _ = strconv.Unquote(literal.Value)
		s.words[pkg] = append(s.words[pkg], w)
	case token.INT:
		s.counts[pkg+"."+w.name] = literal.Value
	}
}

// fieldsOf are the fields that have a key, with those of structs that are embedded.
func (s *source) fieldsOf(name string, typ *ast.StructType, structs map[string]*ast.StructType) []field {
	pkg, _, _ := strings.Cut(name, ".")
	var list []field
	for _, f := range typ.Fields.List {
		if len(f.Names) == 0 {
			embedded := typeName(pkg, f.Type)
			if inner, ok := structs[embedded]; ok {
				list = append(list, s.fieldsOf(embedded, inner, structs)...)
			}
			continue
		}
		if f.Tag == nil {
			continue
		}
		unquoted, _ := strconv.Unquote(f.Tag.Value)
		tag := reflect.StructTag(unquoted)
		key, rest, _ := strings.Cut(tag.Get("json"), ",")
		if key == "" || key == "-" {
			continue
		}
		list = append(list, field{key, rest == "omitempty", typeName(pkg, f.Type), options(tag.Get("jsonschema")), comment(f.Doc, f.Comment)})
	}
	return list
}

func options(tag string) []option {
	var list []option
	for part := range strings.SplitSeq(tag, ",") {
		if name, value, _ := strings.Cut(part, "="); name != "" {
			list = append(list, option{name, value})
		}
	}
	return list
}

// typeName is a type as it is written, with its package.
func typeName(pkg string, e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		if ast.IsExported(e.Name) {
			return pkg + "." + e.Name
		}
		return e.Name
	case *ast.SelectorExpr:
		return typeName("", e.X) + "." + e.Sel.Name
	case *ast.StarExpr:
		return "*" + typeName(pkg, e.X)
	case *ast.ArrayType:
		return "[]" + typeName(pkg, e.Elt)
	case *ast.MapType:
		return "map[" + typeName(pkg, e.Key) + "]" + typeName(pkg, e.Value)
	}
	return fmt.Sprintf("%T", e)
}

var nilWord = regexp.MustCompile(`\b[Nn]il\b`)

// comment is the first of the comments that there is.
func comment(groups ...*ast.CommentGroup) text {
	for _, group := range groups {
		if group == nil {
			continue
		}
		var t text
		for paragraph := range strings.SplitSeq(strings.TrimSpace(group.Text()), "\n\n") {
			paragraph = strings.Join(strings.Fields(paragraph), " ")
			t = append(t, nilWord.ReplaceAllStringFunc(paragraph, func(w string) string { return w[:1] + "ull" }))
		}
		if t[0] == "" {
			return t[1:]
		}
		return t
	}
	return nil
}

// inJSON is what a type's comment says of it in JSON.
func (t text) inJSON() string {
	for _, paragraph := range t {
		if rest, ok := strings.CutPrefix(paragraph, "In JSON: "); ok {
			return rest
		}
	}
	return ""
}

func (t text) first() string {
	if len(t) == 0 {
		return ""
	}
	return t[0]
}
