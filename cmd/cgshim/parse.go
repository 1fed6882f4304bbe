package main

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"time"

	"github.com/docker/go-units"
	"github.com/urfave/cli/v2"

	"github.com/cgshim/cgshim/cgroup"
)

// A flagParser turns flags into values and keeps the first error. A flag that is not set is 0.
type flagParser struct {
	c   *cli.Context
	err error
}

// parseFlag parses a flag that is set, and puts flag and value in front of the error.
func parseFlag[T any](p *flagParser, name string, parse func(value string) (T, error)) T {
	var zero T
	if p.err != nil || !p.c.IsSet(name) {
		return zero
	}
	value := p.c.String(name)
	parsed, err := parse(value)
	if err != nil {
		p.err = fmt.Errorf("--%s %q: %w", name, value, err)
		return zero
	}
	return parsed
}

func (p *flagParser) size(name string) int64 {
	return parseFlag(p, name, func(value string) (int64, error) {
		n, err := parseSize(value)
		if err == nil && n == 0 {
			err = errNotPositive
		}
		return n, err
	})
}

func (p *flagParser) sizeOrZero(name string) int64 { return parseFlag(p, name, parseSize) }

func (p *flagParser) count(name string, least, most int64) int64 {
	return parseFlag(p, name, func(value string) (int64, error) {
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < least || n > most {
			return 0, fmt.Errorf("want a whole number from %d to %d", least, most)
		}
		return n, nil
	})
}

func (p *flagParser) cpus(name string) float64 {
	return parseFlag(p, name, func(value string) (float64, error) {
		n, err := strconv.ParseFloat(value, 64)
		if err != nil || !(n >= cgroup.MinCPUs && n <= cgroup.MaxCPUs) { // false for NaN too
			return 0, fmt.Errorf("want a number of CPUs from %v to %d, like 0.5", cgroup.MinCPUs, cgroup.MaxCPUs)
		}
		return n, nil
	})
}

func (p *flagParser) duration(name string) time.Duration {
	return parseFlag(p, name, func(value string) (time.Duration, error) {
		d, err := parseDuration(value)
		if err == nil && d == 0 {
			err = errNotPositive
		}
		return d, err
	})
}

// durationOrZero is negative for an explicit 0, which Config takes as "at once".
func (p *flagParser) durationOrZero(name string) time.Duration {
	return parseFlag(p, name, func(value string) (time.Duration, error) {
		d, err := parseDuration(value)
		if d == 0 {
			d = -1
		}
		return d, err
	})
}

var (
	errNotPositive = errors.New("must be more than zero")
	errSize        = errors.New("want a size like 64M, 1.5GiB, or a number of bytes")
	errDuration    = errors.New("want a duration like 1.5s, 300ms, 2m, or a number of seconds")
	errTooLarge    = errors.New("is too large")
)

// sizePattern is what RAMInBytes understands, less its surprises ("1 .5m", "+1", "0x1p3").
var sizePattern = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?([kKmMgGtTpP]([iI]?[bB])?|[bB])?$`)

// secondsPattern is a bare number: ParseFloat would take "1e3", "0x1p3", "Inf" and "NaN" for one too.
var secondsPattern = regexp.MustCompile(`^[0-9]*\.?[0-9]+$`)

// parseSize parses a binary size: 64M, 64m, 64MB and 64MiB are all 67108864.
func parseSize(value string) (int64, error) {
	if !sizePattern.MatchString(value) {
		return 0, errSize
	}
	n, err := units.RAMInBytes(value)
	if err != nil {
		return 0, errSize
	}
	// RAMInBytes converts from float64 without a look: beyond int64 the result is any number.
	if n < 0 || n > math.MaxInt64/2 || len(value) > 24 {
		return 0, errTooLarge
	}
	return n, nil
}

// parseDuration parses a Go duration, or a number of seconds. It is never negative.
func parseDuration(value string) (time.Duration, error) {
	d, err := time.ParseDuration(value)
	if err != nil {
		if !secondsPattern.MatchString(value) {
			return 0, errDuration
		}
		seconds, err := strconv.ParseFloat(value, 64)
		if err != nil || seconds > math.MaxInt64/1e9/2 {
			return 0, errTooLarge
		}
		d = time.Duration(seconds * 1e9)
	}
	if d < 0 {
		return 0, errors.New("must not be negative")
	}
	return d, nil
}
