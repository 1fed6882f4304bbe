package shim

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// Once Stop has returned nothing is started any more, whatever was on its way then. Regression: what ran was told first, so
// that its thread was free for what waited, which had looked already, or was told later.
func TestPoolStop(t *testing.T) {
	parent := newParent(t)
	var ran, refused int
	rounds := 100
	if emulated() {
		rounds = 20
	}
	for round := range rounds {
		p, err := NewPool(PoolConfig{Jobs: 2, Parent: parent, Childless: true})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var mu sync.Mutex
		var results []*Result
		var callers sync.WaitGroup
		for i := range 4 {
			callers.Go(func() {
				cfg := Config{Args: []string{"/bin/true"}, BestEffort: round%4 == 0 && i == 0}
				for {
					res := p.Run(ctx, cfg)
					mu.Lock()
					results = append(results, res)
					mu.Unlock()
					if res.PID == nil {
						return
					}
				}
			})
		}
		done := func() int {
			mu.Lock()
			defer mu.Unlock()
			return len(results)
		}
		for done() < round%5 { // and a part of the next one
			time.Sleep(time.Duration(rand.IntN(500)) * time.Microsecond)
		}
		p.Stop()
		stopped := time.Now()
		callers.Wait()
		cancel()
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		for _, res := range results {
			if res.PID == nil {
				refused++
				if res.Verdict != Cancelled || res.Error == nil || res.Error.Step != "cancelled" || res.ExitStatus() != ExitFailed {
					t.Errorf("%s", res.JSON(false))
				}
				continue
			}
			ran++
			started, err := time.Parse(time.RFC3339Nano, *res.StartedAt)
			if err != nil || started.After(stopped) {
				t.Errorf("round %d: started %v after Stop, %v: %s", round, started.Sub(stopped), err, res.JSON(false))
			}
		}
	}
	if ran == 0 || refused != 4*rounds {
		t.Errorf("%d ran, %d did not", ran, refused)
	}
}

// What runs is cancelled, and what is asked for later is not even prepared.
func TestPoolStopCancels(t *testing.T) {
	p := newPool(t, PoolConfig{Jobs: 1})
	ready, wait := readiness(t)
	done := make(chan *Result, 1)
	if err := p.Go(context.Background(), &Job{Config: shell("", diesAtOnce, ready), Done: func(r *Result) { done <- r }}); err != nil {
		t.Fatal(err)
	}
	wait()
	p.Stop()
	p.Stop()
	if res := finished(t, done); res.Verdict != Cancelled || deref(res.Signal) != 15 {
		t.Errorf("%s", res.JSON(false))
	}
	late := &Job{Config: shell("", "exit 0"), Prepare: func(*Config) error { t.Error("prepared"); return nil }, Done: func(r *Result) { done <- r }}
	if err := p.Go(context.Background(), late); err != nil {
		t.Fatal(err)
	}
	if res := finished(t, done); res.Verdict != Cancelled || res.PID != nil {
		t.Errorf("%s", res.JSON(false))
	}
}

// A start that takes long holds up neither Stop nor other starts.
func TestGate(t *testing.T) {
	var g gate
	g.open()
	leave, err := g.pass(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	ended, endOf := context.WithCancel(context.Background())
	within, cancel := g.within(context.Background())
	defer cancel()
	endOf()
	if _, err := g.pass(ended); err == nil {
		t.Error("a run that was cancelled passes")
	}
	closed := make(chan struct{})
	go func() {
		g.close()
		close(closed)
	}()
	select {
	case <-closed:
		t.Error("closed while one passes")
	case <-time.After(50 * time.Millisecond):
	}
	leave()
	leave()
	<-closed
	if _, err := g.pass(context.Background()); err == nil {
		t.Error("one passes a gate that is shut")
	}
	<-within.Done()
	var none *gate
	if leave, err := none.pass(ended); err != nil {
		t.Error(err)
	} else {
		leave()
	}
}
