package shim

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The programs of Examine's runs are in every binary that has this package: in a container there may be no other.
const selfTestEnv = "CGSHIM_SELF_TEST"

func init() {
	if name, ok := os.LookupEnv(selfTestEnv); ok && selfTests[name] != nil {
		selfTests[name]()
		os.Exit(0)
	}
}

var selfTests = map[string]func(){
	"exit":  func() {},
	"sleep": func() { time.Sleep(time.Hour) },
	"spin": func() {
		for deadline := time.Now().Add(time.Hour); time.Now().Before(deadline); {
		}
	},
	"eat": func() {
		for {
			block := make([]byte, 1<<20)
			for i := 0; i < len(block); i += os.Getpagesize() {
				block[i] = 1
			}
			eaten = append(eaten, block)
		}
	},
	// The runtime ends the process when a thread is refused.
	"threads": func() {
		for {
			go func() {
				runtime.LockOSThread()
				time.Sleep(time.Hour)
			}()
			time.Sleep(time.Millisecond)
		}
	},
}

var eaten [][]byte

// selfTestPatience bounds each of Examine's runs.
const selfTestPatience = 30 * time.Second

// run makes one of Examine's runs.
func (e *examiner) run(program string, change func(*Config)) *Result {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return SetupError(&e.cfg, "stage", err)
	}
	defer null.Close()
	cfg := Config{
		Args: []string{"/proc/self/exe"}, Env: []string{selfTestEnv + "=" + program}, Stdin: null, Stdout: null, Stderr: null,
		Manager: e.cfg.Manager, Parent: e.cfg.Parent, Nest: e.cfg.Nest, WallTime: selfTestPatience,
	}
	if self, err := os.Executable(); err == nil {
		cfg.Args[0] = self
	}
	if change != nil {
		change(&cfg)
	}
	return Run(e.ctx, cfg)
}

// selfTests sees that limits hold, and are told.
func (e *examiner) selfTests() {
	for _, test := range []struct {
		name, program string
		limit         func(*Config)
		holds         func(*Result) bool
	}{
		{
			"self-test-oom", "eat",
			func(cfg *Config) { cfg.Limits.Memory = 32 << 20 },
			func(r *Result) bool { return r.Verdict == MemoryLimit && r.OOMKills != nil && *r.OOMKills > 0 },
		},
		{
			"self-test-pids", "threads",
			func(cfg *Config) { cfg.Limits.PIDs = 20 },
			func(r *Result) bool { return r.PIDsDenied != nil && *r.PIDsDenied > 0 && r.Verdict != WallTimeLimit },
		},
		{
			"self-test-wall-time", "sleep",
			func(cfg *Config) { cfg.WallTime = 50 * time.Millisecond },
			func(r *Result) bool { return r.Verdict == WallTimeLimit },
		},
		{
			"self-test-cpu-time", "spin",
			func(cfg *Config) { cfg.CPUTime = 50 * time.Millisecond },
			func(r *Result) bool { return r.Verdict == CPUTimeLimit },
		},
	} {
		res := e.run(test.program, test.limit)
		if res.Error != nil {
			e.reject(test.name, res.Error.Message, res.Error.Hint)
			continue
		}
		e.judge(test.name, test.holds(res), "verdict "+string(res.Verdict), fmt.Sprintf("verdict %s, of a program that goes over its limit", res.Verdict))
	}
}

// tryNamespace starts a process in a namespace of its own.
func tryNamespace(flag uintptr) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self)
	cmd.Env = []string{selfTestEnv + "=exit"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flag}
	if flag == unix.CLONE_NEWUSER {
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	return cmd.Run()
}
