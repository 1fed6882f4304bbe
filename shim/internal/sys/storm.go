package sys

import "time"

// A Storm counts orphans that end, to find out whether there are thousands a second: who waits for them then waits a StormPause before
// the next ones, to have several at once. It is for one goroutine.
type Storm struct {
	since time.Time
	count int
}

const (
	// StormMost is how many are no storm, within
	StormMost = 200
	stormSpan = 200 * time.Millisecond
	// StormPause is the pause.
	StormPause = time.Millisecond
)

// Count counts one more, and returns how many there were of late.
func (s *Storm) Count(now time.Time) int {
	if now.Sub(s.since) > stormSpan {
		s.since, s.count = now, 0
	}
	s.count++
	return s.count
}
