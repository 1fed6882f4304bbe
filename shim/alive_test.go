package shim

import (
	"context"
	"os"
	"testing"
	"time"
)

// The end of a file in Config.Alive cancels the run, before and while it runs.
func TestAlive(t *testing.T) {
	parent := newParent(t)
	pipe := func() (r, w *os.File) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close(); w.Close() })
		return r, w
	}
	// While it runs.
	r, w := pipe()
	ready, wait := readiness(t)
	cfg := shell(parent, endsCleanly, ready)
	cfg.Alive, cfg.StopTimeout = []*os.File{r}, time.Hour
	done := started(t, context.Background(), cfg, wait)
	w.Close()
	if res := finished(t, done); res.Verdict != Cancelled || deref(res.ExitCode) != 0 {
		t.Errorf("while it ran: %s", res.JSON(false))
	}
	// Before it runs.
	if res := Run(context.Background(), cfg); res.Verdict != Cancelled || res.PID != nil || res.Error.Step != "cancelled" {
		t.Errorf("before: %s", res.JSON(false))
	}
	// In a pool.
	p := newPool(t, PoolConfig{Jobs: 1, Parent: parent})
	r, w = pipe()
	ready, wait = readiness(t)
	cfg = shell(parent, endsCleanly, ready)
	cfg.Alive = []*os.File{r}
	pooled := make(chan *Result, 1)
	go func() { pooled <- poolRun(t, p, cfg) }()
	wait()
	w.Close()
	if res := finished(t, pooled); res.Verdict != Cancelled {
		t.Errorf("in a pool: %s", res.JSON(false))
	}
	// What makes no sense.
	r, w = pipe()
	for name, cfg := range map[string]Config{
		"the other end": {Alive: []*os.File{w}}, "nil": {Alive: []*os.File{nil}}, "too many": {Alive: []*os.File{r, r, r, r, r}},
		"one to keep": {Alive: []*os.File{r}, KeepFDs: []int{int(r.Fd())}},
	} {
		if cfg.Args = []string{"true"}; cfg.Validate() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
