package flags

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/reexec"
	"github.com/cgshim/cgshim/shim"
)

// A parser turns flags into values and keeps the first error. A flag that was not given has the zero value.
type parser struct {
	v   Values
	err error
}

// parseFlag parses a flag that was given, and puts flag and value in front of the error.
func parseFlag[T any](p *parser, name string, parse func(value string) (T, error)) T {
	var zero T
	if p.err != nil || !p.v.IsSet(name) {
		return zero
	}
	value := p.v.String(name)
	parsed, err := parse(value)
	if err != nil {
		p.err = fmt.Errorf("--%s %q: %w", name, value, err)
		return zero
	}
	return parsed
}

// parseEach is parseFlag for a flag that can be given several times.
func parseEach[T any](p *parser, name string, parse func(value string) (T, error)) []T {
	var list []T
	for _, value := range p.v.StringSlice(name) {
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

func (p *parser) size(name string) int64 { return parseFlag(p, name, parsePositiveSize) }

func (p *parser) sizeOrZero(name string) int64 { return parseFlag(p, name, parseSize) }

func (p *parser) count(name string, least, most int64) int64 {
	return parseFlag(p, name, func(value string) (int64, error) {
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < least || n > most {
			return 0, fmt.Errorf("want a whole number from %d to %d", least, most)
		}
		return n, nil
	})
}

func (p *parser) cpus(name string) float64 {
	return parseFlag(p, name, func(value string) (float64, error) {
		n, err := strconv.ParseFloat(value, 64)
		if err != nil || !(n >= cgroup.MinCPUs && n <= cgroup.MaxCPUs) { // false for NaN too
			return 0, fmt.Errorf("want a number of CPUs from %v to %d, like 0.5", cgroup.MinCPUs, cgroup.MaxCPUs)
		}
		return n, nil
	})
}

func (p *parser) duration(name string) time.Duration {
	return parseFlag(p, name, func(value string) (time.Duration, error) {
		d, err := parseDuration(value)
		if err == nil && d == 0 {
			err = errNotPositive
		}
		return d, err
	})
}

// durationOrZero returns a negative duration for an explicit 0, because shim.Config takes that as "at once".
func (p *parser) durationOrZero(name string) time.Duration {
	return parseFlag(p, name, func(value string) (time.Duration, error) {
		d, err := parseDuration(value)
		if d == 0 {
			d = -1
		}
		return d, err
	})
}

// set checks that all CPUs or NUMA nodes of a list exist. It returns the list as it was written.
func (p *parser) set(name, what string, online func() ([]int, error)) string {
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

// devices returns the limits of the four device flags.
func (p *parser) devices() []cgroup.IOLimit {
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

// parseDeviceRate parses DEV:RATE. The path may have colons of its own (/dev/disk/by-path).
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

// byteLimits are the resources that are counted in bytes. Their limits may be given as sizes.
var byteLimits = []int{
	unix.RLIMIT_AS, unix.RLIMIT_CORE, unix.RLIMIT_DATA, unix.RLIMIT_FSIZE,
	unix.RLIMIT_MEMLOCK, unix.RLIMIT_MSGQUEUE, unix.RLIMIT_RSS, unix.RLIMIT_STACK,
}

// parseUlimit parses NAME=SOFT[:HARD]; "unlimited" and -1 are no limit. Without :HARD the hard limit is the soft one.
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

// parseUser looks names up in /etc/passwd and /etc/group. Numbers need not be in there.
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
	u := &shim.User{UID: uint32(found.Uid), GID: uint32(found.Gid), Name: name, Home: found.Home}
	if _, err := strconv.Atoi(name); err == nil { // which is what counts as a number there
		entry, _ := user.LookupUid(found.Uid)
		u.Name = entry.Name
	}
	for _, gid := range found.Sgids {
		u.Groups = append(u.Groups, uint32(gid))
	}
	return u, nil
}

// checked makes a parser of a function that only checks the value.
func checked(check func(string) error) func(string) (string, error) {
	return func(value string) (string, error) { return value, check(value) }
}

// parseNet returns true if the program gets a network of its own.
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

// parseKeepFD checks that the descriptor was inherited. One that is close-on-exec was not: the Go runtime has opened it.
func parseKeepFD(value string) (int, error) {
	fd, err := strconv.ParseInt(value, 10, 32)
	if err != nil || fd < 3 {
		return 0, errors.New("want the number of an open descriptor, from 3 up")
	}
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC != 0 {
		return 0, WithHint(ErrNotOpen, fmt.Sprintf("open it: %d<FILE or %[1]d>FILE in a shell, pass_fds=[%[1]d] in Python", fd))
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
