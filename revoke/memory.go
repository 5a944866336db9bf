package revoke

import (
	"context"
	"fmt"
	"sync"
	"time"

	"example.com/sealed"
)

// Memory is a [Log] in memory, for tests. The zero Memory is empty and ready.
type Memory struct {
	mu      sync.Mutex
	entries []memoryEntry
	pruned  int           // how many are gone from the front
	last    int           // the number of the last of those
	number  int           // the highest that was given
	changed chan struct{} // closed by the next Append
}

// A memoryEntry has a number that no other ever has.
type memoryEntry struct {
	sealed.Revocation
	number int
}

// memoryPage is small, so that tests see more than one.
const memoryPage = 10

// Append implements [Log].
func (m *Memory) Append(ctx context.Context, revocations []sealed.Revocation) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, v := range revocations {
		if err := check(v); err != nil {
			return err
		}
	}
	for _, v := range revocations {
		m.number++
		m.entries = append(m.entries, memoryEntry{v, m.number})
	}
	if m.changed != nil {
		close(m.changed)
		m.changed = nil
	}
	return nil
}

// Read implements [Log]. A cursor is how many entries there are up to it, and the
// number of the last.
func (m *Memory) Read(ctx context.Context, cursor string) (Page, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return Page{}, err
	}
	next, err := m.position(cursor)
	if err != nil {
		return Page{}, err
	}
	page := Page{More: len(m.entries)-next > memoryPage, Time: time.Now()}
	last := m.last
	for ; next < len(m.entries) && len(page.Revocations) < memoryPage; next++ {
		page.Revocations = append(page.Revocations, m.entries[next].Revocation)
	}
	if next > 0 {
		last = m.entries[next-1].number
	}
	page.Cursor = fmt.Sprint(m.pruned+next, "-", last)
	return page, nil
}

// position returns the index of the first entry behind a cursor.
func (m *Memory) position(cursor string) (int, error) {
	if cursor == "" {
		return 0, nil
	}
	var position, number int
	if _, err := fmt.Sscanf(cursor, "%d-%d", &position, &number); err != nil || fmt.Sprint(position, "-", number) != cursor {
		return 0, fmt.Errorf("revoke: %.20q is no cursor of this log", cursor)
	}
	next, last := position-m.pruned, m.last
	if next > 0 && next <= len(m.entries) {
		last = m.entries[next-1].number
	}
	if next < 0 || next > len(m.entries) || number != last {
		return 0, ErrGap
	}
	return next, nil
}

// Wait implements [Log].
func (m *Memory) Wait(ctx context.Context, cursor string) error {
	changed, err := m.behind(cursor)
	if changed == nil || err != nil {
		return err
	}
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// behind returns what is closed when there is something new behind a cursor, or
// nil if there is already.
func (m *Memory) behind(cursor string) (<-chan struct{}, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next, err := m.position(cursor)
	if err != nil || next < len(m.entries) {
		return nil, err
	}
	if m.changed == nil {
		m.changed = make(chan struct{})
	}
	return m.changed, nil
}

// Prune implements [Log].
func (m *Memory) Prune(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := time.Now().Add(-time.Hour)
	for len(m.entries) > 0 && m.entries[0].Until.Before(before) {
		m.last = m.entries[0].number
		m.entries, m.pruned = m.entries[1:], m.pruned+1
	}
	return ctx.Err()
}
