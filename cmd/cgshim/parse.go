package main

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/reexec"
	"github.com/cgshim/cgshim/shim"
)

// flagValues are the flags of a run: of a command line, or of a request of cgshim batch. A flag is known by its first name.
type flagValues interface {
	IsSet(name string) bool
	String(name string) string
	StringSlice(name string) []string
	Bool(name string) bool
}

// A flagParser turns flags into values and keeps the first error. A flag that is not set is 0.
type flagParser struct {
	c   flagValues
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

// parseEach is parseFlag for a flag that can be given several times.
func parseEach[T any](p *flagParser, name string, parse func(value string) (T, error)) []T {
	var list []T
	for _, value := range p.c.StringSlice(name) {
		if p.err != nil {
			return nil
		}
		parsed, err := parse(value)
		if err != nil {
			p.err = fmt.Errorf("--%s %q: %w", name, value, err)
			return nil
		}
		list = append(list, parsed)
	}
	return list
}

func (p *flagParser) size(name string) int64 { return parseFlag(p, name, parsePositiveSize) }

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

// set is a list of CPUs or NUMA nodes that are all there. It stays as it was written.
func (p *flagParser) set(name, what string, online func() ([]int, error)) string {
	return parseFlag(p, name, func(value string) (string, error) {
		list, err := cgroup.ParseCPUList(value)
		if err != nil {
			return "", errors.New("want a list like 0-2,7")
		}
		there, err := online()
		if err != nil {
			return "", err
		}
		for _, n := range list {
			if !slices.Contains(there, n) {
				return "", fmt.Errorf("there is no %s %d here", what, n)
			}
		}
		return value, nil
	})
}

// devices are the limits of the four device flags.
func (p *flagParser) devices() []cgroup.IOLimit {
	var all []cgroup.IOLimit
	for _, f := range []struct {
		name      string
		parseRate func(string) (int64, error)
		set       func(*cgroup.IOLimit, uint64)
	}{
		{"device-read-bps", parsePositiveSize, func(l *cgroup.IOLimit, rate uint64) { l.ReadBPS = rate }},
		{"device-write-bps", parsePositiveSize, func(l *cgroup.IOLimit, rate uint64) { l.WriteBPS = rate }},
		{"device-read-iops", parseOperations, func(l *cgroup.IOLimit, rate uint64) { l.ReadIOPS = rate }},
		{"device-write-iops", parseOperations, func(l *cgroup.IOLimit, rate uint64) { l.WriteIOPS = rate }},
	} {
		for _, d := range parseEach(p, f.name, func(value string) (deviceRate, error) {
			return parseDeviceRate(value, f.parseRate)
		}) {
			limit := cgroup.IOLimit{Major: d.major, Minor: d.minor}
			f.set(&limit, d.rate)
			all = append(all, limit)
		}
	}
	return all
}

type deviceRate struct {
	major, minor uint32
	rate         uint64
}

// parseDeviceRate parses DEV:RATE. The path may have colons, too (/dev/disk/by-path).
func parseDeviceRate(value string, parseRate func(string) (int64, error)) (deviceRate, error) {
	i := strings.LastIndexByte(value, ':')
	if i <= 0 {
		return deviceRate{}, errors.New("want DEVICE:RATE, like /dev/sda:8M")
	}
	rate, err := parseRate(value[i+1:])
	if err != nil {
		return deviceRate{}, err
	}
	major, minor, err := cgroup.BlockDevice(value[:i])
	return deviceRate{major, minor, uint64(rate)}, err
}

func parseOperations(value string) (int64, error) {
	n, err := strconv.ParseUint(value, 10, 32)
	if err != nil || n == 0 {
		return 0, errors.New("want a number of operations a second, at least 1")
	}
	return int64(n), nil
}

// byteLimits are the resources that are counted in bytes: they may be given as sizes.
var byteLimits = []int{
	unix.RLIMIT_AS, unix.RLIMIT_CORE, unix.RLIMIT_DATA, unix.RLIMIT_FSIZE,
	unix.RLIMIT_MEMLOCK, unix.RLIMIT_MSGQUEUE, unix.RLIMIT_RSS, unix.RLIMIT_STACK,
}

// parseUlimit parses NAME=SOFT[:HARD]; "unlimited" and -1 are no limit. Without HARD it is SOFT.
func parseUlimit(value string) (limit reexec.Rlimit, err error) {
	name, values, ok := strings.Cut(value, "=")
	if !ok {
		return limit, errors.New("want NAME=SOFT or NAME=SOFT:HARD")
	}
	limit.Resource = slices.Index(shim.RlimitNames(), name)
	if limit.Resource < 0 {
		return limit, fmt.Errorf("no such resource: want one of %s", strings.Join(slices.Sorted(slices.Values(shim.RlimitNames())), ", "))
	}
	soft, hard, both := strings.Cut(values, ":")
	if limit.Soft, err = parseRlimit(limit.Resource, soft); err != nil {
		return limit, err
	}
	limit.Hard = limit.Soft
	if both {
		limit.Hard, err = parseRlimit(limit.Resource, hard)
	}
	if err == nil && limit.Soft > limit.Hard {
		err = errors.New("the soft limit is above the hard one")
	}
	return limit, err
}

func parseRlimit(resource int, value string) (uint64, error) {
	if value == "unlimited" || value == "-1" {
		return unix.RLIM_INFINITY, nil
	}
	if slices.Contains(byteLimits, resource) {
		n, err := parseSize(value)
		return uint64(n), err
	}
	n, err := strconv.ParseUint(value, 10, 63)
	if err != nil {
		return 0, errors.New("want a whole number, or unlimited")
	}
	return n, nil
}

// parseUser looks names up in /etc/passwd and /etc/group; numbers need not be there.
func parseUser(value string) (*shim.User, error) {
	const unset = -1
	name, group, both := strings.Cut(value, ":")
	if name == "" || both && group == "" {
		return nil, errors.New("want USER or USER:GROUP, names or numbers")
	}
	found, err := user.GetExecUserPath(value, &user.ExecUser{Uid: unset, Gid: unset}, "/etc/passwd", "/etc/group")
	switch {
	case err != nil:
		return nil, err
	case found.Gid == unset:
		return nil, errors.New("the user is not in /etc/passwd: give a group, too")
	}
	u := &shim.User{UID: uint32(found.Uid), GID: uint32(found.Gid)}
	for _, gid := range found.Sgids {
		u.Groups = append(u.Groups, uint32(gid))
	}
	return u, nil
}

// checked makes a parser of a check.
func checked(check func(string) error) func(string) (string, error) {
	return func(value string) (string, error) { return value, check(value) }
}

// parseNet is true for a network of the program's own.
func parseNet(value string) (bool, error) {
	switch value {
	case "none":
		return true, nil
	case "host":
		return false, nil
	}
	return false, errors.New("want none or host")
}

func parseOOMScoreAdj(value string) (*int, error) {
	n, err := strconv.Atoi(value)
	if err != nil || n < shim.MinOOMScoreAdj || n > shim.MaxOOMScoreAdj {
		return nil, fmt.Errorf("want a whole number from %d to %d: with -1000 the kernel would never kill it, whatever --mem says", shim.MinOOMScoreAdj, shim.MaxOOMScoreAdj)
	}
	return &n, nil
}

// parseKeepFD checks that the descriptor was inherited: one that is close-on-exec is the Go runtime's own.
func parseKeepFD(value string) (int, error) {
	fd, err := strconv.ParseInt(value, 10, 32)
	if err != nil || fd < 3 {
		return 0, errors.New("want the number of an open descriptor, from 3 up")
	}
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC != 0 {
		return 0, hinted{errNotOpen, fmt.Sprintf("open it: %d<FILE or %[1]d>FILE in a shell, pass_fds=[%[1]d] in Python", fd)}
	}
	return int(fd), nil
}

func parseVariable(value string) (string, error) {
	if strings.IndexByte(value, '=') <= 0 {
		return "", errors.New("want KEY=VALUE")
	}
	return value, nil
}

func parseSampleInterval(value string) (time.Duration, error) {
	d, err := parseDuration(value)
	if err == nil && d < shim.MinSample {
		err = fmt.Errorf("must be at least %v", shim.MinSample)
	}
	return d, err
}

func parsePositiveSize(value string) (int64, error) {
	n, err := parseSize(value)
	if err == nil && n == 0 {
		err = errNotPositive
	}
	return n, err
}

var (
	errNotOpen     = errors.New("the descriptor is not open")
	errNotPositive = errors.New("must be more than zero")
	errSize        = errors.New("want a size like 64M, 1.5GiB, or a number of bytes")
	errFraction    = errors.New("want a whole number of bytes")
	errNegative    = errors.New("must not be negative")
	errDuration    = errors.New("want a duration like 1.5s, 300ms, 2m, or a number of seconds")
	errTooLarge    = errors.New("is too large")
)

// isSize says what RAMInBytes understands, less its surprises ("1 .5m", "+1", "0x1p3"): a number, and perhaps a unit.
func isSize(value string) bool {
	number := strings.TrimRight(value, "kKmMgGtTpPiIbB")
	unit := strings.ToLower(value[len(number):])
	if prefix := strings.TrimRight(unit, "ib"); len(prefix) > 1 || !slices.Contains([]string{"", "b", "ib"}, unit[len(prefix):]) || unit == "ib" {
		return false
	}
	whole, fraction, point := strings.Cut(number, ".")
	return isDigits(whole) && (!point || isDigits(fraction))
}

func isDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// isSeconds says what a bare number is: ParseFloat would take "1e3", "0x1p3", "Inf" and "NaN" for one too.
func isSeconds(value string) bool {
	whole, fraction, point := strings.Cut(value, ".")
	return (isDigits(whole) || point && whole == "") && (!point || isDigits(fraction))
}

// maxSeconds is the longest duration.
const maxSeconds = math.MaxInt64 / 1e9 / 2

// parseSize parses a binary size: 64M, 64m, 64MB and 64MiB are all 67108864.
func parseSize(value string) (int64, error) {
	if !isSize(value) {
		return 0, errSize
	}
	if number := strings.TrimRight(value, "bB"); isSeconds(number) {
		return parseBytes(number)
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

// parseBytes parses a size without a unit. RAMInBytes would round above 2^53, and cut a fraction off.
func parseBytes(number string) (int64, error) {
	whole, fraction, _ := strings.Cut(number, ".")
	if strings.Trim(fraction, "0") != "" {
		return 0, errFraction
	}
	n, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || n > math.MaxInt64/2 {
		return 0, errTooLarge
	}
	return n, nil
}

// parseDuration parses a Go duration, or a number of seconds. It is never negative.
func parseDuration(value string) (time.Duration, error) {
	d, err := time.ParseDuration(value)
	if err != nil {
		if !isSeconds(value) {
			return 0, errDuration
		}
		seconds, err := strconv.ParseFloat(value, 64)
		if err != nil || seconds > maxSeconds {
			return 0, errTooLarge
		}
		d = time.Duration(seconds * 1e9)
	}
	if d < 0 {
		return 0, errNegative
	}
	return d, nil
}
