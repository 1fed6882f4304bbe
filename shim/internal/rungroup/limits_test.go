package rungroup

import (
	"slices"
	"testing"

	"github.com/cgshim/cgshim/cgroup"
)

func TestHits(t *testing.T) {
	known := func(n uint64) cgroup.Figure { return cgroup.Figure{Value: n, Source: "file"} }
	all := cgroup.Limits{Memory: 1, MemoryHigh: 1, PIDs: 1, CPUs: 1}
	for name, test := range map[string]struct {
		limits cgroup.Limits
		stats  cgroup.Stats
		want   []string
		above  bool // the OOM was announced to the group above, too
	}{
		"none":              {all, cgroup.Stats{}, nil, false},
		"memory, reclaimed": {all, cgroup.Stats{MemoryHits: known(3)}, []string{"memory"}, false},
		"memory, killed":    {all, cgroup.Stats{OOMKills: known(1), OwnOOMKills: known(1)}, []string{"memory"}, false},
		"memory, above":     {all, cgroup.Stats{OOMKills: known(1), OwnOOMKills: known(1)}, nil, true},
		"memory, no limit":  {cgroup.Limits{}, cgroup.Stats{MemoryHits: known(3)}, nil, false},
		"high":              {all, cgroup.Stats{HighHits: known(1)}, []string{"mem_high"}, false},
		"high, unlimited":   {cgroup.Limits{MemoryHigh: cgroup.Unlimited}, cgroup.Stats{HighHits: known(1)}, nil, false},
		"high of a parent":  {cgroup.Limits{Memory: 1}, cgroup.Stats{HighHits: known(1)}, nil, false},
		"pids":              {all, cgroup.Stats{PIDsDenied: known(1)}, []string{"pids"}, false},
		"pids of a parent":  {cgroup.Limits{}, cgroup.Stats{PIDsDenied: known(1)}, nil, false},
		"cpus":              {all, cgroup.Stats{CPUThrottled: known(1)}, []string{"cpus"}, false},
	} {
		g := &Group{Host: new(cgroup.Host), Cgroup: new(cgroup.Group), Limits: test.limits}
		if g.OOM.own = !test.above; test.above {
			g.OOM.aboveCount = 1
		}
		if got := g.Hits(&test.stats); !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
		if foreign := g.ForeignOOM(&test.stats); (foreign != "") != test.above {
			t.Errorf("%s: warning %q", name, foreign)
		}
	}
}
