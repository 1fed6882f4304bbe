package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

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
			d := delivery{flag: parsedFlags(c), pretty: c.Bool("pretty"), events: c.Bool("events"), traced: traced}
			traced.end("flags")
			status = d.run(cfg, err)
			return nil
		},
	}
	if err := app.Run(append([]string{"cgshim"}, args...)); err != nil {
		scanned := scanFlags(args)
		_, pretty := scanned("pretty")
		d := delivery{flag: scanned, pretty: pretty}
		return d.run(shim.Config{}, err)
	}
	return status
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
	out, err := openSink(d.flag)
	if usageErr == nil {
		usageErr = err
	}
	if usageErr == nil && slices.Contains(cfg.KeepFDs, out.fd) && out.path == "" {
		usageErr = fmt.Errorf("--keep-fd %q: the result goes there, and the program could forge it", strconv.Itoa(out.fd))
	}
	taken := resultChannels(d.flag, out)
	if usageErr == nil {
		usageErr = openFiles(d.flag, &cfg, 0, taken) // last, for it may create some
	}
	if usageErr == nil {
		usageErr = taken.checkInherited(&cfg)
	}
	d.traced.end("files")
	if d.traced != nil {
		cfg.OnPhase = d.traced.end
	}
	var result *shim.Result
	switch {
	case usageErr != nil:
		result = shim.UsageError(&cfg, usageErr)
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

// openFiles opens what the program gets as its standard descriptors, none of which may be one of the channels. No signal
// handler is installed yet: waiting for the other end of a FIFO can be interrupted.
// With O_NONBLOCK it is not waited for.
func openFiles(flag flagReader, cfg *shim.Config, nonblock int, taken channels) error {
	const write = unix.O_WRONLY | unix.O_CREAT
	for _, f := range []struct {
		name  string
		flags int
		file  **os.File
	}{
		{"stdin", unix.O_RDONLY, &cfg.Stdin}, {"stdout", write, &cfg.Stdout}, {"stderr", write, &cfg.Stderr},
	} {
		path, given := flag(f.name)
		if !given {
			continue
		}
		fd, err := openFile(path, f.flags, nonblock, taken)
		if err != nil {
			return fmt.Errorf("--%s %q: %w", f.name, path, err)
		}
		*f.file = os.NewFile(uintptr(fd), path)
	}
	if cfg.Stdout != nil && cfg.Stderr != nil {
		out, outErr := cfg.Stdout.Stat()
		errs, errsErr := cfg.Stderr.Stat()
		if outErr == nil && errsErr == nil && os.SameFile(out, errs) {
			cfg.Stderr = cfg.Stdout // with a position of its own, each would overwrite the other
		}
	}
	return taken.checkKept(cfg.KeepFDs)
}

// openFile opens one, and empties it if it is to be written: after it is known to be no channel, which would lose what
// is in it.
func openFile(path string, flags, nonblock int, taken channels) (int, error) {
	// Not os.OpenFile, which makes a FIFO non-blocking: the program shares that flag.
	fd, err := unix.Open(path, flags|nonblock|unix.O_CLOEXEC|unix.O_NOCTTY, 0o666)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	regular, writes := st.Mode&unix.S_IFMT == unix.S_IFREG, flags&unix.O_ACCMODE != unix.O_RDONLY
	if err == nil && (writes || !regular) { // who reads a regular file takes nothing from anybody
		err = taken.check(&st)
	}
	if err == nil && writes && regular && st.Size > 0 {
		err = unix.Ftruncate(fd, 0)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	if nonblock != 0 { // the program shares that flag
		_ = unix.SetNonblock(fd, false)
	}
	return fd, nil
}

// supervised runs with the signals forwarded. SIGHUP and SIGINT that the caller ignores stay ignored, for
// the program too: that is how nohup and background jobs work. Of the others the Go runtime keeps no
// memory, and the program gets their default action.
func supervised(cfg shim.Config) *shim.Result {
	if err := checkRoom(leastDescriptors); err != nil {
		return shim.SetupError(&cfg, "descriptors", err)
	}
	signals, err := catchSignals()
	if err != nil {
		return shim.SetupError(&cfg, "signals", err)
	}
	cfg.Signals = signals
	if cfg.Limits.PIDs == 0 {
		reserveThreads()
	}
	return shim.Run(context.Background(), cfg)
}

// leastDescriptors is the least RLIMIT_NOFILE for a run: some twenty are used, and with fewer the Go runtime
// ends the process.
const leastDescriptors = 32

func checkRoom(least uint64) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err == nil && limit.Cur < least {
		return fmt.Errorf("the caller's resource limit nofile is %d, and this takes %d: %w", limit.Cur, least, unix.EMFILE)
	}
	return nil
}

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
