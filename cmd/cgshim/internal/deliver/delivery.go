// Package deliver takes results and events to the place that the caller has named, opens the files of runs, and keeps the programs from
// the results.
//
// The place is checked, and fixed, before anything is created or run; the result is written when everything is over. If it can't be
// written there, it goes to standard error, because that is better than to lose it. No write waits for a reader longer than some
// seconds, and none raises SIGPIPE.
//
// A Delivery is for one run: it opens the files, and writes the events and the result. A batch, which has one place for many results, has
// Answers for those, and an Opener for the files of each request.
package deliver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cmd/cgshim/internal/flags"
	"github.com/cgshim/cgshim/shim"
)

// A StepError is an error for which the caller's command line is not to blame. Step is the result's error.step.
type StepError struct {
	Step string
	Err  error
}

func (e *StepError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *StepError) Unwrap() error { return e.Err }

// A Delivery is the place for one run's result and events.
type Delivery struct {
	// Flag has --output and --fd, which name the place, and --stdin, --stdout and --stderr.
	Flag flags.Reader
	// Pretty and Events are the flags of the same names.
	Pretty, Events bool
	// Lacking, if not nil, is why nothing can be run.
	Lacking *StepError
	// Signals returns the channel of caught signals. It is only called if there are files to open, because the channel has a goroutine.
	Signals func() (chan os.Signal, *StepError)
}

// Run opens the place for the result and the files of cfg, calls run, writes the result, and returns the exit status. If refused is not
// nil, or anything else is wrong, it does not call run, and the result says why. It tells cfg.OnPhase when files and output are done.
func (d *Delivery) Run(cfg shim.Config, refused error, run func(shim.Config) *shim.Result) (status int) {
	done := cfg.OnPhase
	if done == nil {
		done = func(string) {}
	}
	out, result := d.open(&cfg, refused)
	done("files")
	switch {
	case result != nil:
	case d.Events:
		w := newEventWriter(out)
		cfg.OnEvent = w.write
		result = run(cfg)
		w.close()
	default:
		result = run(cfg)
	}
	return d.deliver(out, result, done)
}

// Refuse writes a result without running anything, and returns the exit status.
func (d *Delivery) Refuse(result *shim.Result) (status int) {
	out, _ := openSink(d.Flag) // which is stderr on error
	return d.deliver(out, result, func(string) {})
}

func (d *Delivery) deliver(out sink, result *shim.Result, done func(phase string)) (status int) {
	line := result.JSON(d.Pretty)
	// The program may have left us in the background of a terminal that stops background processes that write to it (stty tostop).
	signal.Ignore(unix.SIGTTOU)
	// The result comes first, so that trouble with stderr does not cost it.
	if err := out.write(line); err != nil {
		if !out.isStderr() && Complain(&shim.ErrorInfo{Message: err.Error()}) == nil {
			_ = stderr.write(line)
		}
		return shim.ExitFailed
	}
	done("output")
	if !out.isStderr() && result.Error != nil {
		_ = Complain(result.Error)
	}
	return result.ExitStatus()
}

// open opens the place for the result, and then, if nothing is wrong so far, the program's files: last, because that may create some.
// If anything is wrong, failed is the result.
func (d *Delivery) open(cfg *shim.Config, refused error) (out sink, failed *shim.Result) {
	o := &Opener{Flag: d.Flag, Wall: cfg.WallTime, Ctx: context.Background()}
	if o.Needed() && len(cfg.Alive) > 0 {
		ctx, unwatch := whileAlive(cfg.Alive)
		defer unwatch()
		o.Ctx = ctx
	}
	files, sinks := *cfg, make(chan sink, 1)
	open := func() error {
		if path, given := d.Flag("output"); given {
			o.at.Store(fmt.Sprintf("--output %q", path))
		}
		to, err := openSink(d.Flag)
		sinks <- to
		if err == nil {
			err = d.check(cfg, to)
		}
		if refused != nil {
			err = refused
		}
		if err != nil {
			return err
		}
		o.Taken = resultChannels(d.Flag, to)
		if err := o.files(&files, 0); err != nil {
			return err
		}
		return o.Taken.checkInherited(&files)
	}
	var err error
	if d.Lacking == nil && o.Needed() {
		var uncaught *StepError
		if o.signals, uncaught = d.Signals(); uncaught != nil {
			return stderr, shim.SetupError(cfg, uncaught.Step, uncaught.Err)
		}
		cfg.Signals = o.signals
		err = o.do(open, func() {})
	} else {
		err = open()
	}
	select {
	case out = <-sinks:
	default: // openSink has not returned
		out = stderr
	}
	if err != nil {
		return out, failure(cfg, err)
	}
	TakeFiles(cfg, &files)
	cfg.ResultFDs = []int{out.fd}
	return out, nil
}

// openingGrace is how long opening may go on after the caller has died. Mostly it takes microseconds, and then the result goes where it
// should, also if the caller had died before.
const openingGrace = 100 * time.Millisecond

// whileAlive returns a context that ends some time after one of the files, for who opens others.
func whileAlive(files []*os.File) (_ context.Context, stop func()) {
	wanted, unwatch := shim.WithAlive(context.Background(), files)
	ctx, cancel := context.WithCancel(context.Background())
	ignore := context.AfterFunc(wanted, func() { time.AfterFunc(openingGrace, cancel) })
	return ctx, func() {
		ignore()
		unwatch()
		cancel()
	}
}

// check returns an error if the program could forge the result, or if nothing can be run.
func (d *Delivery) check(cfg *shim.Config, out sink) error {
	if slices.Contains(cfg.KeepFDs, out.fd) && out.path == "" {
		return fmt.Errorf("--keep-fd %q: the result goes there, and the program could forge it", strconv.Itoa(out.fd))
	}
	for _, file := range cfg.Alive {
		if int(file.Fd()) == out.fd && out.path == "" {
			return fmt.Errorf("--alive-fd %q: the result goes there", strconv.Itoa(out.fd))
		}
	}
	if d.Lacking != nil {
		return d.Lacking
	}
	return nil
}

// failure makes the result of a run that was not started.
func failure(cfg *shim.Config, err error) *shim.Result {
	var step *StepError
	switch {
	case errors.As(err, &step):
		return shim.SetupError(cfg, step.Step, step.Err)
	case errors.Is(err, context.Canceled):
		return shim.Unstarted(cfg)
	case errors.Is(err, unix.ETIMEDOUT):
		return shim.SetupError(cfg, "open", err)
	}
	return shim.UsageError(cfg, err)
}
