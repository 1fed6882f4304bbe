package main

import (
	"context"
	"io"
	"os"
	"runtime"

	"github.com/urfave/cli/v2"

	"github.com/cgshim/cgshim/cmd/cgshim/internal/deliver"
	"github.com/cgshim/cgshim/cmd/cgshim/internal/flags"
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
	traced := newTrace()
	defer traced.print()
	if given, program, ok := flags.ReadPlain(args); ok {
		if cfg, err := newConfig(given, program); err == nil {
			return runParsed(given, cfg, traced)
		}
	}
	status := 0
	app := &cli.App{
		Name:                      "cgshim",
		HideHelp:                  true, // because --help is one of the flags, with a category
		HideVersion:               true,
		CustomAppHelpTemplate:     runHelp,
		Flags:                     flags.Run(),
		DisableSliceFlagSeparator: true, // because --env A=1,2 is one variable
		ErrWriter:                 io.Discard,
		ExitErrHandler:            func(*cli.Context, error) {},
		OnUsageError:              func(_ *cli.Context, err error, _ bool) error { return err },
		Action: func(c *cli.Context) error {
			if c.Bool("help") {
				return cli.ShowAppHelp(c)
			}
			cfg, err := newConfig(c, c.Args().Slice())
			if err != nil {
				status = refuseCommandLine(args, cfg, err)
				return nil
			}
			status = runParsed(c, cfg, traced)
			return nil
		},
	}
	if err := app.Run(append([]string{"cgshim"}, args...)); err != nil {
		return refuseCommandLine(args, shim.Config{}, err)
	}
	return status
}

// newConfig makes the configuration of a run, and opens what tells of the caller.
func newConfig(v flags.Values, args []string) (shim.Config, error) {
	cfg, err := flags.NewConfig(v, args)
	if err == nil {
		cfg.Alive, err = callerFiles(v)
	}
	if err == nil && len(cfg.Alive) > 0 {
		err = cfg.Validate() // of files that the program is to keep
	}
	return cfg, err
}

// runParsed runs the program of a command line that is right.
func runParsed(v flags.Values, cfg shim.Config, traced *trace) int {
	traced.end("flags")
	if traced != nil {
		cfg.OnPhase = traced.end
	}
	d := newDelivery(flags.Read(v))
	d.Pretty, d.Events = v.Bool("pretty"), v.Bool("events")
	return d.Run(cfg, nil, supervised)
}

// refuseCommandLine says what is wrong with a command line, at the place for the result that it names.
func refuseCommandLine(args []string, cfg shim.Config, err error) int {
	flag := flags.Scan(args)
	d := newDelivery(flag)
	d.Pretty = flag.IsOn("pretty")
	return d.Run(cfg, err, supervised)
}

func newDelivery(flag flags.Reader) *deliver.Delivery {
	return &deliver.Delivery{Flag: flag, Lacking: checkRoom(leastDescriptors, leastTasks), Signals: signalsToOpen}
}

// signalsToOpen returns the channel of the caught signals, for a run that has files to open.
func signalsToOpen() (chan os.Signal, *deliver.StepError) {
	if err := signals.Err(); err != nil {
		return nil, &deliver.StepError{Step: "signals", Err: err}
	}
	return signalChannel(), nil
}

// supervised runs the program with the signals forwarded. SIGHUP and SIGINT stay ignored if the caller ignores them, for
// the program, too, because nohup and background jobs work that way. Go does not remember whether the caller ignores other
// signals, and the program gets their default actions.
func supervised(cfg shim.Config) *shim.Result {
	if cfg.Signals == nil {
		if err := signals.Err(); err != nil {
			return shim.SetupError(&cfg, "signals", err)
		}
		cfg.SignalSource = caughtSignals{}
	}
	cfg.ChildEvents = signals.Children
	// With one, no other thread could go on while this one waits in the kernel; with more than a few there are only more threads.
	if now := runtime.GOMAXPROCS(0); now < leastProcs || now > mostProcs { // because to set it stops the world
		runtime.GOMAXPROCS(min(max(now, leastProcs), mostProcs))
	}
	return shim.RunOnThread(context.Background(), cfg) // which has to be the process's first thread, see main.go
}

const leastProcs, mostProcs = 2, 4
