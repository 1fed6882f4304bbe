package reexec

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// launchAndExit launches its arguments as a program and ends like it. It stands for a shim that was
// itself started under special conditions.
func launchAndExit() {
	runtime.LockOSThread()
	if os.Getenv("LEAK") != "" {
		if _, err := unix.FcntlInt(1, unix.F_DUPFD, 900); err != nil {
			fatalf("dup: %v", err)
		}
	}
	if v := os.Getenv("NOFILE"); v != "" {
		var limit unix.Rlimit
		if _, err := fmt.Sscan(v, &limit.Cur, &limit.Max); err != nil {
			fatalf("NOFILE: %v", err)
		}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			fatalf("setrlimit: %v", err)
		}
	}
	spec := &Spec{Args: os.Args[1:]}
	if v := os.Getenv("AS"); v != "" {
		uid, err := strconv.Atoi(v)
		if err != nil {
			fatalf("AS: %v", err)
		}
		spec.Credential = &Credential{UID: uint32(uid), GID: uint32(uid)}
	}
	program, err := launch(spec, helperJoin())
	if err != nil {
		fatalf("%v", err)
	}
	var status unix.WaitStatus
	for {
		if _, err := unix.Wait4(program.PID, &status, 0, nil); !errors.Is(err, unix.EINTR) {
			os.Exit(status.ExitStatus())
		}
	}
}

func launch(spec *Spec, join Join) (Program, error) {
	stage, err := Start(Options{})
	if err != nil {
		return Program{}, err
	}
	defer stage.Close()
	return stage.Launch(spec, join, Descriptors{})
}

// helperJoin is the Join for which the environment asks: see underShell and the tests of death.
func helperJoin() (join Join) {
	if os.Getenv("FALLBACK") != "" {
		fd, err := unix.Open("/dev/null", unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			fatalf("/dev/null: %v", err)
		}
		join = Join{Into: fd, Procs: fd, noInto: true}
	}
	if v := os.Getenv("TASKS"); v != "" {
		fd, err := strconv.Atoi(v)
		if err != nil {
			fatalf("TASKS: %v", err)
		}
		join.Tasks = []int{fd}
	}
	return join
}

// underShell launches a program from a helper that a shell has started, after the given commands.
func underShell(t *testing.T, join Join, commands string, program ...string) string {
	t.Helper()
	return underShellWith(t, nil, join, commands, program...)
}

func underShellWith(t *testing.T, env []string, join Join, commands string, program ...string) string {
	t.Helper()
	cmd := exec.Command("/bin/sh", append([]string{"-c", commands + `; exec "$0" "$@"`, self(t)}, program...)...)
	cmd.Env = append(append(os.Environ(), helper("launch")), env...)
	if join.noInto {
		cmd.Env = append(cmd.Env, "FALLBACK=1")
	}
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%q under %q: %v", program, commands, err)
	}
	return string(out)
}
