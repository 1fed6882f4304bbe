package cgroup

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// v1Dir is a v1 group all of whose controllers are in one directory.
func v1Dir(dir string) *v1 {
	g := &v1{of: map[Controller]string{}, all: []string{dir}}
	for _, c := range allControllers {
		g.of[c] = dir
	}
	return g
}

func TestStatsV1(t *testing.T) {
	for _, test := range []struct {
		name  string
		files map[string]string
		want  Stats
	}{
		{"no files", nil, Stats{}},
		{"memory, Linux 6.18", map[string]string{
			"memory.usage_in_bytes":           "1048576\n",
			"memory.max_usage_in_bytes":       "67108864\n",
			"memory.memsw.max_usage_in_bytes": "70000000\n", // RAM and swap: tells neither
			"memory.failcnt":                  "31\n",
			"memory.oom_control":              "oom_kill_disable 0\nunder_oom 1\noom_kill 2\n",
		}, Stats{
			MemoryCurrent: Figure{1048576, "memory.usage_in_bytes"},
			MemoryPeak:    Figure{67108864, "memory.max_usage_in_bytes"},
			MemoryHits:    Figure{31, "memory.failcnt"},
			OOMKills:      Figure{2, "memory.oom_control"},
			OwnOOMKills:   Figure{2, "memory.oom_control"},
		}},
		// before Linux 4.13: neither of the other keys may be taken for it
		{"no oom_kill", map[string]string{"memory.oom_control": "oom_kill_disable 1\nunder_oom 1\n"}, Stats{}},
		{"cpu", map[string]string{
			"cpuacct.usage":      "1000000000\n",
			"cpuacct.usage_user": "300\n", // the proportion is 3 to 1
			"cpuacct.usage_sys":  "100\n",
			"cpuacct.stat":       "user 1\nsystem 1\n", // coarser; not to be used
			"cpu.stat":           "nr_periods 7\nnr_throttled 3\nthrottled_time 250000000\nnr_bursts 0\nburst_time 0\n",
		}, Stats{
			CPUUsage:     Figure{1e9, "cpuacct.usage"},
			CPUUser:      Figure{750e6, "cpuacct.usage_user"},
			CPUSystem:    Figure{250e6, "cpuacct.usage_sys"},
			CPUThrottled: Figure{250e6, "cpu.stat"},
		}},
		{"cpu before Linux 4.8", map[string]string{
			"cpuacct.usage": "400000000\n", "cpuacct.stat": "user 30\nsystem 10\n",
		}, Stats{
			CPUUsage:  Figure{400e6, "cpuacct.usage"},
			CPUUser:   Figure{300e6, "cpuacct.stat"},
			CPUSystem: Figure{100e6, "cpuacct.stat"},
		}},
		{"memory by kind", map[string]string{
			"memory.stat": "cache 1\nrss 2\nswap 3\ntotal_cache 10\ntotal_rss 20\ntotal_swap 30\n", "memory.kmem.usage_in_bytes": "40\n",
		}, Stats{
			MemoryAnon: Figure{20, "memory.stat"}, MemoryFile: Figure{10, "memory.stat"},
			SwapCurrent: Figure{30, "memory.stat"}, MemoryKernel: Figure{40, "memory.kmem.usage_in_bytes"},
		}},
		{"io", map[string]string{
			"blkio.throttle.io_service_bytes_recursive": "8:0 Read 100\n8:0 Write 20\n8:0 Sync 90\n8:0 Total 120\n8:16 Read 3\n8:16 Write 4\nTotal 127\n",
			"blkio.throttle.io_service_bytes":           "8:0 Read 1\n",
		}, Stats{
			IORead:  Figure{103, "blkio.throttle.io_service_bytes_recursive"},
			IOWrite: Figure{24, "blkio.throttle.io_service_bytes_recursive"},
		}},
		{"io before Linux 4.12", map[string]string{"blkio.throttle.io_service_bytes": "8:0 Read 7\n8:0 Write 0\nTotal 7\n"}, Stats{
			IORead: Figure{7, "blkio.throttle.io_service_bytes"}, // a 0 tells nothing
		}},
		// Nothing to scale to: 100 ticks are a second.
		{"only cpuacct.stat", map[string]string{"cpuacct.stat": "user 30\nsystem 100\n"}, Stats{
			CPUUser: Figure{300e6, "cpuacct.stat"}, CPUSystem: Figure{1e9, "cpuacct.stat"},
		}},
		{"pids", map[string]string{
			"pids.current": "2\n", "pids.peak": "11\n", "pids.max": "16\n", "pids.events": "max 5\n",
		}, Stats{
			PIDsCurrent: Figure{2, "pids.current"}, PIDsPeak: Figure{11, "pids.peak"}, PIDsDenied: Figure{5, "pids.events"},
		}},
		// memory.failcnt stays 0 when memsw has the same limit: its 0 tells nothing.
		{"zeros are known, but for failcnt", map[string]string{"memory.failcnt": "0\n", "pids.events": "max 0\n"}, Stats{
			PIDsDenied: Figure{0, "pids.events"},
		}},
		{"no numbers", map[string]string{
			"memory.usage_in_bytes": "max\n", "memory.max_usage_in_bytes": "-1\n", "memory.failcnt": "",
			"memory.oom_control": "oom_kill\noom_kill many\n", "cpuacct.usage": "1e9\n", "pids.peak": "18446744073709551616\n",
			"pids.events": "max\n",
		}, Stats{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var s Stats
			var r reader
			v1Dir(fakeDir(t, test.files)).stats(&s, &r, allParts)
			forgetSwaps(&s)
			if r.err != nil || s != test.want {
				t.Errorf("got  %+v, %v\nwant %+v", s, r.err, test.want)
			}
		})
	}
}

