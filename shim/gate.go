package shim

import (
	"context"
	"sync"
)

// A gate orders the starts of a Pool's programs and its Stop: a program is started either before the gate is shut, or not
// at all. A look at a context is not enough for that: it may end between the look and the start, and the contexts that are
// made of it end one after the other.
type gate struct {
	// passing is held for reading by the threads that start a program, from the last look at shut until there is the
	// program; and by the one that shuts the gate.
	passing sync.RWMutex
	shut    context.Context
	end     context.CancelFunc
}

func (g *gate) open() { g.shut, g.end = context.WithCancel(context.Background()) }

// close shuts the gate, as soon as nobody passes it.
func (g *gate) close() {
	g.passing.Lock()
	defer g.passing.Unlock()
	g.end()
}

// within returns a context that ends with ctx, and when the gate is shut: maybe some time after that.
func (g *gate) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(g.shut, cancel)
	return ctx, func() { stop(); cancel() }
}

// pass is called before a program is started; leave when there is one, or when it may take long until there is: it can be
// called again. The error is errUnwanted. A nil gate is always open: that is a run without a pool.
func (g *gate) pass(ctx context.Context) (leave func(), err error) {
	if g == nil {
		return func() {}, nil
	}
	g.passing.RLock()
	if g.unwanted(ctx) {
		g.passing.RUnlock()
		return nil, errUnwanted
	}
	return sync.OnceFunc(g.passing.RUnlock), nil
}

// unwanted reports whether a run is not to be started any more.
func (g *gate) unwanted(ctx context.Context) bool { return g.shut.Err() != nil || ctx.Err() != nil }
