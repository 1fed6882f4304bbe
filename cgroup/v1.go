package cgroup

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/fs"
	"golang.org/x/sys/unix"
)

// v1 is a group in the v1 hierarchies of its controllers, and in the cgroup2 one if the host is hybrid
// and its kernel has cgroup.kill there. See Documentation/admin-guide/cgroup-v1/.
type v1 struct {
	of      map[Controller]string // the directory of each controller; some may share one
	unified string                // the cgroup2 directory; "" without
	all     []string              // every directory once, the cgroup2 one first
	noKill  bool                  // see Host.Without
	memory  atomic.Int64          // the lowest limit of memory that set has written, in bytes; 0 is none
}

func createV1(h *Host, m *maker, path string, o *Options) (*v1, error) {
	g := &v1{of: map[Controller]string{}, noKill: slices.Contains(h.hidden, killFile)}
	if h.unified != "" {
		if err := g.addUnified(m, h.unified, path); err != nil {
			return nil, err
		}
	}
	wanted := slices.Clone(o.Controllers)
	if slices.Contains(wanted, CPU) && h.Has(CPUAcct) && !slices.Contains(wanted, CPUAcct) {
		wanted = append(wanted, CPUAcct)
	}
	if o.Frugal && g.unified != "" && !slices.Contains(h.hidden, cpuStatFile) && unix.Access(g.unified+"/"+cpuStatFile, unix.F_OK) == nil {
		wanted = slices.DeleteFunc(wanted, func(c Controller) bool { return c == CPUAcct })
		g.of[CPUAcct] = g.unified
	}
	if g.unified == "" && h.Has(Freezer) && !slices.Contains(wanted, Freezer) {
		wanted = append(wanted, Freezer) // without cgroup.kill, the only exact way to kill
	}
	for _, c := range wanted {
		dir := h.mounts[c] + path
		if !slices.Contains(g.all, dir) {
			if err := m.mkdir(h.mounts[c], path); err != nil {
				return nil, err
			}
			g.all = append(g.all, dir)
		}
		g.of[c] = dir
	}
	if dir, ok := g.of[Memory]; ok && before511() {
		// A group neither limits nor counts those below it, unless it or the root says so. Since Linux 5.11 all do.
		if err := writeFile(dir+"/memory.use_hierarchy", "1"); err != nil && !missing(err) {
			return nil, err
		}
	}
	if dir, ok := g.of[CPUSet]; ok {
		// A new v1 cpuset is empty, and nothing can join it: inherit from the parent, level by level.
		if err := (&fs.CpusetGroup{}).ApplyDir(dir, &cgroups.Resources{}, -1); err != nil {
			return nil, &Error{Op: "create", Path: dir, Err: err}
		}
	}
	return g, nil
}

// before511 reports whether the kernel is older than Linux 5.11, or of a kind that can't be told.
var before511 = sync.OnceValue(func() bool {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return true
	}
	release := strings.SplitN(unix.ByteSliceToString(name.Release[:]), ".", 3)
	if len(release) < 3 {
		return true
	}
	major, majorErr := strconv.Atoi(release[0])
	minor, minorErr := strconv.Atoi(release[1])
	return majorErr != nil || minorErr != nil || major < 5 || major == 5 && minor < 11
})

// addUnified adds the cgroup2 directory of a hybrid host. It limits nothing; it is there for
// cgroup.kill. Where that can't be had, the freezer does it; but a group that exists is refused here too.
func (g *v1) addUnified(m *maker, mount, path string) error {
	dir := mount + path
	switch err := m.mkdir(mount, path); {
	case errors.Is(err, unix.EEXIST):
		return err
	case err != nil:
		removeMade(dir, m.mounts, m.parents)
		return nil
	case g.noKill || unix.Access(dir+"/"+killFile, unix.F_OK) != nil:
		m.leaves = m.leaves[:len(m.leaves)-1]
		_ = unix.Rmdir(dir)
		removeMade(dir, m.mounts, m.parents)
		return nil
	}
	g.unified = dir
	g.all = append(g.all, dir)
	return nil
}

