package rungroup

import (
	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/internal/limits"
)

// A NamedLimit is one limit by its name in the result's "enforced".
type NamedLimit struct {
	Name   string
	Limits cgroup.Limits
}

// LimitsByName takes the limits apart.
func LimitsByName(l *cgroup.Limits) []NamedLimit {
	var list []NamedLimit
	for i := range limits.All {
		limit := &limits.All[i]
		if limit.Only == nil {
			continue
		}
		if only, asked := limit.Only(l); asked {
			list = append(list, NamedLimit{limit.Enforced, only})
		}
	}
	return list
}

// Hits names the limits that were reached, as far as the cgroup's counters tell.
func (g *Group) Hits(s *cgroup.Stats) []string {
	oom := g.OwnOOM(s)
	var names []string
	for i := range limits.All {
		limit := &limits.All[i]
		if limit.Reached != nil && (limit.Reached(&g.Limits, s) || oom && limit.Enforced == "mem") {
			names = append(names, limit.Hits[0])
		}
	}
	return names
}
