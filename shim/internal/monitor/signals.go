package monitor

import (
	"context"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// signalPolicy is what a signal to this process does, besides being forwarded to the program.
var signalPolicy = map[unix.Signal]struct {
	cancels bool // the program may take the stop timeout, then everything is killed
	stops   bool // this process stops, too, once the program has
}{
	unix.SIGTERM:  {cancels: true},
	unix.SIGINT:   {cancels: true},
	unix.SIGHUP:   {cancels: true},
	unix.SIGQUIT:  {cancels: true},
	unix.SIGUSR1:  {},
	unix.SIGUSR2:  {},
	unix.SIGWINCH: {},
	unix.SIGCONT:  {},
	unix.SIGTSTP:  {stops: true},
}

// Forwarded lists the signals that are forwarded.
func Forwarded() []os.Signal {
	list := make([]os.Signal, 0, len(signalPolicy))
	for sig := range signalPolicy {
		list = append(list, sig)
	}
	return list
}

// Cancels reports whether a signal cancels the run, besides being forwarded.
func Cancels(sig unix.Signal) bool { return signalPolicy[sig].cancels }

// Signals are those to this process that are a run's. Only one goroutine may use them at a time.
type Signals struct {
	// Channel has them. Nil has none.
	Channel <-chan os.Signal
	// Source takes the place of a nil Channel, until Await. Nil has none.
	Source Source
	// Number is 0 for what is no signal of this system; fromTerminal says that the terminal has sent it to the program as well.
	Number func(os.Signal) (number unix.Signal, fromTerminal bool)
}

// A Source has signals for which nobody has to wait.
type Source interface {
	// Pending takes those that have come. It does not wait.
	Pending() []os.Signal
	// Channel has those that come from now on, instead of Pending.
	Channel() <-chan os.Signal
}

// Await has the signals come by the channel, because somebody is going to wait for it.
func (s *Signals) Await() {
	if s.Channel == nil && s.Source != nil {
		s.Channel, s.Source = s.Source.Channel(), nil
	}
}

// Pending takes the signals that have come, without a wait. A closed channel is looked at no more.
func (s *Signals) Pending() (list []os.Signal) {
	if s.Channel == nil && s.Source != nil {
		return s.Source.Pending()
	}
	for {
		select {
		case sig, open := <-s.Channel:
			if !open {
				s.Channel = nil
			} else {
				list = append(list, sig)
			}
		default:
			return list
		}
	}
}

// Cancels reports whether a signal cancels the run.
func (s *Signals) Cancels(sig os.Signal) bool {
	number, _ := s.Number(sig)
	return Cancels(number)
}

// any reports whether some may still come.
func (s *Signals) any() bool { return s.Channel != nil || s.Source != nil }

// An inbox keeps signals for whoever waits in a system call.
type inbox struct {
	mu         sync.Mutex
	list       []os.Signal
	quit, done chan struct{}
}

// newInbox keeps what comes, and the end of ctx as a SIGTERM, and calls wake for each.
func newInbox(ctx context.Context, signals <-chan os.Signal, wake func()) *inbox {
	b := &inbox{quit: make(chan struct{}), done: make(chan struct{})}
	cancelled := ctx.Done()
	keep := func(sig os.Signal) {
		b.mu.Lock()
		b.list = append(b.list, sig)
		b.mu.Unlock()
		wake()
	}
	go func() {
		defer close(b.done)
		for {
			select {
			case <-b.quit:
				return
			case <-cancelled:
				cancelled = nil
				keep(unix.SIGTERM)
			case sig, open := <-signals:
				if !open {
					signals = nil
					continue
				}
				keep(sig)
			}
		}
	}()
	return b
}

func (b *inbox) take() []os.Signal {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := b.list
	b.list = nil
	return list
}

// close returns what has not been taken. What comes later stays in the channel. It can be called again, and on nil.
func (b *inbox) close() []os.Signal {
	if b == nil {
		return nil
	}
	select {
	case <-b.quit:
	default:
		close(b.quit)
	}
	<-b.done
	return b.take()
}