// openV1 is whatever there is of a group, in the cgroup2 hierarchy of a hybrid host too.
func openV1(h *Host, path string) (*v1, []string, error) {
	g := &v1{of: map[Controller]string{}, noKill: slices.Contains(h.hidden, killFile)}
	if h.unified != "" && isGroup(h.unified+path) {
		g.unified = h.unified + path
		g.all = []string{g.unified}
	}
	for _, c := range h.controllers {
		dir := h.mounts[c] + path
		if !isGroup(dir) {
			if c == CPUAcct && g.unified != "" {
				g.of[c] = g.unified // see createV1
			}
			continue
		}
		g.of[c] = dir
		if !slices.Contains(g.all, dir) {
			g.all = append(g.all, dir)
		}
	}
	if len(g.all) == 0 {
		return nil, nil, &Error{Op: "open", Path: path, Err: unix.ENOENT}
	}
	return g, g.all, nil
}

func (g *v1) join() (*Join, error) {
	if dir, ok := g.of[Freezer]; ok && g.unified == "" {
		// Without cgroup.kill, what is frozen there could not even be killed.
		if frozen, _ := readUint(dir + "/freezer.parent_freezing"); frozen != 0 {
			return nil, &Error{Op: "join", Path: dir, Err: fmt.Errorf("below another one: %w: %w", ErrFrozen, unix.EBUSY)}
		}
	}
	j := new(Join)
	for _, dir := range g.all {
		if dir == g.unified {
			if err := j.openUnified(dir); err != nil {
				j.Close()
				return nil, err
			}
			continue
		}
		fd, err := openFile(dir+"/tasks", unix.O_WRONLY)
		if err != nil {
			j.Close()
			return nil, err
		}
		j.Tasks, j.Paths = append(j.Tasks, fd), append(j.Paths, dir+"/tasks")
	}
	return j, nil
}

func (g *v1) set(l *Limits) error {
	if l.MemoryHigh != 0 {
		// Not memory.soft_limit_in_bytes, which slows nobody down: it only says whom the host reclaims from first.
		return &Error{Op: "set", Value: "memory.high", Err: ErrV2Only}
	}
	for _, c := range l.Controllers() {
		if g.of[c] == "" {
			return &Error{Op: "set", Value: string(c), Err: ErrNoController}
		}
	}
	if l.Memory != 0 {
		lowest := g.memory.Load()
		if l.Memory != Unlimited && (lowest == 0 || l.Memory < lowest) {
			g.memory.Store(l.Memory) // nobody else does: see Group.setting
		}
		if err := setMemoryV1(g.of[Memory], l.Memory, l.Swap); err != nil {
			return err
		}
	}
	var w writer
	w.put(l.PIDs != 0, g.of[PIDs]+"/pids.max", limitString(l.PIDs))
	w.put(l.CPUs != 0, g.of[CPU]+"/cpu.cfs_period_us", strconv.Itoa(cpuPeriodMicros))
	w.put(l.CPUs != 0, g.of[CPU]+"/cpu.cfs_quota_us", strconv.FormatInt(l.quota(), 10))
	w.err = explainQuota(w.err, l.CPUs)
	w.put(l.shares() != 0, g.of[CPU]+"/cpu.shares", strconv.FormatUint(l.shares(), 10))
	w.put(l.CPUSetCPUs != "", g.of[CPUSet]+"/cpuset.cpus", l.CPUSetCPUs)
	w.put(l.CPUSetMems != "", g.of[CPUSet]+"/cpuset.mems", l.CPUSetMems)
	for _, limit := range l.IO {
		for _, rate := range limit.rates() {
			w.put(true, g.of[IO]+"/"+rate.v1File, limit.device()+" "+strconv.FormatUint(rate.value, 10))
		}
	}
	return w.err
}

