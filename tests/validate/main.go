// Command validate holds lines that cgshim has written against its schema, and against what a schema can't
// say: that there is no key that the schema does not know, and that seconds have six digits.
//
// Usage: validate FILE…
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/cgshim/cgshim/shim"
)

func main() {
	lines, err := validate(os.Args[1:])
	if err == nil && lines == 0 {
		err = errors.New("no lines")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "validate:", err)
		os.Exit(1)
	}
	fmt.Println(lines, "lines are valid")
}

func validate(files []string) (lines int, err error) {
	v, err := newValidator()
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, name := range files {
		file, err := os.Open(name)
		if err != nil {
			return 0, err
		}
		scanner := bufio.NewScanner(file)
		scanner.Buffer(nil, 64<<20)
		for n := 1; scanner.Scan(); n++ {
			lines++
			if err := v.line(scanner.Bytes()); err != nil {
				errs = append(errs, fmt.Errorf("%s:%d: %w: %.2000s", name, n, err, scanner.Bytes()))
			}
		}
		errs = append(errs, scanner.Err())
		_ = file.Close()
	}
	return lines, errors.Join(errs...)
}

type validator struct {
	schema *jsonschema.Schema
	keys   map[string][]string // by the line's type
}

func newValidator() (*validator, error) {
	parsed, err := jsonschema.UnmarshalJSON(strings.NewReader(shim.Schema))
	if err != nil {
		return nil, err
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource("schema.json", parsed); err != nil {
		return nil, err
	}
	v := &validator{keys: map[string][]string{}}
	if v.schema, err = compiler.Compile("schema.json"); err != nil {
		return nil, err
	}
	var defs struct {
		Defs map[string]struct {
			Properties map[string]json.RawMessage `json:"properties"`
		} `json:"$defs"`
	}
	if err := json.Unmarshal([]byte(shim.Schema), &defs); err != nil {
		return nil, err
	}
	for name, def := range defs.Defs {
		for key := range def.Properties {
			v.keys[name] = append(v.keys[name], key)
		}
	}
	return v, nil
}

// secondsPattern finds seconds that are not decimals with six digits.
var secondsPattern = regexp.MustCompile(`"[a-z_]*_seconds":(?:[^-0-9n"]|[0-9]+(?:[^.0-9]|\.(?:[0-9]{0,5}|[0-9]{7,})[^0-9]))`)

func (v *validator) line(line []byte) error {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
	if err != nil {
		return err
	}
	if err := v.schema.Validate(value); err != nil {
		return err
	}
	object := value.(map[string]any)
	kind := object["type"].(string)
	if err := unknownKey(object, v.keys[kind]); err != nil {
		return err
	}
	if limits, ok := object["limits"].(map[string]any); ok {
		if err := unknownKey(limits, v.keys["limits"]); err != nil {
			return err
		}
	}
	if found := secondsPattern.Find(line); found != nil {
		return fmt.Errorf("seconds without six digits: %s", found)
	}
	return nil
}

func unknownKey(object map[string]any, known []string) error {
	for key := range object {
		if !slices.Contains(known, key) {
			return fmt.Errorf("the schema does not know the key %q", key)
		}
	}
	return nil
}
