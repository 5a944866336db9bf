package revoke

import (
	"math/rand/v2"
	"slices"
	"time"

	"example.com/sealed"
)

// A restoration gives a log back what it has lost and this instance knows. All
// instances do so at once, each from another point, and leave out what they read
// from the log in the meantime.
type restoration struct {
	known    func() *pass // through all that may be missing
	seen     *List        // what the log has of it, as far as it was read
	pass     *pass        // nil between two
	appended int          // in this pass
	total    int
}

// A pass goes once through a list, or a part of it, as it was when the pass began: what
// came later is in the log, or in the outbox.
type pass struct {
	list     *List
	ends     []int64
	tables   []*table
	at       int // the word of the first table
	subjects []sealed.Revocation
	ids      []sealed.ID
	hours    []int32 // their ends
}

// pass returns a pass through all of the list.
func (l *List) pass() *pass {
	x := l.sessions.index.Load()
	p := &pass{list: l, ends: slices.Clone(x.ends)}
	for _, b := range x.buckets {
		p.tables = append(p.tables, b.table.Load())
	}
	if n := len(p.tables); n > 0 {
		start := rand.N(n)
		p.ends = slices.Concat(p.ends[start:], p.ends[:start])
		p.tables = slices.Concat(p.tables[start:], p.tables[:start])
	}
	l.subjects.Range(func(name, _ any) bool {
		if v, ok := l.ofSubject(name.(string)); ok {
			p.subjects = append(p.subjects, v)
		}
		return true
	})
	return p
}

// ofSubject returns what the list has of a subject.
func (l *List) ofSubject(name string) (v sealed.Revocation, ok bool) {
	x, ok := l.subjects.Load(name)
	if !ok {
		return v, false
	}
	s := x.(subject)
	return sealed.Revocation{Subject: name, Before: s.before, Until: endTime(s.until)}, true
}

// endTime returns the last moment of an hour.
func endTime(hour int64) time.Time { return time.Unix((hour+1)*3600, 0).Add(-time.Millisecond) }

// next returns the next revocations, a batch at most, that seen does not have.
func (p *pass) next(seen *List) (missing []sealed.Revocation) {
	now := hour(time.Now())
	for len(p.subjects) > 0 && len(missing) < batch {
		if v := p.subjects[0]; !seen.covers(v) {
			missing = append(missing, v)
		}
		p.subjects = p.subjects[1:]
	}
	look := func(id sealed.ID, end int64) {
		if until := endTime(end); id != (sealed.ID{}) && end >= now && !seen.sessions.has(id, until) {
			missing = append(missing, sealed.Revocation{ID: id, From: p.list.from(id), Until: until})
		}
	}
	for len(p.ids) > 0 && len(missing) < batch {
		look(p.ids[0], int64(p.hours[0]))
		p.ids, p.hours = p.ids[1:], p.hours[1:]
	}
	for len(p.tables) > 0 && len(missing) < batch {
		t, end := p.tables[0], p.ends[0]
		if p.at >= len(t.words) || end < now {
			p.tables, p.ends, p.at = p.tables[1:], p.ends[1:], 0
			continue
		}
		look(t.id(p.at), end)
		p.at += 2
	}
	return missing
}

// covers reports whether the list says at least as much of a subject.
func (l *List) covers(v sealed.Revocation) bool {
	x, ok := l.subjects.Load(v.Subject)
	return ok && !v.Before.After(x.(subject).before) && hour(v.Until) <= x.(subject).until
}
