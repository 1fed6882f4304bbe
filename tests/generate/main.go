// Command generate writes what is generated from the Go types and their comments: the JSON Schema, and the tables of keys in
// cgshim-result(5). With -check it writes nothing, and fails with a diff if it would.
//
// The comment of a field says in its first paragraph what the schema says of the key; the manual has the other paragraphs, too. The
// comment of a type says it in a paragraph that begins with "In JSON: ". In both, nil becomes null. What a Go type can't say, such as a
// minimum, is in the field's tag "jsonschema": see schema.go.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
)

// The files that are generated, as a whole or in part.
const (
	schemaFile = "shim/schema.json"
	manualFile = "docs/cgshim-result.5"
)

func main() {
	check := flag.Bool("check", false, "fail with a diff if a file is not what it would be")
	flag.Parse()
	if err := generate(*check); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func generate(check bool) error {
	s, err := parseSource("shim", "shim/doctor", "shim/runs")
	if err != nil {
		return err
	}
	schema, err := newSchema(s)
	if err != nil {
		return err
	}
	page, err := os.ReadFile(manualFile)
	if err != nil {
		return err
	}
	if page, err = manual(schema, page); err != nil {
		return err
	}
	stale := false
	for name, content := range map[string][]byte{schemaFile: schema.json(), manualFile: page} {
		switch now, err := os.ReadFile(name); {
		case err != nil:
			return err
		case bytes.Equal(now, content):
		case check:
			diff(name, content)
			stale = true
		default:
			if err := os.WriteFile(name, content, 0o644); err != nil {
				return err
			}
		}
	}
	if stale {
		return errors.New("the Go types and their comments say something else: make generate")
	}
	return nil
}

// diff prints how a file differs from what it should be.
func diff(name string, want []byte) {
	cmd := exec.Command("diff", "-u", "--label", name, "--label", name+" (generated)", name, "-")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(want), os.Stdout, os.Stderr
	_ = cmd.Run() // it fails if there is a difference
}
