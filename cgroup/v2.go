package cgroup

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// v2 is a group in the unified hierarchy. See Documentation/admin-guide/cgroup-v2.rst.
type v2 struct {
	dir    string
	noKill bool // see Host.Without
}

func createV2(h *Host, m *maker, path string, o *Options) (*v2, error) {
	dir := h.unified + path
	for range mkdirTries {
		if err := m.mkdir(h.unified, path); err != nil {
			return nil, err
		}
		err := enable(h.unified, strings.TrimSuffix(o.Within, "/"), path, o.Controllers)
		if err == nil {
			return &v2{dir: dir, noKill: slices.Contains(h.hidden, killFile)}, nil
		}
		// Above a fresh directory nothing vanishes, unless somebody removes it under our feet.
		if !missing(err) {
			return nil, err
		}
		m.undo()
		*m = maker{owner: m.owner, mounts: m.mounts}
	}
	return nil, &Error{Op: "create", Path: dir, Err: unix.ENOENT}
}

func openV2(h *Host, path string) (*v2, []string, error) {
	dir := h.unified + path
	if err := unix.Access(dir+"/cgroup.procs", unix.F_OK); err != nil {
		return nil, nil, &Error{Op: "open", Path: dir, Err: err}
	}
	return &v2{dir: dir, noKill: slices.Contains(h.hidden, killFile)}, []string{dir}, nil
}

// enable makes the controllers available in the group at path, by enabling them in subtree_control from
// base down to its parent. In the common case they are, and it costs a look at each one's files.
//
// The files are what counts: cgroup.controllers and cgroup.subtree_control are read without the lock
// under which the kernel enables, and may list a controller whose files another process's write is still
// making. The parent's write takes that lock, so after it the files are there.
func enable(mount, base, path string, controllers []Controller) error {
	dir := mount + path
	if len(withoutFiles(dir, controllers)) == 0 {
		return nil
	}
	for i := range len(path) {
		if path[i] != '/' || i < len(base) {
			continue
		}
		if err := enableIn(mount+path[:i], controllers); err != nil {
			return err
		}
	}
	if late := withoutFiles(dir, controllers); len(late) > 0 {
		return writeSubtree(filepath.Dir(dir), late)
	}
	return nil
}

// writeSubtree enables controllers for the children of dir. Enabling what is enabled already waits until
// the kernel is done with it.
func writeSubtree(dir string, controllers []Controller) error {
	file, value := dir+"/cgroup.subtree_control", "+"+strings.Join(names(controllers), " +")
	err := writeFile(file, value)
	if errors.Is(err, unix.EBUSY) {
		return &Error{Op: "write", Path: file, Value: value, Err: fmt.Errorf("%w: %w", ErrPopulated, unix.EBUSY)}
	}
	if errors.Is(err, unix.EOPNOTSUPP) {
		return &Error{Op: "write", Path: file, Value: value, Err: fmt.Errorf("%w: %w", ErrThreaded, unix.EOPNOTSUPP)}
	}
	return err
}

// withoutFiles returns the controllers whose files are not in dir.
func withoutFiles(dir string, controllers []Controller) []Controller {
	file := map[Controller]string{Memory: "memory.max", PIDs: "pids.max", CPU: "cpu.max", CPUSet: "cpuset.cpus", IO: "io.max"}
	return slices.DeleteFunc(slices.Clone(controllers), func(c Controller) bool {
		return c.builtIn() || unix.Access(dir+"/"+file[c], unix.F_OK) == nil
	})
}

// enableIn enables, for the children of dir, the controllers that are not, if that is possible at all.
func enableIn(dir string, controllers []Controller) error {
	off, err := lacking(dir, "cgroup.subtree_control", controllers)
	if err != nil || len(off) == 0 {
		return err
	}
	absent, err := lacking(dir, "cgroup.controllers", off)
	if err != nil {
		return err
	}
	if len(absent) > 0 {
		return &Error{Op: "enable", Value: string(absent[0]), Path: dir + "/cgroup.subtree_control", Err: ErrNoController}
	}
	if err := checkUnpopulated(dir); err != nil {
		return err
	}
	return writeSubtree(dir, off)
}

// checkUnpopulated refuses a parent with processes of its own. The kernel would refuse only the memory
// controller; with pids and cpu alone it turns the children into threaded groups, and joins fail later
// with EOPNOTSUPP. The real root, which has no cgroup.type, is exempt from the rule.
func checkUnpopulated(dir string) error {
	if unix.Access(dir+"/cgroup.type", unix.F_OK) != nil {
		return nil
	}
	pids, err := readFile(dir + "/cgroup.procs")
	if err == nil && pids != "" {
		return &Error{Op: "enable", Path: dir + "/cgroup.subtree_control", Err: ErrPopulated}
	}
	return err
}