// setMemoryV1 writes RAM and RAM+swap. The kernel refuses a RAM limit above RAM+swap and the reverse,
// so that the order depends on which way the limits move: try the one, then the other.
func setMemoryV1(dir string, memory, swap int64) error {
	ram, both := dir+"/memory.limit_in_bytes", dir+"/memory.memsw.limit_in_bytes"
	total := int64(Unlimited)
	if memory != Unlimited && swap != Unlimited {
		total = memory + swap
	}
	first := writeFile(ram, strconv.FormatInt(memory, 10))
	if first != nil && !errors.Is(first, unix.EINVAL) {
		return first
	}
	err := writeFile(both, strconv.FormatInt(total, 10))
	if missing(err) {
		return noSwapAccounting(both, swap, first)
	}
	if err == nil && first != nil {
		err = writeFile(ram, strconv.FormatInt(memory, 10))
	}
	return err
}

// noSwapAccounting is the outcome where the kernel has no file for the swap limit. A host without swap
// gives nobody any; but it can't be said to enforce a limit that was asked for.
func noSwapAccounting(file string, swap int64, err error) error {
	if err == nil && (swap > 0 || swap == 0 && hostHasSwap()) {
		return &Error{Op: "write", Path: file, Value: strconv.FormatInt(swap, 10), Err: ErrSwapAccounting}
	}
	return err
}

// explainQuota says which group above is the reason why a quota was refused, if one is.
func explainQuota(err error, asked float64) error {
	var e *Error
	if !errors.Is(err, unix.EINVAL) || !errors.As(err, &e) || filepath.Base(e.Path) != "cpu.cfs_quota_us" {
		return err
	}
	least := QuotaError{CPUs: asked, Err: unix.EINVAL}
	for dir := filepath.Dir(filepath.Dir(e.Path)); isGroup(dir); dir = filepath.Dir(dir) {
		if cpus, ok := quotaOf(dir); ok && cpus < least.CPUs {
			least.Group, least.CPUs = dir, cpus
		}
	}
	if least.Group == "" {
		return err
	}
	return &Error{Op: e.Op, Path: e.Path, Value: e.Value, Err: &least}
}

// quotaOf is the CPU bandwidth of a group; false if it has all, as the root has.
func quotaOf(dir string) (cpus float64, limited bool) {
	quota, _ := readFile(dir + "/cpu.cfs_quota_us")
	period, _ := readFile(dir + "/cpu.cfs_period_us")
	q, limited := parseUint(quota) // -1 is no limit
	p, known := parseUint(period)
	return float64(q) / float64(max(p, 1)), limited && known
}

// writer writes one value after the other, until one fails.
type writer struct{ err error }

func (w *writer) put(wanted bool, file, value string) {
	if wanted && w.err == nil {
		w.err = writeFile(file, value)
	}
}

func (g *v1) freeze(ctx context.Context, frozen bool) error {
	if g.unified != "" {
		return freezeV2(ctx, g.unified, frozen)
	}
	dir, ok := g.of[Freezer]
	if !ok {
		return &Error{Op: "freeze", Value: string(Freezer), Err: ErrNoController}
	}
	state := thawed
	if frozen {
		state = "FROZEN"
	}
	// Not through the cgroups library: it thaws every now and then, which lets a fork bomb go on.
	return settle(ctx, Error{Op: "freeze", Path: dir}, func() (bool, error) {
		if err := writeFile(dir+"/freezer.state", state); err != nil {
			return false, err
		}
		now, err := readFile(dir + "/freezer.state")
		return strings.TrimSpace(now) == state, err
	})
}

// thawed is the freezer.state of a group that is not frozen.
const thawed = "THAWED"

func (g *v1) signalAll(ctx context.Context) error {
	if g.unified != "" && !g.noKill {
		if done, err := writeKill(g.unified); done {
			return err
		}
	}
	if dir, ok := g.of[PIDs]; ok {
		// A fork bomb would outrun the freezer.
		if err := writeFile(dir+"/pids.max", "0"); err != nil && !missing(err) {
			return err
		}
	}
	return killFrozen(ctx, g.all[0], g.freeze)
}
