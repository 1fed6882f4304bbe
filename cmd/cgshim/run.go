package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cmd/cgshim/internal/signals"
	"github.com/cgshim/cgshim/shim"
)

const runHelp = `Usage: cgshim [flags] [--] PROG [ARG...]
       cgshim batch [--jobs N] [--pin] [--events]   requests on stdin, results on stdout
       cgshim ps | stat NAME... | kill NAME... | freeze NAME... | thaw NAME... | gc
       cgshim doctor
       cgshim help | version | schema | completion SHELL

Runs PROG inside a cgroup that it joins before its first instruction, waits for
it and everything it started, and writes one JSON object with the exit status,
peak memory and CPU seconds. Everything after PROG belongs to PROG.

Examples:
  cgshim --mem 64M --pids 1 -- ./prog
  cgshim --mem 256M --wall-time 2s --fd 3 -- python3 main.py 3>result.json <in >out
{{range .VisibleFlagCategories}}
{{.Name}}:
{{range .Flags}}  {{.}}
{{end}}{{end}}
Sizes are binary: 64M = 64MiB = 67108864. Durations: 1.5s, 300ms, 2m; a bare
number is seconds.

Exit status: the program's own; 128+N if signal N ended it; 124 if that would be 0
but a limit ended the run, or it was cancelled; 125 if cgshim failed, 126 if the
program could not be executed, 127 if it was not found.
`

// runCommand parses the flags, runs the program, and delivers the result: exactly one, whatever happens.
func runCommand(args []string) int {
	status := 0
	traced := newTrace()
	defer traced.print()
	if given, program, ok := readPlain(args); ok {
		if cfg, err := newConfig(given, program); err == nil {
			return runParsed(given, cfg, traced)
		}
	}
	app := &cli.App{
		Name:                      "cgshim",
		HideHelp:                  true, // --help is in flags, with a category
		HideVersion:               true,
		CustomAppHelpTemplate:     runHelp,
		Flags:                     flags(),
		DisableSliceFlagSeparator: true, // --env A=1,2 is one variable
		ErrWriter:                 io.Discard,
		ExitErrHandler:            func(*cli.Context, error) {},
		OnUsageError:              func(_ *cli.Context, err error, _ bool) error { return err },
		Action: func(c *cli.Context) error {
			if c.Bool("help") {
				return cli.ShowAppHelp(c)
			}
			cfg, err := newConfig(c, c.Args().Slice())
			if err != nil {
				status = deliverRefusal(args, cfg, err)
				return nil
			}
			status = runParsed(c, cfg, traced)
			return nil
		},
	}
	if err := app.Run(append([]string{"cgshim"}, args...)); err != nil {
		return deliverRefusal(args, shim.Config{}, err)
	}
	return status
}

func runParsed(c flagValues, cfg shim.Config, traced *trace) int {
	d := delivery{flag: parsedFlags(c), pretty: c.Bool("pretty"), events: c.Bool("events"), traced: traced}
	traced.end("flags")
	return d.run(cfg, nil)
}

// deliverRefusal says what is wrong with a command line, at the place for the result that it names.
func deliverRefusal(args []string, cfg shim.Config, err error) int {
	flag := scanFlags(args)
	d := delivery{flag: flag, pretty: flag.isOn("pretty")}
	return d.run(cfg, err)
}

// A delivery is where the result goes, and how.
type delivery struct {
	flag   flagReader
	pretty bool
	events bool
	traced *trace
}

// run opens the place for the result before anything is created, runs, and writes it.
func (d *delivery) run(cfg shim.Config, usageErr error) int {
	out, failed := d.open(&cfg, usageErr)
	d.traced.end("files")
	if d.traced != nil {
		cfg.OnPhase = d.traced.end
	}
	var result *shim.Result
	switch {
	case failed != nil:
		result = failed
	case d.events:
		w := newEventWriter(out)
		cfg.OnEvent = w.write
		result = supervised(cfg)
		w.close()
	default:
		result = supervised(cfg)
	}
	return d.deliver(out, result)
}

