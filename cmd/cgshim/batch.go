package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cmd/cgshim/internal/deliver"
	"github.com/cgshim/cgshim/cmd/cgshim/internal/flags"
	"github.com/cgshim/cgshim/shim"
)

const (
	// slotDescriptors is how many a job takes at least; with more the pool is quicker.
	slotDescriptors = 24
	// slotTasks is how many threads and processes it takes: its thread, its stage, the thread that makes groups ahead, the program.
	slotTasks = 4
	// signalStatus plus the number of a signal is the exit status of a process that the signal has ended, as shells have it.
	signalStatus = 128
)

const (
	batchHelp = `Runs many programs. Each line of standard input is a request, which is a JSON object with argv and the flags of a run;
each line of standard output is the result of one, with its id.`
	managerUsage = "VALUE makes that parent: cgroupfs, systemd (a scope), or auto (default)"
	nestUsage    = "move whoever shares our cgroup into one below it, if the kernel wants that"
)

func batchFlags() []cli.Flag {
	return []cli.Flag{
		flags.NewText("", "jobs", "N", "run VALUE programs at a time (default: one for each CPU)"),
		flags.NewSwitch("", "pin", "give each of them cores of its own"),
		flags.NewSwitch("", "events", "write a line for each start, limit and sample, too"),
		flags.NewText("", "parent", "CGROUP", "create the cgroups of the runs below VALUE"),
		flags.NewText("", "manager", "WHO", managerUsage),
		flags.NewSwitch("", "nest", nestUsage),
		flags.NewText("", "alive-fd", "N", flags.AliveUsage),
		flags.NewSwitch("", "die-with-caller", flags.CallerUsage),
	}
}

// runBatch is "cgshim batch".
func runBatch(ctx *cli.Context) int {
	c, err := parseControl(ctx)
	if err == nil && len(c.names) > 0 {
		err = fmt.Errorf("batch %q: requests come on standard input", c.names[0])
	}
	if err != nil {
		return complainOf(err)
	}
	alive, err := callerFiles(c.caller)
	if err != nil {
		return complainOf(fmt.Errorf("batch: %w", err))
	}
	if err := deliver.CheckWritable(1); err != nil {
		return complainOf(fmt.Errorf("batch: standard output: %w", err))
	}
	jobs := uint64(c.jobs)
	if jobs == 0 {
		jobs = uint64(runtime.NumCPU())
	}
	if err := checkRoom(leastDescriptors+jobs*slotDescriptors, leastTasks+jobs*slotTasks); err != nil {
		return complainOf(fmt.Errorf("batch: %w", err))
	}
	signals := endingSignals()
	pool, err := shim.NewPool(c.poolConfig())
	if err != nil {
		e := shim.Explain(err)
		e.Message = "batch: " + e.Message
		_ = deliver.Complain(e)
		return shim.ExitFailed
	}
	stop, cancel := context.WithCancel(context.Background())
	defer cancel()
	end := func() {
		pool.Stop() // first, so that nothing is started any more
		cancel()
	}
	b, err := newBatch(stop, end, pool, c, alive)
	if err != nil {
		return complainOf(errors.Join(err, pool.Close()))
	}
	served := make(chan int, 1)
	go func() { served <- b.run(signals, alive, end) }()
	// This is the process's first thread, see main.go, which has nothing else to do.
	if err := pool.ReapOrphans(); err != nil {
		end()
		<-served
		return complainOf(fmt.Errorf("batch: %w", err))
	}
	return <-served
}

// run is serve, and what comes after it.
func (b *batch) run(signals <-chan os.Signal, alive []*os.File, end func()) (status int) {
	status = b.serve(signals, alive, end)
	if err := b.pool.Close(); err != nil {
		return complainOf(fmt.Errorf("batch: %w", err))
	}
	if err := b.out.Err(); err != nil {
		return complainOf(fmt.Errorf("batch: writing a result: %w", err))
	}
	return status
}

// poolConfig makes the configuration of the pool.
func (c *control) poolConfig() shim.PoolConfig {
	cfg := shim.PoolConfig{Jobs: c.jobs, Pin: c.pin, Manager: c.manager, Nest: c.nest, Childless: true}
	if len(c.parents) > 0 {
		cfg.Parent = c.parents[0]
	}
	return cfg
}

// endingSignals returns a channel of the signals that end a batch, unless the caller ignores them.
func endingSignals() <-chan os.Signal {
	signals := make(chan os.Signal, 1)
	for _, sig := range []os.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT} {
		if !signal.Ignored(sig) {
			signal.Notify(signals, sig)
		}
	}
	return signals
}

// newBatch makes a batch of standard input and output, and files whose end is the caller's. It is over when stop is done, which end sees to.
func newBatch(stop context.Context, end func(), pool *shim.Pool, c *control, alive []*os.File) (*batch, error) {
	taken := deliver.Channels{}.Add(0, "the batch's standard input, its requests").Add(1, "the batch's standard output, its answers")
	for _, file := range alive {
		taken = taken.Add(int(file.Fd()), "the batch's --alive-fd")
	}
	if err := taken.CheckFD(2); err != nil {
		return nil, fmt.Errorf("batch: standard error, which jobs have that do not name another: %w", err)
	}
	out, err := deliver.NewAnswers(1, end)
	if err != nil {
		return nil, fmt.Errorf("batch: %w", err)
	}
	context.AfterFunc(stop, out.Hurry)
	return &batch{
		pool: pool, out: out, events: c.events, taken: taken, quiet: isNull(2), stop: stop,
		queue: make(chan *job, batchAhead), active: map[string]*job{},
	}, nil
}

// serve answers requests until there are no more, or cgshim is told to stop, or one of the files in alive ends. It returns the exit
// status.
func (b *batch) serve(signals <-chan os.Signal, alive []*os.File, end func()) (status int) {
	wanted, unwatch := shim.WithAlive(context.Background(), alive)
	defer unwatch()
	unwanted := wanted.Done()
	read, finished := make(chan error, 1), make(chan struct{})
	go func() { read <- b.readAll(os.Stdin) }()
	go func() {
		defer close(finished)
		b.handAll()
		b.waiting.Wait()
	}()
	for {
		select {
		case <-finished:
			return status
		case err := <-read:
			close(b.queue)
			if err != nil {
				status = complainOf(fmt.Errorf("batch: reading requests: %w", err))
			}
		case sig := <-signals:
			status = signalStatus + int(sig.(unix.Signal))
			end() // readAll may be blocked in a read; it ends with the process
		case <-unwanted:
			unwanted = nil
			status = signalStatus + int(unix.SIGTERM)
			end()
		}
	}
}