// forgetSwaps forgets what is known of this host, and not from the files.
func forgetSwaps(s *Stats) {
	if s.SwapPeak.Source == "/proc/swaps" {
		s.SwapPeak = Figure{}
	}
}

func TestStatsV2(t *testing.T) {
	for _, test := range []struct {
		name  string
		files map[string]string
		want  Stats
	}{
		{"no files", nil, Stats{}},
		{"memory", map[string]string{
			"memory.current": "1048576\n", "memory.peak": "67108864\n", "memory.swap.peak": "0\n",
			// "oom" is not "oom_kill", nor is "oom_group_kill"; "max" is.
			"memory.events": "low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\noom_group_kill 2\n",
			"memory.stat":   "anon 11\nfile 12\nkernel 13\nkernel_stack 1\n", "memory.swap.current": "4096\n",
		}, Stats{
			MemoryCurrent: Figure{1048576, "memory.current"},
			MemoryPeak:    Figure{67108864, "memory.peak"},
			MemoryAnon:    Figure{11, "memory.stat"},
			MemoryFile:    Figure{12, "memory.stat"},
			MemoryKernel:  Figure{13, "memory.stat"},
			SwapCurrent:   Figure{4096, "memory.swap.current"},
			SwapPeak:      Figure{0, "memory.swap.peak"},
			MemoryHits:    Figure{3, "memory.events"},
			HighHits:      Figure{2, "memory.events"},
			OOMKills:      Figure{3, "memory.events"},
			OwnOOMKills:   Figure{5, "memory.events"}, // before Linux 5.2
			AboveOOMKills: Figure{0, "memory.events"},
		}},
		{"swap peak before Linux 6.5, no swap allowed", map[string]string{"memory.current": "1\n", "memory.swap.max": "0\n"}, Stats{
			MemoryCurrent: Figure{1, "memory.current"}, SwapPeak: Figure{0, "memory.swap.max"},
		}},
		{"kernel memory before Linux 5.18", map[string]string{"memory.stat": "anon 1\nfile 2\nkernel_stack 3\n"}, Stats{
			MemoryAnon: Figure{1, "memory.stat"}, MemoryFile: Figure{2, "memory.stat"},
		}},
		{"io", map[string]string{
			"io.stat": "8:16 rbytes=1000 wbytes=200 rios=3 wios=4 dbytes=5 dios=6\n8:0 rbytes=30 wbytes=4\n259:1 \n",
		}, Stats{IORead: Figure{1030, "io.stat"}, IOWrite: Figure{204, "io.stat"}}},
		{"no io is a 0", map[string]string{"io.stat": ""}, Stats{IORead: Figure{0, "io.stat"}, IOWrite: Figure{0, "io.stat"}}},
		{"pressure", map[string]string{
			"cpu.pressure":    "some avg10=0.00 avg60=0.00 avg300=0.00 total=12\n", // no "full" before Linux 5.13
			"memory.pressure": "some avg10=1.00 avg60=0.00 avg300=0.00 total=3\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
			"io.pressure":     "full total\nsome total=x\n",
		}, Stats{
			CPUSome: Figure{12000, "cpu.pressure"}, MemorySome: Figure{3000, "memory.pressure"}, MemoryFull: Figure{0, "memory.pressure"},
		}},
		{"cpu with the controller", map[string]string{
			"cpu.stat": "usage_usec 1234567\nuser_usec 1000000\nsystem_usec 234567\nnr_periods 9\nnr_throttled 1\nthrottled_usec 42\n",
		}, Stats{
			CPUUsage: Figure{1234567000, "cpu.stat"}, CPUUser: Figure{1e9, "cpu.stat"},
			CPUSystem: Figure{234567000, "cpu.stat"}, CPUThrottled: Figure{42000, "cpu.stat"},
		}},
		{"cpu without the controller", map[string]string{"cpu.stat": "usage_usec 3\nuser_usec 2\nsystem_usec 1\n"}, Stats{
			CPUUsage: Figure{3000, "cpu.stat"}, CPUUser: Figure{2000, "cpu.stat"}, CPUSystem: Figure{1000, "cpu.stat"},
		}},
		{"pids", map[string]string{"pids.current": "1\n", "pids.peak": "1\n", "pids.max": "max\n", "pids.events": "max 12\n"}, Stats{
			PIDsCurrent: Figure{1, "pids.current"}, PIDsPeak: Figure{1, "pids.peak"}, PIDsDenied: Figure{12, "pids.events"},
		}},
		{"no numbers", map[string]string{
			"memory.current": "max\n", "memory.peak": "garbage\n", "memory.events": "oom_kill max\n", "cpu.stat": "usage_usec\n\x00\n", "pids.peak": "\n",
		}, Stats{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := &Group{h: &v2{dir: fakeDir(t, test.files)}}
			s, err := g.Stats()
			forgetSwaps(&s)
			if err != nil || s != test.want {
				t.Errorf("got  %+v, %v\nwant %+v", s, err, test.want)
			}
			// The short-cuts read the same.
			if s, err := g.Stats(PartOOM); err != nil || s.OOMKills != test.want.OOMKills {
				t.Errorf("OOM kills are %v, %v", s.OOMKills, err)
			}
			if s, err := g.Stats(PartCPUUsage); err != nil || s.CPUUsage != test.want.CPUUsage {
				t.Errorf("CPU usage is %v, %v", s.CPUUsage, err)
			}
		})
	}
}

