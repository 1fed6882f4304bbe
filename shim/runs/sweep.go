package runs

import (
	"context"

	"github.com/cgshim/cgshim/shim/internal/ledger"
	"github.com/cgshim/cgshim/shim/internal/place"
	"github.com/cgshim/cgshim/shim/internal/seam"
)

// Swept is what Sweep has done about one group.
type Swept struct {
	Cgroup string
	Err    error // why it could not be removed
}

// Sweep kills and removes the groups below some parents that a run has left whose process is dead: of both a run
// and its guardian that were killed with SIGKILL. Groups whose owner lives, or can't be seen because it is in
// another pid or time namespace, and groups that are no runs, stay. No parents: those below which a run of this caller's may be.
func Sweep(ctx context.Context, parents ...string) ([]Swept, error) {
	host, err := seam.Detect()
	if err != nil {
		return nil, err
	}
	if len(parents) == 0 {
		parents = place.Parents(host)
	}
	list, err := ledger.Sweep(ctx, host, parents)
	var swept []Swept
	for _, group := range list {
		swept = append(swept, Swept(group))
	}
	return swept, err
}
