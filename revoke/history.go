package revoke

import (
	"math/rand/v2"
	"slices"
	"time"

	"example.com/sealed"
)

// A history is where in the log a replica was in the last minutes, and what it has read
// since then. A log that has lost its end, as after a failover, mostly has one of these
// places: what is before that is there, and need not be read again.
type history struct{ places []place } // oldest first

// A place is a cursor up to which the log was read at a time, and what was read from
// there to the next place.
type place struct {
	cursor string
	at     time.Time
	since  recent
}

// recent is what was read in a while, in twenty bytes for a session.
type recent struct {
	ids      []sealed.ID
	ends     []int32 // the hours after which they may be forgotten
	subjects []string
}

const (
	placeEvery = 30 * time.Second
	placesKept = 5 * time.Minute // longer than a server that takes over lacks
)

// note adds what was read from the log.
func (h *history) note(v sealed.Revocation) {
	if len(h.places) == 0 {
		return // on the way through the whole log
	}
	s := &h.places[len(h.places)-1].since
	if v.Subject != "" {
		s.subjects = append(s.subjects, v.Subject)
		return
	}
	s.ids, s.ends = append(s.ids, v.ID), append(s.ends, int32(hour(v.Until)))
}

// reached notes that the log was read to a cursor.
func (h *history) reached(cursor string, now time.Time) {
	if n := len(h.places); n > 0 && (h.places[n-1].cursor == cursor || now.Sub(h.places[n-1].at) < placeEvery) {
		return
	}
	for len(h.places) > 1 && now.Sub(h.places[1].at) >= placesKept {
		h.places = slices.Delete(h.places, 0, 1)
	}
	h.places = append(h.places, place{cursor: cursor, at: now})
}

// rewind makes the place i the last, and returns what was read since then.
func (h *history) rewind(i int) recent {
	var all recent
	ids, subjects := map[sealed.ID]bool{}, map[string]bool{} // what is read again is noted again
	for _, p := range h.places[i:] {
		for n, id := range p.since.ids {
			if !ids[id] {
				ids[id] = true
				all.ids, all.ends = append(all.ids, id), append(all.ends, p.since.ends[n])
			}
		}
		for _, name := range p.since.subjects {
			if !subjects[name] {
				subjects[name] = true
				all.subjects = append(all.subjects, name)
			}
		}
	}
	h.places = slices.Delete(h.places, i+1, len(h.places))
	h.places[i].since = all
	return recent{slices.Clip(all.ids), slices.Clip(all.ends), slices.Clip(all.subjects)}
}

// pass returns a pass through what was read, as the list has it.
func (s recent) pass(l *List) *pass {
	p := &pass{list: l, ids: s.ids, hours: s.ends}
	if n := len(s.ids); n > 0 {
		start := rand.N(n)
		p.ids = slices.Concat(s.ids[start:], s.ids[:start])
		p.hours = slices.Concat(s.ends[start:], s.ends[:start])
	}
	for _, name := range s.subjects {
		if v, ok := l.ofSubject(name); ok {
			p.subjects = append(p.subjects, v)
		}
	}
	return p
}
