package shim

import (
	"errors"
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

func newResult(cfg *Config) *Result {
	return &Result{
		Type:          "result",
		SchemaVersion: SchemaVersion,
		LimitsHit:     []string{},
		Sources:       map[string]string{},
		Enforced:      map[string]string{},
		Argv:          append([]string{}, cfg.Args...),
		Limits:        requestedLimits(cfg),
		Warnings:      []string{},
	}
}

func requestedLimits(cfg *Config) RequestedLimits {
	l := RequestedLimits{
		MemBytes:        cfg.Limits.Memory,
		SwapBytes:       cfg.Limits.Swap,
		MemHighBytes:    cfg.Limits.MemoryHigh,
		PIDs:            cfg.Limits.PIDs,
		CPUs:            finite(cfg.Limits.CPUs),
		CPUWeight:       cfg.Limits.CPUWeight,
		CPUShares:       cfg.Limits.CPUShares,
		CPUSetCPUs:      cfg.Limits.CPUSetCPUs,
		CPUSetMems:      cfg.Limits.CPUSetMems,
		CPUTimeSeconds:  Seconds(cfg.CPUTime.Seconds()),
		WallTimeSeconds: Seconds(cfg.WallTime.Seconds()),
		GraceSeconds:    Seconds(cfg.Grace.Seconds()),
		OutputBytes:     cfg.OutputLimit,
		Shield:          cfg.Shield,
		FSRo:            cfg.FSReadOnly,
		FSRw:            cfg.FSReadWrite,
		FSSystem:        cfg.FSSystem,
	}
	rate := func(rates *map[string]uint64, device string, value uint64) {
		if value == 0 {
			return
		}
		if *rates == nil {
			*rates = map[string]uint64{}
		}
		(*rates)[device] = value
	}
	for _, io := range cfg.Limits.IO {
		device := fmt.Sprintf("%d:%d", io.Major, io.Minor)
		rate(&l.DeviceReadBPS, device, io.ReadBPS)
		rate(&l.DeviceWriteBPS, device, io.WriteBPS)
		rate(&l.DeviceReadIOPS, device, io.ReadIOPS)
		rate(&l.DeviceWriteIOPS, device, io.WriteIOPS)
	}
	for _, r := range cfg.Rlimits {
		if l.Ulimits == nil {
			l.Ulimits = map[string]RequestedRlimit{}
		}
		l.Ulimits[rlimitName(r.Resource)] = RequestedRlimit{limited(r.Soft), limited(r.Hard)}
	}
	if cfg.NoNetwork {
		l.Net = "none"
	}
	return l
}

// limited is nil for RLIM_INFINITY.
func limited(n uint64) *uint64 {
	if n == unix.RLIM_INFINITY {
		return nil
	}
	return &n
}

// finite keeps what JSON has no word for out of the report on a configuration that was refused for it.
func finite(f float64) float64 {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return 0
	}
	return f
}

// UsageError is the result for a caller that could not make a Config of what it was given. An error that has a method
// Hint, which returns a string, says what to do about it.
func UsageError(cfg *Config, err error) *Result {
	r := newResult(cfg)
	r.Verdict = Failed
	hint := "cgshim --help lists the flags"
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) {
		hint = hinted.Hint()
	}
	r.Error = &ErrorInfo{
		Step: "usage", Message: message("usage", err), Hint: optional(hint), cause: err,
		exitStatus: ExitFailed,
	}
	return r
}
