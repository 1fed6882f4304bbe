package shim

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/internal/limits"
	"github.com/cgshim/cgshim/internal/schematest"
	"github.com/cgshim/cgshim/reexec"
	"github.com/cgshim/cgshim/shim/internal/rungroup"
)

// allLimits asks for every limit that there is.
func allLimits() *Config {
	return &Config{
		Args: []string{"prog"},
		Limits: cgroup.Limits{
			Memory: 1, Swap: 2, MemoryHigh: 6, PIDs: 3, CPUs: 0.5, CPUWeight: 4, CPUShares: 5, CPUSetCPUs: "0", CPUSetMems: "0",
			IO: []cgroup.IOLimit{{Major: 8, ReadBPS: 1, WriteBPS: 2, ReadIOPS: 3, WriteIOPS: 4}},
		},
		CPUTime: 1, WallTime: 2, Grace: 3, OutputLimit: 4, NoNetwork: true,
		Shield: ShieldOn, FSReadOnly: []string{"/usr"}, FSReadWrite: []string{"/tmp"}, FSSystem: true,
		Rlimits: []reexec.Rlimit{{Resource: unix.RLIMIT_NOFILE, Soft: 1, Hard: unix.RLIM_INFINITY}},
	}
}

func limitNames(kind func(*limits.Limit) string) []string {
	return limits.Names(func(l *limits.Limit) []string { return []string{kind(l)} })
}

func sameNames(t *testing.T, where string, got, want []string) {
	t.Helper()
	for _, name := range want {
		if !slices.Contains(got, name) {
			t.Errorf("%s: no %s, which internal/limits has", where, name)
		}
	}
	for _, name := range got {
		if !slices.Contains(want, name) {
			t.Errorf("%s: %s, which internal/limits does not have", where, name)
		}
	}
}

// Every limit of the table is in the result by all of its names, and no other is.
func TestLimitNames(t *testing.T) {
	cfg := allLimits()
	for i := range limits.All {
		l := &limits.All[i]
		if l.Only == nil {
			continue
		}
		if only, asked := l.Only(&cfg.Limits); !asked || reflect.ValueOf(only).IsZero() {
			t.Errorf("--%s is asked for, and is %+v", l.Flag, only)
		}
		if only, asked := l.Only(&cgroup.Limits{}); asked {
			t.Errorf("--%s is not asked for, and is %+v", l.Flag, only)
		}
	}

	keys := limitNames(func(l *limits.Limit) string { return l.Key })
	var fields []string
	for _, f := range reflect.VisibleFields(reflect.TypeFor[RequestedLimits]()) {
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		fields = append(fields, key)
	}
	sameNames(t, "the keys of RequestedLimits", fields, keys)
	var written struct{ Limits map[string]any }
	if err := json.Unmarshal(newResult(cfg).JSON(false), &written); err != nil {
		t.Fatal(err)
	}
	sameNames(t, "limits of a result", slices.Collect(maps.Keys(written.Limits)), keys)

	report := newReport(cfg)
	report.noteEnforced()
	report.confined(nil)
	enforced := append(slices.Collect(maps.Keys(report.result.Enforced)), "cpu_time") // which is by timer, or else
	for _, limit := range rungroup.LimitsByName(&cfg.Limits) {
		enforced = append(enforced, limit.Name)
	}
	sameNames(t, "enforced of a result", enforced, limitNames(func(l *limits.Limit) string { return l.Enforced }))

	one := cgroup.Figure{Value: 1, Source: "file"}
	group := rungroup.Group{Host: new(cgroup.Host), Cgroup: new(cgroup.Group), Limits: cfg.Limits}
	hits := group.Hits(&cgroup.Stats{MemoryHits: one, SwapHits: one, HighHits: one, PIDsDenied: one, CPUThrottled: one})
	hits = slices.AppendSeq(slices.AppendSeq(hits, maps.Values(limitOf)), maps.Values(ulimitNames))
	sameNames(t, "limits_hit of a result", hits, limits.Names(func(l *limits.Limit) []string { return l.Hits }))
}

// The schema has them, too.
func TestSchemaLimitNames(t *testing.T) {
	defs := schematest.Defs(t, Schema)
	keys, _ := defs["limits"].Keys(t)
	sameNames(t, "the schema's limits", keys, limitNames(func(l *limits.Limit) string { return l.Key }))
	var top struct {
		Defs struct {
			Result struct {
				Properties struct {
					Enforced struct{ PropertyNames struct{ Enum []string } }
					Hits     struct{ Items struct{ Enum []string } } `json:"limits_hit"`
				}
			}
			Limit struct {
				Properties struct{ Limit struct{ Enum []string } }
			}
		} `json:"$defs"`
	}
	if err := json.Unmarshal([]byte(Schema), &top); err != nil {
		t.Fatal(err)
	}
	hits := limits.Names(func(l *limits.Limit) []string { return l.Hits })
	sameNames(t, "the schema's enforced", top.Defs.Result.Properties.Enforced.PropertyNames.Enum, limitNames(func(l *limits.Limit) string { return l.Enforced }))
	sameNames(t, "the schema's limits_hit", top.Defs.Result.Properties.Hits.Items.Enum, hits)
	sameNames(t, "the schema's event limit", top.Defs.Limit.Properties.Limit.Enum, hits)
}
