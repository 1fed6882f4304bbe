package main

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
	"github.com/urfave/cli/v2"

	"github.com/cgshim/cgshim/shim"
	"github.com/cgshim/cgshim/shim/runs"
)

// listRuns is "cgshim ps".
func listRuns(ctx *cli.Context) int {
	c, err := parseControl(ctx)
	if err != nil {
		return complainOf(err)
	}
	if len(c.names) > 0 {
		return complainOf(fmt.Errorf("ps %q: takes no names; cgshim stat does", c.names[0]))
	}
	list, err := runs.List(c.parents...)
	if err != nil {
		return complainOf(err)
	}
	var out bytes.Buffer
	if c.json {
		for _, r := range list {
			out.Write(r.JSON())
		}
		return printOut(out.String())
	}
	table := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tPID\tSTATE\tELAPSED\tCPU\tMEM\tPEAK\tPIDS\tCOMMAND")
	for _, r := range list {
		fmt.Fprintln(table, strings.Join([]string{
			printable(r.Name), number(r.PID), r.State, elapsed(r.WallSeconds), elapsed(r.CPUSeconds),
			size(r.MemoryBytes), size(r.PeakMemoryBytes), number(r.PIDs), commandLine(r.Argv),
		}, "\t"))
	}
	_ = table.Flush() // to a buffer
	return printOut(out.String())
}

// printStat is "cgshim stat" for one run.
func printStat(c *control, r *runs.Running) error {
	if c.json {
		return printed(string(r.JSON()))
	}
	var out bytes.Buffer
	table := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	for _, line := range [][2]string{
		{"name", printable(r.Name)},
		{"cgroup", printable(r.Cgroup)},
		{"state", r.State},
		{"command", commandLine(r.Argv)},
		{"pid", number(r.PID)},
		{"cgshim pid", number(r.CgshimPID)},
		{"elapsed", elapsed(r.WallSeconds)},
		{"cpu", elapsed(r.CPUSeconds)},
		{"cpu user", elapsed(r.CPUUserSeconds)},
		{"cpu system", elapsed(r.CPUSystemSeconds)},
		{"cpu throttled", elapsed(r.CPUThrottledSeconds)},
		{"memory", size(r.MemoryBytes)},
		{"memory peak", size(r.PeakMemoryBytes)},
		{"memory anon", size(r.MemoryAnonBytes)},
		{"memory file", size(r.MemoryFileBytes)},
		{"memory kernel", size(r.MemoryKernelBytes)},
		{"swap", size(r.SwapBytes)},
		{"oom kills", number(r.OOMKills)},
		{"pids", number(r.PIDs)},
		{"pids peak", number(r.PIDsPeak)},
		{"pids denied", number(r.PIDsDenied)},
		{"io read", size(r.IOReadBytes)},
		{"io write", size(r.IOWriteBytes)},
	} {
		fmt.Fprintln(table, line[0]+"\t"+line[1])
	}
	_ = table.Flush() // to a buffer
	return printed(out.String())
}

const unknown = "-"

func number[N int | uint64](n *N) string {
	if n == nil {
		return unknown
	}
	return fmt.Sprint(*n)
}

// size writes a number of bytes in the units of the flags: 64MiB.
func size(n *uint64) string {
	if n == nil {
		return unknown
	}
	return units.BytesSize(float64(*n))
}

func elapsed(s *shim.Seconds) string {
	if s == nil {
		return unknown
	}
	round := time.Millisecond
	if *s > shim.Seconds(time.Minute.Seconds()) {
		round = time.Second
	}
	return time.Duration(math.Round(float64(*s) * 1e9)).Round(round).String()
}

func commandLine(argv []string) string {
	if len(argv) == 0 {
		return unknown
	}
	words := make([]string, len(argv))
	for i, word := range argv {
		words[i] = printable(word)
	}
	line := []rune(strings.Join(words, " "))
	if len(line) > mostCommand {
		return string(line[:mostCommand]) + "…"
	}
	return string(line)
}

// mostCommand is how many characters of a command line a table has, because a program can make its command line very long. JSON has
// all of them.
const mostCommand = 1000

// printable returns a word as it is, or quoted if a terminal could take it for a command. Programs choose their own names and
// arguments.
func printable(word string) string {
	quoted := strconv.Quote(word)
	if quoted == `"`+word+`"` && word != "" && !strings.ContainsAny(word, " ") {
		return word
	}
	return quoted
}
