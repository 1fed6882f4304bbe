// Command validate holds lines that cgshim has written against its schema, and against what a schema can't
// say: that there is no key that the schema does not know, that they have its order, and that seconds have six digits.
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
	keys   map[string][]string // by the line's type, in their order
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
			Properties json.RawMessage `json:"properties"`
		} `json:"$defs"`
	}
	if err := json.Unmarshal([]byte(shim.Schema), &defs); err != nil {
		return nil, err
	}
	for name, def := range defs.Defs {
		if v.keys[name], err = keys(def.Properties); err != nil {
			return nil, err
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
	if err := inOrder(line, v.keys[kind]); err != nil {
		return err
	}
	if limits, ok := object["limits"].(map[string]any); ok {
		for key := range limits {
			if !slices.Contains(v.keys["limits"], key) {
				return fmt.Errorf("the schema does not know the limit %q", key)
			}
		}
	}
	if kind == "result" {
		if err := byHand(line); err != nil {
			return err
		}
	}
	if found := secondsPattern.Find(line); found != nil {
		return fmt.Errorf("seconds without six digits: %s", found)
	}
	return nil
}

// byHand fails if package shim writes a result otherwise than encoding/json does.
func byHand(line []byte) error {
	var result shim.Result
	if err := json.Unmarshal(line, &result); err != nil {
		return err
	}
	var want bytes.Buffer
	encoder := json.NewEncoder(&want)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(&result); err != nil {
		return err
	}
	if got := result.JSON(false); !bytes.Equal(got, want.Bytes()) {
		return fmt.Errorf("written as\n%s, want\n%s", got, want.Bytes())
	}
	return nil
}

// inOrder fails if the line has a key that is not among the known ones, or has it before another that precedes it there.
func inOrder(line []byte, known []string) error {
	have, err := keys(line)
	if err != nil {
		return err
	}
	for _, key := range have {
		n := slices.Index(known, key)
		if n < 0 {
			return fmt.Errorf("the schema does not know the key %q, or not there", key)
		}
		known = known[n+1:]
	}
	return nil
}

// keys are those of a JSON object, in their order; none if there is no object.
func keys(object []byte) (keys []string, err error) {
	decoder := json.NewDecoder(bytes.NewReader(object))
	if first, err := decoder.Token(); err != nil || first != json.Delim('{') {
		return nil, nil
	}
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		keys = append(keys, key.(string))
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, err
		}
	}
	return keys, nil
}
