package cgroup

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The test binary is its own helper program: with helperEnv set it is the program of that name in
// helper_test.go, and runs no tests.
func TestMain(m *testing.M) {
	if name := os.Getenv(helperEnv); name != "" {
		os.Exit(runHelper(name, os.Args[1:]))
	}
	flag.Parse()
	_, unwritable := writableHost()
	complete := flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.skip").Value.String() == "" && !testing.Short()
	if unwritable != nil {
		skipExamples(unwritable)
	}
	code := m.Run()
	if left := leftovers(fmt.Sprintf("cgshim-test-%d-", os.Getpid())); len(left) > 0 {
		fmt.Println("left behind:", strings.Join(left, " "))
		code = 1
	}
	if unused := unusedHelpers(); code == 0 && complete && unwritable == nil && len(unused) > 0 {
		fmt.Println("helpers that no test uses:", strings.Join(unused, " "))
		code = 1
	}
	os.Exit(code)
}

// skipExamples: an example can't skip itself, and it would fail where nobody may create a group.
func skipExamples(why error) {
	fmt.Println("examples skipped: requires writable cgroups:", why)
	pattern := "^Example"
	if asked := flag.Lookup("test.skip").Value.String(); asked != "" {
		pattern = "(" + asked + ")|" + pattern
	}
	if err := flag.Set("test.skip", pattern); err != nil {
		panic(err)
	}
}

// leftovers lists the directories at the top of any hierarchy whose name begins with prefix.
func leftovers(prefix string) []string {
	h, err := Detect()
	if err != nil {
		return nil
	}
	var left []string
	for _, mount := range mountPoints(h) {
		found, _ := filepath.Glob(filepath.Join(mount, prefix) + "*")
		left = append(left, found...)
	}
	return left
}
