package main

import (
	"bytes"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cgshim/cgshim/cmd/cgshim/internal/flags"
	"github.com/cgshim/cgshim/shim"
)

// A subcommand is a word that, as the first argument, says what to do.
type subcommand struct {
	name    string
	aliases []string // flags that mean the same as the first argument; all arguments after one are ignored
	args    string   // its arguments, for the usage line
	about   string   // the help below the usage line
	flags   func() []cli.Flag
	run     func(*cli.Context) int // returns the exit status
	prints  bool                   // it only prints: it can't misuse the privileges that a copy of cgshim may have
}

// subcommands is the list of all subcommands. It stands here once: dispatch, help, completion and the refusal of privileged copies
// read it. It is static data, because a run should not wait until it is made.
var subcommands = []subcommand{
	{name: "run", args: "[--] PROG [ARG...]", flags: flags.Run},
	{name: "help", aliases: []string{"--help", "-h"}, args: "[COMMAND]", run: printHelp, prints: true, about: "Prints the help of cgshim, or of a command."},
	{name: "version", aliases: []string{"--version"}, run: printVersion, prints: true, about: "Prints the version."},
	{name: "schema", run: printSchema, prints: true, about: "Prints the JSON Schema of all JSON that cgshim writes."},
	{name: "completion", args: "SHELL", run: printCompletion, prints: true, about: completionHelp},
	{name: "doctor", flags: doctorFlags, run: examine, about: doctorHelp},
	{name: "ps", flags: listFlags, run: listRuns, about: "Lists the runs that are under way."},
	{name: "stat", args: "NAME...", flags: listFlags, run: statRuns, about: "Prints all figures of runs." + namesHelp},
	{name: "kill", args: "NAME...", flags: killFlags, run: killRuns, about: killHelp},
	{name: "freeze", args: "NAME...", flags: findFlags, run: freezeRuns, about: "Stops all processes of runs, until cgshim thaw." + namesHelp},
	{name: "thaw", args: "NAME...", flags: findFlags, run: thawRuns, about: "Lets the processes of frozen runs go on." + namesHelp},
	{name: "gc", flags: gcFlags, run: collectGarbage, about: gcHelp},
	{name: "batch", flags: batchFlags, run: runBatch, about: batchHelp},
}

// findSubcommand looks up a first argument. It returns nil if that is no subcommand.
func findSubcommand(word string) *subcommand {
	for i := range subcommands {
		if s := &subcommands[i]; s.name == word || slices.Contains(s.aliases, word) {
			return s
		}
	}
	return nil
}

const subcommandHelp = `Usage: cgshim {{.Name}}{{if gt (len .VisibleFlags) 1}} [flags]{{end}}{{if .ArgsUsage}} {{.ArgsUsage}}{{end}}

{{.Usage}}

Flags:
{{range .VisibleFlags}}  {{.}}
{{end}}`

// execute does what a subcommand does, or prints its help if the arguments ask for that. It returns the exit status.
func execute(name string, args []string) (status int) {
	var help bytes.Buffer
	app := &cli.App{
		Name: "cgshim", HideHelp: true, HideVersion: true, Writer: &help,
		ExitErrHandler: func(*cli.Context, error) {},
	}
	for _, s := range subcommands {
		app.Commands = append(app.Commands, s.command(func(c *cli.Context) error {
			if asksForHelp(c.Args().Slice(), c.Command.Flags) {
				status = helpOf(c, name)
			} else {
				status = s.run(c)
			}
			return nil
		}))
	}
	if err := app.Run(append([]string{"cgshim", name}, args...)); err != nil {
		return complainOf(err)
	}
	if help.Len() > 0 {
		return printOut(help.String())
	}
	return status
}

// command makes the library's command. Its flags are not parsed by the library, which would take flags after the first name for names,
// but by parseControl.
func (s *subcommand) command(action cli.ActionFunc) *cli.Command {
	var own []cli.Flag
	if s.flags != nil {
		own = s.flags()
	}
	if s.run != nil { // run has --help already
		own = append(own, flags.Help())
	}
	return &cli.Command{
		Name: s.name, ArgsUsage: s.args, Usage: s.about, Flags: own, Action: action,
		SkipFlagParsing: true, HideHelp: true, CustomHelpTemplate: subcommandHelp,
	}
}

// asksForHelp reports whether --help or -h is among the arguments of a subcommand, as a flag. It gives up at a flag that is unknown,
// because that may have a value.
func asksForHelp(args []string, list []cli.Flag) bool {
	for i := 0; i < len(args) && args[i] != "--"; i++ {
		if args[i] == "--help" || args[i] == "-h" {
			return true
		}
		if !strings.HasPrefix(args[i], "-") {
			continue
		}
		flag, _, hasValue := strings.Cut(args[i], "=")
		switch kind := lookUp(list, flag); {
		case kind == flags.Unknown:
			return false
		case kind != flags.Switch && !hasValue:
			i++ // its value
		}
	}
	return false
}

// printHelp is "cgshim help [COMMAND]".
func printHelp(c *cli.Context) int { return helpOf(c, c.Args().First()) }

// helpOf writes the help of a command to the library's writer, or prints that of cgshim if the command has none of its own.
func helpOf(c *cli.Context, name string) int {
	if name == "run" || name == "help" || c.App.Command(name) == nil {
		return runCommand([]string{"--help"})
	}
	if err := cli.ShowCommandHelp(c, name); err != nil {
		return complainOf(err)
	}
	return 0
}

// printVersion is "cgshim version".
func printVersion(*cli.Context) int { return printOut("cgshim " + version + "\n") }

// printSchema is "cgshim schema".
func printSchema(*cli.Context) int { return printOut(shim.Schema) }
