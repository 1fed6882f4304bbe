package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/cgshim/cgshim/cmd/cgshim/internal/request/requesttest"
)

// allBytes has every byte but NUL, in one argument and in pieces.
func allBytes() []string {
	var all []byte
	var list []string
	for b := 1; b < 256; b++ {
		all = append(all, byte(b))
		list = append(list, string(all[len(all)-1:]))
	}
	return append(list, string(all), "", " ", " x ", "ä\xff", "\xed\xa0\x80\xed\xb3\xbf", "\ufffd", "😀", `\udcff`)
}

// What goes in as bytes comes out at the program as the same bytes, and the result tells them.
func TestBytesReachProgram(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{self}, allBytes()...)
	all := args[256]
	variable := "A= " + all + " "
	want := strings.Join(append(slices.Clone(args), variable[2:]), "\x00") + "\x00"
	check := func(name, stdout string, line []byte) {
		t.Helper()
		var r struct {
			Verdict string   `json:"verdict"`
			Argv    []string `json:"argv"`
			Bytes   [][]byte `json:"argv_base64"`
		}
		if err := json.Unmarshal(line, &r); err != nil || r.Verdict != "ok" || !utf8.Valid(line) {
			t.Fatalf("%s: %v: %.300q", name, err, line)
		}
		if stdout != want {
			t.Errorf("%s: the program got %q, want %q", name, stdout, want)
		}
		told := make([]string, len(r.Bytes))
		for i := range told {
			told[i] = string(r.Bytes[i])
		}
		if !slices.Equal(told, args) || len(r.Argv) != len(args) {
			t.Errorf("%s: the result has %q", name, told)
		}
	}
	out := invoke(t, slices.Concat([]string{"--fd", "3", "--parent", newParent(t), "--env", helperEnv + "=args", "--env", variable, "--"}, args)...)
	check("run", out.stdout, []byte(out.fd3))
	for name, write := range map[string]func(string) string{"raw": requesttest.Raw, "surrogateescape": requesttest.Python} {
		file := filepath.Join(t.TempDir(), "out \xff\ufffd ")
		line := fmt.Sprintf(`{"id":1,"argv":%s,"env":%s,"stdout":%s}`,
			jsonArray(write, args), jsonArray(write, []string{helperEnv + "=args", variable}), write(file))
		answer := askBatch(t, line)
		stdout, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
		}
		check(name, string(stdout), answer)
	}
}

// askBatch is the answer to a request.
func askBatch(t *testing.T, line string) []byte {
	t.Helper()
	cmd := command(t, "batch", "--jobs", "1", "--parent", newParent(t))
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(line+"\n"), &out, os.Stderr
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// The file that is named is the one that runs, and not one that is called U+FFFD.
func TestNameOfBytes(t *testing.T) {
	parent := newParent(t)
	dir := filepath.Join(t.TempDir(), "d\xfe")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, script := range map[string]string{"p\xff": "exit 7", "p\ufffd": "exit 8", "p?": "exit 9"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	exitCode := func(line []byte) int {
		var r struct {
			ExitCode *int `json:"exit_code"`
		}
		if err := json.Unmarshal(line, &r); err != nil || r.ExitCode == nil {
			t.Fatalf("%v: %s", err, line)
		}
		return *r.ExitCode
	}
	if out := invoke(t, "--fd", "3", "--parent", parent, "--chdir", dir, "./p\xff"); out.status != 7 {
		t.Errorf("%+v", out)
	}
	for name, write := range map[string]func(string) string{"raw": requesttest.Raw, "surrogateescape": requesttest.Python} {
		for program, want := range map[string]int{"./p\xff": 7, "./p\ufffd": 8} {
			line := fmt.Sprintf(`{"argv":[%s],"chdir":%s}`, write(program), write(dir))
			if got := exitCode(askBatch(t, line)); got != want {
				t.Errorf("%s: %q exits with %d, want %d", name, program, got, want)
			}
		}
	}
	answer := askBatch(t, fmt.Sprintf(`{"argv":["./nosuch\udcff"],"chdir":%s}`, requesttest.Python(dir)))
	if encoded := base64.StdEncoding.EncodeToString([]byte("./nosuch\xff")); !bytes.Contains(answer, []byte(encoded)) || !utf8.Valid(answer) || !bytes.Contains(answer, []byte(`nosuch\\xff`)) {
		t.Errorf("%s", answer)
	}
}

func jsonArray(write func(string) string, list []string) string {
	quoted := make([]string, len(list))
	for i, text := range list {
		quoted[i] = write(text)
	}
	return "[" + strings.Join(quoted, ",") + "]"
}