// deliver writes the result, and returns the exit status.
func (d *delivery) deliver(out sink, result *shim.Result) int {
	line := result.JSON(d.pretty)
	// The program may have left us in the background of a terminal that stops who writes there (stty tostop).
	signal.Ignore(unix.SIGTTOU)
	// The result first: whatever is wrong with stderr must not cost it.
	if err := out.write(line); err != nil {
		if !out.isStderr() && complain(&shim.ErrorInfo{Message: err.Error()}) == nil {
			_ = stderr.write(line) // better there than lost
		}
		return shim.ExitFailed
	}
	d.traced.end("output")
	if !out.isStderr() && result.Error != nil {
		complain(result.Error)
	}
	return result.ExitStatus()
}

// open opens the place for the result, and, if nothing is wrong so far, the program's files: last, for it may create some.
// What is wrong is the result.
func (d *delivery) open(cfg *shim.Config, usageErr error) (out sink, failed *shim.Result) {
	o := &opener{flag: d.flag, wall: cfg.WallTime, ctx: context.Background()}
	files, sinks := *cfg, make(chan sink, 1)
	lacking := checkRoom(leastDescriptors, leastTasks)
	open := func() error {
		if path, given := d.flag("output"); given {
			o.at.Store(fmt.Sprintf("--output %q", path))
		}
		to, err := openSink(d.flag)
		sinks <- to
		switch {
		case usageErr != nil:
			return usageErr
		case err != nil:
			return err
		case slices.Contains(cfg.KeepFDs, to.fd) && to.path == "":
			return fmt.Errorf("--keep-fd %q: the result goes there, and the program could forge it", strconv.Itoa(to.fd))
		case lacking != nil:
			return lacking
		}
		o.taken = resultChannels(d.flag, to)
		if err := o.files(&files, 0); err != nil {
			return err
		}
		return o.taken.checkInherited(&files)
	}
	var err error
	if lacking == nil && o.needed() {
		if err = signals.Err(); err != nil {
			return stderr, shim.SetupError(cfg, "signals", err)
		}
		o.signals = signalChannel()
		cfg.Signals = o.signals
		err = o.do(open, func() {})
	} else {
		err = open()
	}
	select {
	case out = <-sinks:
	default: // that is what did not come to an end
		out = stderr
	}
	var room *roomError
	switch {
	case errors.As(err, &room):
		return out, shim.SetupError(cfg, room.step, room.err)
	case errors.Is(err, context.Canceled):
		return out, shim.Unstarted(cfg)
	case errors.Is(err, unix.ETIMEDOUT):
		return out, shim.SetupError(cfg, "open", err)
	case err != nil:
		return out, shim.UsageError(cfg, err)
	}
	cfg.Stdin, cfg.Stdout, cfg.Stderr = files.Stdin, files.Stdout, files.Stderr
	return out, nil
}

// supervised runs with the signals forwarded. SIGHUP and SIGINT that the caller ignores stay ignored, for
// the program too: that is how nohup and background jobs work. Of the others the Go runtime keeps no
// memory, and the program gets their default action.
func supervised(cfg shim.Config) *shim.Result {
	if cfg.Signals == nil {
		if err := signals.Err(); err != nil {
			return shim.SetupError(&cfg, "signals", err)
		}
		cfg.SignalSource = caughtSignals{}
	}
	// With one, nobody could go on while this thread waits in the kernel; each one more than a few only wants more threads.
	if now := runtime.GOMAXPROCS(0); now < leastProcs || now > mostProcs { // to set it stops the world
		runtime.GOMAXPROCS(min(max(now, leastProcs), mostProcs))
	}
	return shim.RunOnThread(context.Background(), cfg) // that is the process's first one, see main.go
}

const leastProcs, mostProcs = 2, 4

// complain tells a person on stderr; through the sink, because a write to os.Stderr when its reader is
// gone would end cgshim with SIGPIPE, and one when nobody reads would never return.
func complain(e *shim.ErrorInfo) error {
	text := "cgshim: error: " + brief(e.Message) + "\n"
	if e.Hint != nil {
		text += "cgshim: hint: " + brief(*e.Hint) + "\n"
	}
	return stderr.write([]byte(text))
}

// brief cuts a message that quotes something very long: nobody may read stderr before we have ended.
func brief(message string) string {
	const most = 4 << 10
	if len(message) <= most {
		return message
	}
	return strings.ToValidUTF8(message[:most], "") + "…"
}
