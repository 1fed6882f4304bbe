package shim

import (
	"fmt"
	"strconv"
	"strings"
)

// Error is the message: an ErrorInfo is an error. A Result's is nil if there was none: compare it before it becomes an error.
func (e *ErrorInfo) Error() string { return e.Message }

// Unwrap is the error that the run failed with; of several the first one. It is nil if the ErrorInfo was read from JSON.
func (e *ErrorInfo) Unwrap() error { return e.cause }

// String is the result on one line for people, such as "ok: exit status 0, wall 0.012 s, CPU 0.003 s, memory 1.2 MiB": the verdict,
// how the program ended, what it has used, which limits it has reached, and what went wrong. What is unknown is left out. The
// line may change; JSON is for programs.
func (r *Result) String() string {
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	switch {
	case r.ExitCode != nil:
		add("exit status %d", *r.ExitCode)
	case r.SignalName != nil:
		add("%s", *r.SignalName)
	case r.Signal != nil:
		add("signal %d", *r.Signal)
	}
	if r.WallSeconds != nil {
		add("wall %.3f s", *r.WallSeconds)
	}
	if r.CPUSeconds != nil {
		add("CPU %.3f s", *r.CPUSeconds)
	}
	if r.PeakMemoryBytes != nil {
		add("memory %s", binarySize(*r.PeakMemoryBytes))
	}
	if len(r.LimitsHit) > 0 {
		add("limits hit: %s", strings.Join(r.LimitsHit, " "))
	}
	if r.Error != nil {
		add("%s", r.Error.Message)
	}
	if len(r.Warnings) > 0 {
		add("warnings: %s", strings.Join(r.Warnings, "; "))
	}
	verdict := string(r.Verdict)
	if verdict == "" {
		verdict = "no verdict"
	}
	return strings.TrimSuffix(verdict+": "+strings.Join(parts, ", "), ": ")
}

// binarySize is a number of bytes in the largest unit in which it is at least 1.
func binarySize(n uint64) string {
	size, unit := float64(n), ""
	for _, larger := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if size < 1024 {
			break
		}
		size, unit = size/1024, larger
	}
	if unit == "" {
		return strconv.FormatUint(n, 10) + " bytes"
	}
	return strconv.FormatFloat(size, 'f', 1, 64) + " " + unit
}