// A file that is there and can't be read is an error, and not an unknown figure; the others are read.
func TestStatsUnreadable(t *testing.T) {
	files := map[string]string{"memory.peak/": "", "memory.max_usage_in_bytes/": "", "pids.current": "3\n"}
	for version, h := range map[string]hierarchy{"v1": v1Dir(fakeDir(t, files)), "v2": &v2{dir: fakeDir(t, files)}} {
		s, err := (&Group{h: h}).Stats()
		var typed *Error
		if !errors.Is(err, unix.EISDIR) || !errors.As(err, &typed) || typed.Op != "read" {
			t.Errorf("%s: error %v, want EISDIR", version, err)
		}
		if want := (Stats{PIDsCurrent: Figure{3, "pids.current"}}); s != want {
			t.Errorf("%s: got %+v, want %+v", version, s, want)
		}
	}
}

// A v1 group has only the figures of its own controllers.
func TestStatsV1Controllers(t *testing.T) {
	dir := fakeDir(t, map[string]string{"pids.current": "3\n", "memory.failcnt": "1\n", "cpuacct.usage": "1\n", "cpu.stat": "throttled_time 1\n"})
	var s Stats
	var r reader
	(&v1{of: map[Controller]string{PIDs: dir}}).stats(&s, &r, allParts)
	if want := (Stats{PIDsCurrent: Figure{3, "pids.current"}}); r.err != nil || s != want {
		t.Errorf("got %+v, %v, want %+v", s, r.err, want)
	}
}
