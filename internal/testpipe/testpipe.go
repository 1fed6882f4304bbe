// Package testpipe makes pipes for tests.
package testpipe

import (
	"os"
	"testing"
)

// New makes a pipe that is closed at the end of the test.
func New(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}
