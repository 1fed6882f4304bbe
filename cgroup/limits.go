package cgroup

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/opencontainers/cgroups"
)

// Unlimited lifts a limit that was set before.
const Unlimited = -1

// Limits is what a group may use. The zero value of a field leaves that limit as it is.
type Limits struct {
	// Memory is RAM in bytes, page cache and kernel memory included. Unlimited lifts it.
	// memory.limit_in_bytes, memory.max.
	Memory int64
	// Swap is swap in bytes on top of Memory; it is applied only together with Memory, so that its zero
	// value means no swap. Unlimited lifts it. memory.memsw.limit_in_bytes, memory.swap.max.
	Swap int64
	// MemoryHigh is RAM in bytes, counted like Memory, above which the kernel reclaims and slows the group
	// down, and kills nobody; usage can go on above it. One above Memory is never reached, and no error.
	// Unlimited lifts it. memory.high, v2; v1 has no such limit: there Set fails with ErrV2Only.
	MemoryHigh int64
	// OOMGroup makes the kernel kill the whole group when it kills one of its processes for lack of
	// memory (memory.oom.group, v2, since Linux 4.19). Without that file it does nothing: watch OOM.
	OOMGroup bool
	// PIDs is the number of tasks, threads included. Unlimited lifts it. pids.max.
	PIDs int64
	// CPUs is bandwidth: 0.5 is half a CPU, 2 two of them. The kernel's least is 0.01. Unlimited lifts
	// it. cpu.cfs_quota_us over cpu.cfs_period_us, cpu.max; the period is 100 ms.
	CPUs float64
	// CPUWeight, 1 to 10000, is the share under contention, in v2's unit (default 100). cpu.weight.
	CPUWeight uint64
	// CPUShares, 2 to 262144, is the same in v1's unit (default 1024). cpu.shares. One of the two only.
	// Each is converted to the other version's unit as runc does it.
	CPUShares uint64
	// CPUSetCPUs and CPUSetMems are lists like "0-2,7". cpuset.cpus, cpuset.mems.
	CPUSetCPUs, CPUSetMems string
	// IO throttles block devices. blkio.throttle.*, io.max.
	IO []IOLimit
}

// IOLimit throttles one block device. The zero value of a rate leaves it as it is.
type IOLimit struct {
	Major, Minor        uint32
	ReadBPS, WriteBPS   uint64 // bytes per second
	ReadIOPS, WriteIOPS uint64 // operations per second
}

const (
	cpuPeriodMicros = 100_000 // the kernel's default
	cpuQuotaMin     = 1_000   // the kernel's least
)

// Controllers lists what these limits need.
func (l *Limits) Controllers() []Controller {
	var list []Controller
	add := func(need bool, c Controller) {
		if need {
			list = append(list, c)
		}
	}
	add(l.Memory != 0 || l.MemoryHigh != 0 || l.OOMGroup, Memory)
	add(l.PIDs != 0, PIDs)
	add(l.CPUs != 0 || l.CPUWeight != 0 || l.CPUShares != 0, CPU)
	add(l.CPUSetCPUs != "" || l.CPUSetMems != "", CPUSet)
	add(len(l.IO) > 0, IO)
	return list
}

