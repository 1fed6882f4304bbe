package shim

import (
	"os"
	"testing"
	"time"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/shim/internal/seam"
)

// eventsOf runs, and returns the events and the result. OnEvent is called by Run's own goroutine: no lock. The Config's own
// is called as well.
func eventsOf(t *testing.T, cfg Config) ([]Event, *Result) {
	t.Helper()
	var events []Event
	also := cfg.OnEvent
	cfg.OnEvent = func(e Event) {
		assertValid(t, e.JSON())
		events = append(events, e)
		if also != nil {
			also(e)
		}
	}
	res := mustRun(t, cfg)
	return events, res
}

func TestEvents(t *testing.T) {
	cfg, release := held(t, newParent(t))
	cfg.Sample = 20 * time.Millisecond
	told := 0
	cfg.OnEvent = func(Event) {
		if told++; told == 10 { // however long that takes
			release()
		}
	}
	events, res := eventsOf(t, cfg)
	if len(events) < 10 {
		t.Fatalf("%d events: %s", len(events), res.JSON(false))
	}
	started, ok := events[0].(*Started)
	if !ok || started.PID != deref(res.PID) || deref(started.Cgroup) != deref(res.Cgroup) || started.StartedAt != deref(res.StartedAt) {
		t.Errorf("%s: %s", events[0].JSON(), res.JSON(false))
	}
	var last Seconds
	for _, e := range events[1:] {
		sample, ok := e.(*Sample)
		if !ok || sample.WallSeconds < last || sample.WallSeconds > *res.WallSeconds || sample.MemoryBytes == nil || *sample.CPUSeconds > *res.CPUSeconds {
			t.Errorf("%s: %s", e.JSON(), res.JSON(false))
			continue
		}
		last = sample.WallSeconds
	}
}

// Each limit is told once, and at most one ends the run.
func TestLimitEvents(t *testing.T) {
	parent := newParent(t)
	memory := self(t, parent, "eat")
	memory.Limits.Memory = 32 << 20
	wall := shell(parent, "sleep 1000")
	wall.WallTime = 300 * time.Millisecond
	grace := shell(parent, "trap : TERM; sleep 1000; sleep 1000")
	grace.WallTime, grace.Grace = 300*time.Millisecond, 200*time.Millisecond
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	output := shell(parent, "echo 12")
	output.Stdout, output.OutputLimit = null, 2
	for name, test := range map[string]struct {
		cfg  Config
		want map[string]bool
	}{
		"memory": {memory, map[string]bool{"memory": true}},
		"wall":   {wall, map[string]bool{"wall_time": true}},
		"grace":  {grace, map[string]bool{"wall_time": true}},
		"output": {output, map[string]bool{"output": true}},
	} {
		events, res := eventsOf(t, test.cfg)
		got := map[string]bool{}
		for _, e := range events {
			if limit, ok := e.(*LimitReached); ok {
				if _, twice := got[limit.Limit]; twice {
					t.Errorf("%s: %s twice", name, limit.Limit)
				}
				got[limit.Limit] = limit.EndsRun
			}
		}
		for limit, ends := range test.want {
			if told, ok := got[limit]; !ok || told != ends || len(got) != len(test.want) {
				t.Errorf("%s: %v, want %v: %s", name, got, test.want, res.JSON(false))
			}
		}
	}
}

// A kernel that does not keep the peak: it is sampled, and the result says so.
func TestSampledPeak(t *testing.T) {
	parent := newParent(t)
	withoutFiles(t, "memory.peak", "memory.max_usage_in_bytes", "memory.swap.peak")
	cfg := self(t, parent, "hold")
	res := mustRun(t, cfg)
	if res.Verdict != OK || res.Sources["peak_memory_bytes"] != sourceSampled || len(res.Warnings) != 1 || *res.PeakMemoryBytes < 64<<20 {
		t.Errorf("%s", res.JSON(false))
	}
	// Where the limit was reached, that is the peak: no sample need have seen it.
	cfg = self(t, parent, "eat")
	cfg.Limits.Memory = 32 << 20
	if res = mustRun(t, cfg); res.Verdict != MemoryLimit || *res.PeakMemoryBytes < 16<<20 || *res.PeakMemoryBytes > 33<<20 {
		t.Errorf("%s", res.JSON(false))
	}
	cfg = self(t, parent, "hold")
	cfg.Sample = time.Millisecond
	if events, res := eventsOf(t, cfg); res.Sources["peak_memory_bytes"] != sourceSampled || len(events) < 3 {
		t.Errorf("%d events, %s", len(events), res.JSON(false))
	}
}

// withoutFiles hides files of the kernel until the test ends.
func withoutFiles(t *testing.T, files ...string) {
	t.Helper()
	seam.Detect = func() (*cgroup.Host, error) {
		host, err := cgroup.Detect()
		if err != nil {
			return nil, err
		}
		return host.Without(files...), nil
	}
	t.Cleanup(func() { seam.Detect = cgroup.Detect })
}

// A kernel without cgroup.kill and the other younger files: everything is killed and removed all the same.
func TestOldKernel(t *testing.T) {
	parent := newParent(t)
	withoutFiles(t, "cgroup.kill", "cgroup.events", "pids.peak", "memory.oom.group", "cpu.pressure", "io.pressure", "memory.pressure", "memory.swap.events")
	for range 3 {
		res := mustRun(t, shell(parent, "setsid sleep 1000 & setsid sleep 1000 & exit 3"))
		if res.Verdict != NonzeroExit || deref(res.LeftoverKilled) != uint64(2) || res.Error != nil || res.PIDsPeak != nil || res.CPUSomePressure != nil {
			t.Errorf("%s", res.JSON(false))
		}
	}
	cfg := shell(parent, "sleep 0.3 & exit 4")
	cfg.WaitAll = true
	if res := mustRun(t, cfg); deref(res.ExitCode) != 4 || *res.WallSeconds < 0.3 || deref(res.LeftoverKilled) != uint64(0) {
		t.Errorf("%s", res.JSON(false))
	}
}
