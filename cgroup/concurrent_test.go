package cgroup

import (
	"context"
	"fmt"
	"sync"
	"testing"
)

// inParallel runs n calls at once, and returns when all have returned.
func inParallel(n int, call func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { call(i) })
	}
	wg.Wait()
}

func TestConcurrentUse(t *testing.T) {
	h := testHost(t)
	g := create(t, h, testPath(t))
	p := startIn(t, g, "wait")
	inParallel(8, func(i int) {
		for range 25 {
			if i%4 == 0 {
				if err := g.Set(Limits{Memory: int64(64+i) << 20, PIDs: int64(64 + i)}); err != nil {
					t.Error(err)
				}
			}
			if s, err := g.Stats(); err != nil || s.PIDsCurrent.Value == 0 {
				t.Errorf("Stats() = %+v, %v", s, err)
			}
			if pids, err := g.Procs(); err != nil || len(pids) != 1 {
				t.Errorf("Procs() = %v, %v", pids, err)
			}
			if alive, err := g.Populated(); err != nil || !alive {
				t.Errorf("Populated() = %v, %v", alive, err)
			}
		}
	})
	p.finish()
}

// A time limit may fire while a user kills the group: both succeed, and neither waits for a state that the
// other one's freezing and thawing has ended.
func TestConcurrentKill(t *testing.T) {
	for name, newGroup := range killers(t) {
		t.Run(name, func(t *testing.T) {
			for range 5 {
				g := newGroup(t)
				programs := []*program{startIn(t, g, "wait"), startIn(t, g, "wait")}
				ctx, cancel := context.WithTimeout(context.Background(), patience/3)
				inParallel(4, func(int) {
					if err := g.Kill(ctx); err != nil {
						t.Error(err)
					}
				})
				if ctx.Err() != nil {
					t.Error("Kill waited until its time was over")
				}
				cancel()
				for _, p := range programs {
					p.mustBeKilled()
				}
				if t.Failed() {
					return // each may take as long as the time limit
				}
			}
		})
	}
}

// While one removes the group, others still read it. They see its figures or, when it is gone, none; the
// moment in between, when the kernel says ENODEV, is neither an error.
func TestConcurrentRemove(t *testing.T) {
	h := testHost(t)
	path := testPath(t)
	for range 50 {
		g := create(t, h, path)
		inParallel(8, func(i int) {
			if i < 2 {
				if err := g.Remove(); err != nil {
					t.Error(err)
				}
				return
			}
			for range 10 {
				if _, err := g.Stats(); err != nil {
					t.Error("Stats:", err)
				}
				if pids, err := g.Procs(); err != nil || len(pids) > 0 {
					t.Errorf("Procs() = %v, %v", pids, err)
				}
				if alive, err := g.Populated(); err != nil || alive {
					t.Errorf("Populated() = %v, %v", alive, err)
				}
			}
		})
	}
}

// The parents that all runs share are made by the first, and removed by whoever is the last for the
// moment: between one call and the next they vanish and come back.
func TestConcurrentCreate(t *testing.T) {
	h := testHost(t)
	top := testPath(t)
	inParallel(8, func(i int) {
		for j := range 20 {
			g, err := h.Create(fmt.Sprintf("%s/shared/run-%d-%d", top, i, j), Options{})
			if err != nil {
				t.Error("Create:", err)
				return
			}
			if err := g.Set(Limits{Memory: 16 << 20, PIDs: 8, CPUs: 1}); err != nil {
				t.Error("Set:", err)
			}
			if err := g.Remove(); err != nil {
				t.Error("Remove:", err)
			}
		}
	})
	if left := where(h, top); len(left) > 0 {
		t.Errorf("the shared parent is still in %q", left)
	}
}

// Of those who create the same group at once, one succeeds.
func TestConcurrentCreateSame(t *testing.T) {
	h := testHost(t)
	path := testPath(t)
	var mu sync.Mutex
	for range 20 {
		var made []*Group
		inParallel(4, func(int) {
			if g, err := h.Create(path+"/run", Options{}); err == nil {
				mu.Lock()
				made = append(made, g)
				mu.Unlock()
			}
		})
		if len(made) != 1 {
			t.Errorf("%d have created the one group", len(made))
		}
		for _, g := range made {
			if err := g.Remove(); err != nil {
				t.Error(err)
			}
		}
	}
}
