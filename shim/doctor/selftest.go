package doctor

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/shim"
)

// The programs of Examine's runs are in every binary that has this package: in a container there may be no other.
const selfTestEnv = "CGSHIM_SELF_TEST"

func init() {
	if name, ok := os.LookupEnv(selfTestEnv); ok && selfTest(name) {
		unix.Exit(0) // at once: os.Exit waits a second for the race detector
	}
}

// selfTest is such a program; false if there is none of that name. None of them goes on for ever, or takes all that there is: what
// they try may not work.
func selfTest(name string) bool {
	switch name {
	case "exit":
	case "sleep":
		time.Sleep(2 * selfTestPatience)
	case "spin":
		for deadline := time.Now().Add(2 * selfTestPatience); time.Now().Before(deadline); {
		}
	case "eat":
		block := make([]byte, 4*selfTestMemory)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		runtime.KeepAlive(block)
	case "threads":
		// The runtime ends the process when a thread is refused, after it has tried for a while.
		for range 4 * selfTestPIDs {
			go func() {
				runtime.LockOSThread()
				time.Sleep(2 * selfTestPatience)
			}()
			time.Sleep(time.Millisecond)
		}
		time.Sleep(selfTestPatience / 3)
	default:
		return false
	}
	return true
}

const (
	selfTestMemory = 32 << 20
	selfTestPIDs   = 20
)

// selfTestPatience bounds each of Examine's runs.
const selfTestPatience = 30 * time.Second

// run makes one of Examine's runs.
func (e *examiner) run(program string, change func(*shim.Config)) *shim.Result {
	if err := e.ctx.Err(); err != nil {
		return shim.SetupError(&e.cfg, "stage", err) // the report is for nobody
	}
	cfg := shim.Config{
		Args: []string{"/proc/self/exe"}, Env: []string{selfTestEnv + "=" + program},
		Manager: e.cfg.Manager, Parent: e.cfg.Parent, Nest: e.cfg.Nest, WallTime: selfTestPatience,
	}
	if self, err := os.Executable(); err == nil {
		cfg.Args[0] = self
	}
	if null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0); err == nil {
		defer null.Close()
		cfg.Stdin, cfg.Stdout, cfg.Stderr = null, null, null
	}
	if change != nil {
		change(&cfg)
	}
	return shim.Run(e.ctx, cfg)
}

// selfTests sees that limits hold, that it is told, and that nothing stays.
func (e *examiner) selfTests() {
	for _, test := range []struct {
		name, program string
		limit         func(*shim.Config)
		holds         func(*shim.Result) bool
	}{
		{
			"self-test-oom", "eat",
			func(cfg *shim.Config) { cfg.Limits.Memory = selfTestMemory },
			func(r *shim.Result) bool {
				peak, source := r.PeakMemoryBytes, r.Sources["peak_memory_bytes"]
				// A process that is being killed may go a little above the limit. What is sampled may be from long before.
				return r.Verdict == shim.MemoryLimit && (r.OOMKills == nil || positive(r.OOMKills)) &&
					(peak == nil || (*peak > selfTestMemory/2 || source == sampled) && *peak < 2*selfTestMemory)
			},
		},
		{
			"self-test-pids", "threads",
			func(cfg *shim.Config) { cfg.Limits.PIDs = selfTestPIDs },
			func(r *shim.Result) bool {
				return r.Verdict == shim.NonzeroExit && positive(r.PIDsDenied) && (r.PIDsPeak == nil || *r.PIDsPeak == selfTestPIDs)
			},
		},
		{
			"self-test-wall-time", "sleep",
			func(cfg *shim.Config) { cfg.WallTime = 50 * time.Millisecond },
			func(r *shim.Result) bool { return r.Verdict == shim.WallTimeLimit },
		},
		{
			"self-test-cpu-time", "spin",
			func(cfg *shim.Config) { cfg.CPUTime = 50 * time.Millisecond },
			func(r *shim.Result) bool { return r.Verdict == shim.CPUTimeLimit },
		},
	} {
		res := e.run(test.program, test.limit)
		if res.Error != nil {
			e.blame(test.name, res.Error)
			continue
		}
		found := told(res)
		if e.host.Exists(*res.Cgroup) {
			found += "; " + *res.Cgroup + " is still there"
		}
		e.judge(test.name, test.holds(res) && !e.host.Exists(*res.Cgroup), found, "a program went over its limit: "+found)
		if res.Verdict == shim.MemoryLimit {
			from := res.Sources["oom_kills"]
			e.judge("oom-kills", from != "", from+" tells how many processes were killed", "the kernel does not tell how many processes it has killed for a memory limit")
		}
	}
}

// sampled is in Result.Sources for what cgshim has looked at now and then.
const sampled = "sampled"

func positive(n *uint64) bool { return n != nil && *n > 0 }

// told is what a self-test looks at in a result.
func told(r *shim.Result) string {
	text := "verdict " + string(r.Verdict)
	for _, figure := range []struct {
		name  string
		value *uint64
	}{
		{"oom_kills", r.OOMKills}, {"peak_memory_bytes", r.PeakMemoryBytes}, {"pids_denied", r.PIDsDenied}, {"pids_peak", r.PIDsPeak},
	} {
		if positive(figure.value) {
			text += fmt.Sprintf(", %s %d", figure.name, *figure.value)
		}
	}
	return text
}

// tryUserNamespace starts a process in a user namespace of its own.
func tryUserNamespace() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self)
	cmd.Env = []string{selfTestEnv + "=exit"}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	return cmd.Run()
}
