package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/signal"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cmd/cgshim/internal/flags"
	"github.com/cgshim/cgshim/shim"
	"github.com/cgshim/cgshim/shim/doctor"
)

// exitUnfit is the exit status if a check has failed.
const exitUnfit = 1

const doctorHelp = `Finds out what works here, by trying it, and prints a line for each check: ok, warn or fail. Below are shell commands
for those that are not ok. Exit status: 0 if nothing failed, 1 if something did.`

func doctorFlags() []cli.Flag {
	return []cli.Flag{
		flags.NewSwitch("", "json", "print one JSON object"),
		flags.NewText("", "parent", "CGROUP", "check whether runs can be created below VALUE"),
		flags.NewText("", "manager", "WHO", managerUsage),
		flags.NewSwitch("", "nest", nestUsage),
	}
}

// examine is "cgshim doctor".
func examine(ctx *cli.Context) int {
	c, err := parseControl(ctx)
	if err == nil && (len(c.names) > 0 || len(c.parents) > 1) {
		err = fmt.Errorf("doctor %s: want --json, --parent CGROUP, --manager WHO, --nest, or nothing", strings.Join(ctx.Args().Slice(), " "))
	}
	if err != nil {
		return complainOf(err)
	}
	cfg := shim.Config{Manager: c.manager, Nest: c.nest}
	if len(c.parents) > 0 {
		cfg.Parent = c.parents[0]
	}
	// Ctrl-C also ends a stage. Without the stage and cgshim, no process would be left to clean up.
	running, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
	defer stop()
	report := doctor.Examine(running, cfg)
	if running.Err() != nil {
		return complainOf(errors.New("doctor: told to stop"))
	}
	report.Version = version
	text := string(report.JSON())
	if !c.json {
		text = diagnosis(report)
	}
	if status := printOut(text); status != 0 {
		return status
	}
	if !report.OK {
		return exitUnfit
	}
	return 0
}

// diagnosis writes a report for people.
func diagnosis(report *doctor.Report) string {
	var out bytes.Buffer
	fmt.Fprintf(&out, "cgshim %s on Linux %s\n", report.Version, report.Kernel)
	table := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	for _, check := range report.Checks {
		fmt.Fprintf(table, "%s\t%s\t%s\n", check.Status, check.Name, check.Found)
	}
	_ = table.Flush() // to a buffer
	for _, check := range report.Checks {
		if check.Remedy != nil {
			fmt.Fprintf(&out, "\n%s: %s:\n  %s\n", check.Status, check.Name, strings.ReplaceAll(*check.Remedy, "\n", "\n  "))
		}
	}
	return out.String()
}
