package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/signal"
	"strings"
	"text/tabwriter"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/shim"
	"github.com/cgshim/cgshim/shim/doctor"
)

// exitUnfit is the exit status of a doctor that has found something that can't work.
const exitUnfit = 1

// examine is "cgshim doctor".
func examine(args []string) int {
	c, err := parseControl("doctor", args, "json", "parent", "manager", "nest")
	if err == nil && (len(c.names) > 0 || len(c.parents) > 1) {
		err = fmt.Errorf("doctor %s: want --json, --parent CGROUP, --manager WHO, --nest, or nothing", strings.Join(args, " "))
	}
	if err != nil {
		return complainOf(err)
	}
	cfg := shim.Config{Manager: c.manager, Nest: c.nest}
	if len(c.parents) > 0 {
		cfg.Parent = c.parents[0]
	}
	// Ctrl-C is for a stage, too: without us and it nobody would be left to clean up.
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
	defer stop()
	report := doctor.Examine(ctx, cfg)
	if ctx.Err() != nil {
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

// diagnosis is a report for people.
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
