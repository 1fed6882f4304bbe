package shim_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/shim"
)

// A program that would sleep for a minute, with half a second to do so.
func ExampleRun() {
	result := shim.Run(context.Background(), shim.Config{
		Args:     []string{"sleep", "60"},
		Limits:   cgroup.Limits{Memory: 64 << 20, PIDs: 5},
		WallTime: 500 * time.Millisecond,
	})
	if result.Error != nil { // no cgroup can be made here, for example
		fmt.Println(result.Error)
		return
	}
	fmt.Println(result.Verdict, *result.SignalName, result.LimitsHit)
	// Output: wall-time-limit SIGKILL [wall_time]
}

// capture has a run's standard output written to w. A program writes to a file descriptor, and so to a pipe.
func capture(ctx context.Context, cfg shim.Config, w io.Writer) (*shim.Result, error) {
	r, pipe, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	copied := make(chan error, 1)
	go func() {
		_, err := io.Copy(w, r)
		copied <- err
	}()
	cfg.Stdout = pipe
	result := shim.Run(ctx, cfg)
	pipe.Close() // the last end: everybody else who had one is dead
	return result, <-copied
}

// What a program prints, in a strings.Builder or any other io.Writer.
func ExampleRun_output() {
	var output strings.Builder
	result, err := capture(context.Background(), shim.Config{
		Args:        []string{"sh", "-c", "echo hello; echo world"},
		Limits:      cgroup.Limits{Memory: 64 << 20},
		OutputLimit: 1 << 20, // or who reads could be fed for ever
	}, &output)
	if err != nil || result.Error != nil {
		fmt.Println(err, result)
		return
	}
	fmt.Printf("%s: %q, %d bytes\n", result.Verdict, output.String(), *result.OutputBytes)
	// Output: ok: "hello\nworld\n", 12 bytes
}

// Four programs at a time, of a hundred.
func ExamplePool() {
	pool, err := shim.NewPool(shim.PoolConfig{Jobs: 4})
	if err != nil {
		fmt.Println(err)
		return
	}
	results := make(chan *shim.Result, 100)
	for range cap(results) {
		job := &shim.Job{
			Config: shim.Config{Args: []string{"true"}, Limits: cgroup.Limits{Memory: 64 << 20}},
			Done:   func(r *shim.Result) { results <- r },
		}
		if err := pool.Go(context.Background(), job); err != nil {
			fmt.Println(err)
			return
		}
	}
	if err := pool.Close(); err != nil { // returns when all of them are done
		fmt.Println(err)
		return
	}
	verdicts := map[shim.Verdict]int{}
	for range cap(results) {
		verdicts[(<-results).Verdict]++
	}
	fmt.Println(verdicts)
	// Output: map[ok:100]
}

// A Result prints on one line, by %v, and its Error is an error.
func ExampleResult() {
	result := shim.Run(context.Background(), shim.Config{Args: []string{"/no/such/program"}})
	fmt.Println(result.Error)
	fmt.Println("not there:", errors.Is(result.Error, fs.ErrNotExist))
	fmt.Println("status:", result.ExitStatus()) // as a shell has it
	// Output:
	// exec "/no/such/program": no such file or directory
	// not there: true
	// status: 127
}
