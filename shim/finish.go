package shim

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/shim/internal/monitor"
	"github.com/cgshim/cgshim/shim/internal/relay"
	"github.com/cgshim/cgshim/shim/internal/sys"
)

// finish kills what has outlived the program, reaps it, and reads the final figures while the group is there.
func (res *resources) finish(p *program, outcome *monitor.Outcome) *ending {
	e := &ending{Outcome: *outcome, seen: outcome.Ended}
	if e.seen.IsZero() {
		e.seen = time.Now()
	}
	res.unkillable, res.killed = outcome.Unkillable, outcome.Killed
	leftover := res.killRest(outcome.EndedBy == "")
	if !outcome.Killed && outcome.EndedBy == "" {
		e.ulimit = res.ulimitReached(p.PID, outcome.DiedOf)
	}
	var usage *unix.Rusage
	if outcome.Ended.IsZero() {
		go func() { _, _ = sys.IgnoringEINTR(func() (int, error) { return unix.Wait4(p.PID, nil, 0, nil) }) }()
	} else {
		usage = res.reap(p.PID, &e.status)
	}
	e.ran = usage != nil
	res.report.phase("reap")
	figures, err := res.group.Finish(usage, leftover, res.cfg.BestEffort)
	if err != nil {
		res.report.Error("stats", err)
	}
	res.report.figures(&figures)
	if text := res.group.ForeignOOM(&figures.Stats); text != "" {
		res.report.Warn(text)
	}
	e.counted, e.oom = res.group.Hits(&figures.Stats), res.group.OwnOOM(&figures.Stats)
	e.hold(res.cfg, e.seen.Sub(p.started), figures.CPUUsage)
	res.report.phase("read")
	return e
}

// killRest kills the processes that outlived the program, or a launch that has failed. It counts them, and reports whether there were
// any, unless a limit ended the run (voluntary is false): then they did not outlive it by their own doing, and may be dying of
// memory.oom.group already.
func (res *resources) killRest(voluntary bool) (leftover bool) {
	group := &res.group
	group.OOM.Close()
	res.closeJoin()
	defer res.report.phase("kill")
	if group.Cgroup == nil && group.Program == 0 {
		return false
	}
	populated, err := group.Populated()
	if err != nil {
		res.report.Error("kill", err)
		return false
	}
	var left uint64
	if populated && !res.unkillable {
		if voluntary && group.Program != 0 && !group.OOMEndsAll() {
			pids, err := group.PIDs()
			if err != nil {
				res.report.Error("kill", err)
			}
			left = uint64(len(pids))
		}
		res.killed = true
		res.kill()
	}
	if group.Program != 0 && (group.Cgroup != nil || group.Subreaper) {
		res.report.leftover(&left)
	}
	return left > 0
}

// reap waits for the program, which is a zombie. Nil is that it could not be waited for.
func (res *resources) reap(pid int, status *unix.WaitStatus) *unix.Rusage {
	usage := new(unix.Rusage)
	if _, err := sys.IgnoringEINTR(func() (int, error) { return unix.Wait4(pid, status, 0, usage) }); err != nil {
		res.report.Error("wait", err)
		return nil
	}
	return usage
}

// finishOutput delivers what is left of the output. That there was more than the limit, or that some of what was within it
// could not be delivered, is part of the ending.
func (res *resources) finishOutput(output *relay.Relay, e *ending) {
	if output == nil {
		return
	}
	if err := output.Finish(); err != nil {
		res.report.Error("output", err)
		e.outputLost = true
	}
	delivered := output.Passed()
	res.report.result.OutputBytes = &delivered
	e.tooMuch = output.TooMuch()
}

// collect takes what the dead have left in the kernel, once nobody is alive: zombies that are our children by
// CLONE_PARENT, for which the first process of a killed pid namespace waits; and descriptors on their way through sockets
// that are on their way themselves, which the kernel looks for when some socket is closed: one may be our caller's pipe.
func (res *resources) collect() {
	defer res.report.phase("collect")
	defer threads.giveBack(res.threads, 0)
	res.reaper.settle(res.killed)
	if res.score != nil || res.stage == nil { // else such a socket was closed with the stage
		sys.CollectDescriptors()
	}
	if res.cfg.ReapOrphans && !res.cfg.Subreaper {
		res.reapOwn()
	}
	if !res.cfg.Subreaper || res.unkillable || res.stage != nil && len(res.stage.Stuck()) > 0 {
		return
	}
	reapAll(collectPatience)
}

// reapOwn waits for what the program has left behind, in a process that has other children.
func (res *resources) reapOwn() {
	for end := time.Now().Add(collectPatience); ; time.Sleep(time.Millisecond) {
		if _, left := res.group.ReapOwn(res.spared()...); left == 0 || res.unkillable || !time.Now().Before(end) {
			return
		}
	}
}

// reapAll waits for all children that are zombies, one after the other without a pause: there may be tens of thousands.
// patience is how long to wait for children that are not, which the end of the others may have to come before.
func reapAll(patience time.Duration) {
	for end := time.Now().Add(patience); ; {
		pid, err := sys.IgnoringEINTR(func() (int, error) { return unix.Wait4(-1, nil, unix.WNOHANG|unix.WALL, nil) })
		switch {
		case err != nil, pid == 0 && !time.Now().Before(end):
			return // there is none; or another's doing keeps it
		case pid == 0:
			time.Sleep(time.Millisecond)
		}
	}
}

const collectPatience = 200 * time.Millisecond
