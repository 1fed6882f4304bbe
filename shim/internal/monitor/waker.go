package monitor

import (
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/shim/internal/sys"
)

// A waker ends a wait, from any goroutine. It is an eventfd; the zero waker, or one for which there was no descriptor, is
// none.
type waker struct {
	mu sync.Mutex
	fd int
}

func (w *waker) open() {
	if fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err == nil {
		w.fd = fd
	}
}

func (w *waker) up() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fd != 0 {
		sys.RaiseEvent(w.fd)
	}
}

// down takes what up has written.
func (w *waker) down() {
	var buf [8]byte
	_, _ = unix.Read(w.fd, buf[:])
}

// close closes the eventfd. It holds mu so that a late up cannot write to a descriptor that has been reused.
func (w *waker) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fd != 0 {
		_ = unix.Close(w.fd)
		w.fd = 0
	}
}