// lacking returns the controllers that a file of dir does not list.
func lacking(dir, file string, controllers []Controller) ([]Controller, error) {
	content, err := readFile(dir + "/" + file)
	if err != nil {
		return nil, err
	}
	listed := strings.Fields(content)
	return slices.DeleteFunc(slices.Clone(controllers), func(c Controller) bool {
		return c.builtIn() || slices.Contains(listed, string(c))
	}), nil
}

func names(controllers []Controller) []string {
	list := make([]string, len(controllers))
	for i, c := range controllers {
		list[i] = string(c)
	}
	return list
}

func (g *v2) join() (*Join, error) {
	j := new(Join)
	if err := j.openUnified(g.dir); err != nil {
		j.Close()
		return nil, err
	}
	return j, nil
}

func (g *v2) set(l *Limits) error {
	absent, err := lacking(g.dir, "cgroup.controllers", l.Controllers())
	if err != nil {
		return err
	}
	if len(absent) > 0 {
		return &Error{Op: "set", Value: string(absent[0]), Path: g.dir, Err: ErrNoController}
	}
	if l.Memory != 0 {
		if err := setMemoryV2(g.dir, l.Memory, l.Swap); err != nil {
			return err
		}
	}
	if l.OOMGroup {
		if err := writeFile(g.dir+"/memory.oom.group", "1"); err != nil && !missing(err) {
			return err
		}
	}
	var w writer
	w.put(l.MemoryHigh != 0, g.dir+"/memory.high", limitString(l.MemoryHigh))
	w.put(l.PIDs != 0, g.dir+"/pids.max", limitString(l.PIDs))
	w.put(l.CPUs != 0, g.dir+"/cpu.max", limitString(l.quota())+" "+strconv.Itoa(cpuPeriodMicros))
	w.put(l.weight() != 0, g.dir+"/cpu.weight", strconv.FormatUint(l.weight(), 10))
	w.put(l.CPUSetCPUs != "", g.dir+"/cpuset.cpus", l.CPUSetCPUs)
	w.put(l.CPUSetMems != "", g.dir+"/cpuset.mems", l.CPUSetMems)
	for _, limit := range l.IO {
		line := limit.device()
		for _, rate := range limit.rates() {
			line += " " + rate.v2Key + "=" + strconv.FormatUint(rate.value, 10)
		}
		w.put(len(limit.rates()) > 0, g.dir+"/io.max", line)
	}
	if w.err != nil {
		return w.err
	}
	return errors.Join(
		checkEffective(g.dir+"/cpuset.cpus", l.CPUSetCPUs),
		checkEffective(g.dir+"/cpuset.mems", l.CPUSetMems))
}

// checkEffective makes sure that a set is in force: asked for what the parent does not have, the kernel
// gives what there is of it, or else all that the parent has, and says nothing.
func checkEffective(file, asked string) error {
	if asked == "" {
		return nil
	}
	content, err := readFile(file + ".effective")
	if err != nil {
		return err
	}
	effective, err := ParseCPUList(strings.TrimSpace(content))
	want, wantErr := ParseCPUList(asked)
	if err != nil || wantErr != nil || !slices.Equal(effective, want) {
		return &Error{Op: "write", Path: file, Value: asked, Err: fmt.Errorf("%w: it is %s", ErrNotEnforced, strings.TrimSpace(content))}
	}
	return nil
}

func setMemoryV2(dir string, memory, swap int64) error {
	if err := writeFile(dir+"/memory.max", limitString(memory)); err != nil {
		return err
	}
	if memory == Unlimited {
		swap = Unlimited
	}
	file := dir + "/memory.swap.max" // absent without swap accounting (swapaccount=0)
	err := writeFile(file, limitString(swap))
	if missing(err) {
		return noSwapAccounting(file, swap, nil)
	}
	return err
}

func (g *v2) freeze(ctx context.Context, frozen bool) error { return freezeV2(ctx, g.dir, frozen) }

func (g *v2) signalAll(ctx context.Context) error {
	if !g.noKill {
		if done, err := writeKill(g.dir); done {
			return err
		}
	}
	if err := writeFile(g.dir+"/pids.max", "0"); err != nil && !missing(err) {
		return err
	}
	return killFrozen(ctx, g.dir, g.freeze)
}
