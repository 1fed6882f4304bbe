package shim

import (
	"context"
	"os"

	"github.com/cgshim/cgshim/shim/internal/lifeline"
)

// CheckAlive says what is wrong with the descriptor of a file of Config.Alive.
func CheckAlive(fd int) error { return lifeline.Check(fd) }

// WithAlive returns a context that ends with ctx, or when one of the files, which are right for Config.Alive, ends. It has a goroutine,
// and the files, until stop is called.
func WithAlive(ctx context.Context, files []*os.File) (_ context.Context, stop func()) {
	return lifeline.Watch(files).Context(ctx)
}
