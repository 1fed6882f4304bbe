package monitor

import "time"

// alarms are the times at which a run has to do something.
type alarms struct {
	wall, cpu, stop, grace, suspend, sample, samplePeak, oom, baseline, attend, orphans, lost alarm
}

func (t *alarms) all() [12]*alarm {
	return [...]*alarm{&t.wall, &t.cpu, &t.stop, &t.grace, &t.suspend, &t.sample, &t.samplePeak, &t.oom, &t.baseline, &t.attend, &t.orphans, &t.lost}
}

// next is the first of them; the zero time if none is set.
func (t *alarms) next() (next time.Time) {
	for _, a := range t.all() {
		if a.isSet() && (next.IsZero() || a.at.Before(next)) {
			next = a.at
		}
	}
	return next
}

// An alarm is one of them. The zero alarm is not set.
type alarm struct{ at time.Time }

func (a *alarm) set(in time.Duration) { a.at = time.Now().Add(max(in, 0)) }

func (a *alarm) isSet() bool { return !a.at.IsZero() }

// due reports whether it is time, once.
func (a *alarm) due(now time.Time) bool {
	if !a.isSet() || now.Before(a.at) {
		return false
	}
	a.at = time.Time{}
	return true
}
