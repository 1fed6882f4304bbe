package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/cgshim/cgshim/shim"
)

const runHelp = `Usage: cgshim [flags] [--] PROG [ARG...]
       cgshim help | version

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

Exit status: the program's own; 128+N if signal N ended it; 125 if cgshim failed,
126 if the program could not be executed, 127 if it was not found.
`

// runCommand parses the flags, runs the program, and delivers the result: exactly one, whatever happens.
func runCommand(args []string) int {
	status := 0
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
			cfg, err := newConfig(c)
			status = deliverRun(args, c.Bool("pretty"), cfg, err)
			return nil
		},
	}
	if err := app.Run(append([]string{"cgshim"}, args...)); err != nil {
		return deliverRun(args, slices.Contains(args, "--pretty"), shim.Config{}, err)
	}
	return status
}

// deliverRun opens the place for the result before anything is created, runs, and writes it.
func deliverRun(args []string, pretty bool, cfg shim.Config, usageErr error) int {
	out, err := openSink(args)
	if usageErr == nil {
		usageErr = err
	}
	var result *shim.Result
	if usageErr != nil {
		result = shim.FailedResult(&cfg, "usage", usageMessage(usageErr), "cgshim --help lists the flags")
	} else {
		result = supervised(cfg)
	}
	if !out.isStderr() && result.Error != nil {
		complain(result.Error)
	}
	line := result.JSON(pretty)
	if err := out.write(line); err != nil {
		// Better there than lost.
		fmt.Fprintf(os.Stderr, "cgshim: error: %v\n", err)
		if !out.isStderr() {
			_, _ = os.Stderr.Write(line)
		}
		return shim.ExitFailed
	}
	return result.ExitStatus()
}

// supervised runs with the signals forwarded. One that the caller ignores stays ignored, for the
// program too: that is how nohup works.
func supervised(cfg shim.Config) *shim.Result {
	wanted := slices.DeleteFunc(shim.ForwardedSignals(), signal.Ignored)
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, wanted...)
	cfg.Signals = signals
	return shim.Run(context.Background(), cfg)
}

func usageMessage(err error) string {
	if errors.Is(err, shim.ErrConfig) {
		err = errors.Unwrap(err)
	}
	return err.Error()
}

func complain(e *shim.ErrorInfo) {
	fmt.Fprintf(os.Stderr, "cgshim: error: %s\n", e.Message)
	if e.Hint != nil {
		fmt.Fprintf(os.Stderr, "cgshim: hint: %s\n", *e.Hint)
	}
}