// Validate reports the first limit that no kernel would accept; the error is ErrInvalid.
func (l *Limits) Validate() error {
	switch {
	case l.Memory < Unlimited:
		return invalid("memory limit", l.Memory)
	case l.Swap < Unlimited, l.Swap > 0 && l.Memory > math.MaxInt64-l.Swap:
		return invalid("swap limit", l.Swap)
	case l.Swap != 0 && l.Memory == 0:
		return fmt.Errorf("a swap limit without a memory limit: %w", ErrInvalid)
	case l.MemoryHigh < Unlimited:
		return invalid("high memory limit", l.MemoryHigh)
	case l.PIDs < Unlimited, l.PIDs > MaxPIDs:
		return invalid("process limit", l.PIDs)
	case math.IsNaN(l.CPUs), math.IsInf(l.CPUs, 0), l.CPUs != 0 && l.CPUs != Unlimited && l.CPUs < MinCPUs, l.CPUs > MaxCPUs:
		return invalid("CPU bandwidth", l.CPUs)
	case l.CPUWeight > MaxCPUWeight:
		return invalid("CPU weight", l.CPUWeight)
	case l.CPUShares != 0 && l.CPUShares < MinCPUShares, l.CPUShares > MaxCPUShares:
		return invalid("CPU shares", l.CPUShares)
	case l.CPUWeight != 0 && l.CPUShares != 0:
		return fmt.Errorf("both CPU weight and CPU shares: %w", ErrInvalid)
	}
	for _, list := range []string{l.CPUSetCPUs, l.CPUSetMems} {
		if list == "" {
			continue
		}
		if _, err := ParseCPUList(list); err != nil {
			return err
		}
	}
	return nil
}

// What the kernel accepts.
const (
	MaxPIDs      = 4 << 20 // PID_MAX_LIMIT of 64-bit kernels; above it pids.max is EINVAL
	MinCPUs      = float64(cpuQuotaMin) / cpuPeriodMicros
	MaxCPUs      = 1 << 20 // far above any machine, and its quota far below the kernel's maximum
	MaxCPUWeight = 10000   // the least is 1
	MinCPUShares = 2
	MaxCPUShares = 262144
)

func invalid(what string, value any) error { return fmt.Errorf("%w %s: %v", ErrInvalid, what, value) }

// quota is the bandwidth in microseconds per period; -1 is unlimited.
func (l *Limits) quota() int64 {
	if l.CPUs == Unlimited {
		return -1
	}
	return int64(math.Round(l.CPUs * cpuPeriodMicros))
}

// weight is the share in v2's unit, 0 if none was asked for.
func (l *Limits) weight() uint64 {
	if l.CPUShares != 0 {
		return cgroups.ConvertCPUSharesToCgroupV2Value(l.CPUShares)
	}
	return l.CPUWeight
}

// shares is the share in v1's unit, 0 if none was asked for. For a weight it is the inverse of the
// quadratic that ConvertCPUSharesToCgroupV2Value fits through minimum, default and maximum.
func (l *Limits) shares() uint64 {
	if l.CPUWeight == 0 {
		return l.CPUShares
	}
	c := 612 * (math.Log10(float64(l.CPUWeight)) + 7.0/34)
	return uint64(math.Round(math.Exp2((math.Sqrt(125*125+4*c) - 125) / 2)))
}

// limitString writes a limit as v2 wants it.
func limitString(n int64) string {
	if n == Unlimited {
		return "max"
	}
	return strconv.FormatInt(n, 10)
}

// rates lists the set rates of one device with their v1 file and v2 key.
func (l *IOLimit) rates() []ioRate {
	all := []ioRate{
		{"blkio.throttle.read_bps_device", "rbps", l.ReadBPS},
		{"blkio.throttle.write_bps_device", "wbps", l.WriteBPS},
		{"blkio.throttle.read_iops_device", "riops", l.ReadIOPS},
		{"blkio.throttle.write_iops_device", "wiops", l.WriteIOPS},
	}
	set := all[:0]
	for _, r := range all {
		if r.value != 0 {
			set = append(set, r)
		}
	}
	return set
}

type ioRate struct {
	v1File, v2Key string
	value         uint64
}

func (l *IOLimit) device() string { return fmt.Sprintf("%d:%d", l.Major, l.Minor) }

// hostHasSwap reports whether any swap is active (/proc/swaps, proc(5)). If that can't be read, assume so.
func hostHasSwap() bool {
	content, err := readValue("/proc/swaps")
	if missing(err) {
		return false // a kernel without CONFIG_SWAP
	}
	return err != nil || strings.Count(content, "\n") > 1
}
