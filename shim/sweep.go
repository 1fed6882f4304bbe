package shim

import (
	"context"
	"math/rand/v2"
	"path"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/shim/internal/ledger"
)

// sweepMost is how many groups a run looks at, of those beside its own; sweepRarely has it do so, where there are more,
// not each time: else a thousand runs at once would each list a thousand groups.
const (
	sweepMost   = 64
	sweepRarely = 16
)

// startSweep cleans up, once and while the program runs, after earlier runs whose owner is certainly dead. release ends it. A run
// that has left its group, by best effort, cleans up nowhere.
func (res *resources) startSweep() {
	if !res.swept && res.group.Cgroup != nil {
		res.swept = true
		res.laterLast(res.sweep())
	}
}

// sweep begins a sweep, and returns what ends it.
func (res *resources) sweep() (stop func()) {
	group := res.group.Cgroup
	parents := []string{path.Dir(group.Path())}
	switch {
	case res.place.Scoped():
		parents = res.place.Scopes(res.host)
	case parents[0] == "/" && !ledger.Automatic(group.Path()): // which is everybody's
		return func() {}
	}
	others := ledger.Others(group)
	if !res.place.Scoped() && (others == 0 || others > sweepMost && rand.IntN(others) >= sweepRarely) {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		// What could not be removed is tried again by the next run, or by runs.Sweep, which says why.
		var groups []ledger.Entry
		for _, parent := range parents[:min(len(parents), sweepMost)] {
			prefix := ""
			if parent == "/" {
				prefix = path.Base(DefaultParent) + "-"
			}
			list := ledger.Groups
			if others > sweepMost {
				list = func(host *cgroup.Host, parent, prefix string) ([]ledger.Entry, error) {
					return ledger.Some(host, parent, prefix, sweepMost)
				}
			}
			below, _ := list(res.host, parent, prefix)
			groups = append(groups, below...)
		}
		rand.Shuffle(len(groups), func(i, j int) { groups[i], groups[j] = groups[j], groups[i] })
		ledger.CleanAll(ctx, res.host, ledger.Stale(groups[:min(len(groups), sweepMost)]))
	}()
	return func() {
		cancel()
		<-done
	}
}
