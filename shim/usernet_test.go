package shim

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// A library's caller without CAP_SYS_ADMIN: no network for a program, alone and in a pool, and no set-user-ID programs with that.
func TestNoNetworkUnprivileged(t *testing.T) {
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		t.Skip("requires setpriv")
	}
	parent := newParent(t)
	cmd := exec.Command(setpriv, append([]string{"--bounding-set=-sys_admin"}, self(t, parent, "no-network", parent).Args...)...)
	cmd.Env = append(os.Environ(), helperEnv+"=no-network")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(lines) != 5 {
		t.Fatalf("%q", out)
	}
	for i, line := range lines {
		var r struct {
			Verdict  Verdict
			Enforced map[string]string
			Warnings []string
			Error    *struct{ Step, Errno string }
		}
		assertValid(t, []byte(line+"\n"))
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		if r.Error != nil && r.Error.Errno == "EPERM" && r.Error.Step == "net" && exec.Command(setpriv, "--reuid", "65534", "unshare", "--user", "true").Run() != nil {
			t.Skip("requires user_namespaces")
		}
		switch {
		case i < 3 && (r.Verdict != OK || r.Enforced["net"] != ByNamespace):
			t.Errorf("without network: %s", line)
		case i == 3 && (r.Error == nil || r.Error.Step != "usage" || r.Error.Errno != "EPERM"):
			t.Errorf("with AllowNewPrivs: %s", line)
		case i == 4 && (r.Verdict != OK || r.Enforced["net"] != ByNothing || !strings.HasPrefix(r.Warnings[len(r.Warnings)-1], "net: ")):
			t.Errorf("with AllowNewPrivs and BestEffort: %s", line)
		}
	}
}

// withoutNetwork makes such runs, as root without that capability, who may make groups, and prints their results.
func withoutNetwork(args []string) {
	cfg := shell(args[0], `[ "$(wc -l </proc/net/dev)" = 3 ]`) // two lines of heading, and lo
	cfg.NoNetwork = true
	print := func(r *Result) { fmt.Print(string(r.JSON(false))) }
	print(Run(context.Background(), cfg))
	pool, err := NewPool(PoolConfig{Jobs: 1, Parent: args[0]})
	if err != nil {
		panic(err)
	}
	for range 2 {
		print(pool.Run(context.Background(), cfg))
	}
	if err := pool.Close(); err != nil {
		panic(err)
	}
	cfg.AllowNewPrivs = true
	print(Run(context.Background(), cfg))
	cfg.BestEffort, cfg.Args = true, []string{"/bin/true"}
	print(Run(context.Background(), cfg))
}
