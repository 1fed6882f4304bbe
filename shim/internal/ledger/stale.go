package ledger

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/cgshim/cgshim/cgroup"
)

// DefaultParent is the group of runs that have a name, where nothing speaks for another place; the groups of those that
// have none are beside it, and begin with its name.
const DefaultParent = "/cgshim"

// KillTimeout is how long processes may take to die after SIGKILL. One that has to give back tens of
// gigabytes needs seconds; one in an uninterruptible sleep may need for ever, and is then reported.
const KillTimeout = 10 * time.Second

// Automatic reports whether a path is that of a run without a name: a number, and eight hexadecimal digits; below the root after
// DefaultParent's name, for there anybody may have groups.
func Automatic(group string) bool {
	name := path.Base(group)
	if path.Dir(group) == "/" {
		var ours bool
		if name, ours = strings.CutPrefix(group, DefaultParent+"-"); !ours {
			return false
		}
	}
	pid, random, ok := strings.Cut(name, "-")
	return ok && pid != "" && strings.Trim(pid, "0123456789") == "" && len(random) == 8 && strings.Trim(random, "0123456789abcdef") == ""
}

// A Swept is a group that was stale.
type Swept struct {
	Cgroup string
	Err    error // why it could not be removed
}

// unmarkedAge is how long Sweep watches a group that says nothing of its owner. Between a group's creation
// and its mark are microseconds.
const unmarkedAge = time.Second

// Sweep kills and removes the stale groups right below some parents. Groups whose owner lives, or can't be seen because it
// is in another pid or time namespace, and groups that are no runs, stay.
func Sweep(ctx context.Context, host *cgroup.Host, parents []string) ([]Swept, error) {
	stale, unmarked, err := findStale(host, parents)
	if err != nil {
		return nil, err
	}
	if len(unmarked) > 0 {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(unmarkedAge):
		}
		_, still, err := findStale(host, parents)
		if err != nil {
			return nil, err
		}
		for _, group := range unmarked {
			// Its owner was killed before it could mark the group, which is empty then; or it can't mark groups.
			if slices.Contains(still, group) && !populated(host, group.Path) {
				stale = append(stale, group)
			}
		}
	}
	return CleanAll(ctx, host, stale), nil
}

// findStale lists the groups whose owner is dead, and those that have none although they are named like runs.
func findStale(host *cgroup.Host, parents []string) (stale, unmarked []Entry, err error) {
	var groups []Entry
	for _, parent := range parents {
		below, err := Groups(host, parent, "")
		if err != nil {
			return nil, nil, err
		}
		groups = append(groups, below...)
	}
	stale, unmarked = sift(groups)
	return stale, unmarked, nil
}

// Stale are those of some groups whose owner is certainly dead.
func Stale(groups []Entry) []Entry {
	stale, _ := sift(groups)
	return stale
}

func sift(groups []Entry) (stale, unmarked []Entry) {
	for _, group := range groups {
		o, ok := ParseOwner(group.Owner)
		switch {
		case ok && o.Dead():
			stale = append(stale, group)
		case group.Owner == "" && Automatic(group.Path):
			unmarked = append(unmarked, group)
		}
	}
	return stale, unmarked
}

// CleanAll is CleanSoon for each of some stale groups, until the end of ctx.
func CleanAll(ctx context.Context, host *cgroup.Host, groups []Entry) (list []Swept) {
	for _, group := range groups {
		if ctx.Err() != nil {
			break
		}
		list = append(list, Swept{group.Path, CleanSoon(ctx, host, group.Path, group.Owner, nil)})
	}
	return list
}

// CleanSoon is Clean, for no longer than KillTimeout.
func CleanSoon(ctx context.Context, host *cgroup.Host, path, owner string, missing []string) error {
	ctx, cancel := context.WithTimeout(ctx, KillTimeout)
	defer cancel()
	return Clean(ctx, host, path, owner, missing)
}

// populated reports whether a process is in a group, or may be.
func populated(host *cgroup.Host, path string) bool {
	g, err := host.Open(path)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	populated, err := g.Populated()
	return populated || err != nil
}
