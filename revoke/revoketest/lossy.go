package revoketest

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"example.com/sealed"
	"example.com/sealed/revoke"
)

// Lossy is a [revoke.Log] in memory that can lose entries, as a server does whose data
// was lost, or restored from a backup. The zero Lossy is empty and ready. Its methods
// may be called concurrently.
type Lossy struct {
	mu     sync.Mutex
	log    *revoke.Memory
	losses []loss
}

// A loss is one call of Lose. Before it, the log began with the entry of that number.
type loss struct{ first, kept int }

func (l *Lossy) memory() *revoke.Memory {
	if l.log == nil {
		l.log = new(revoke.Memory)
	}
	return l.log
}

// Lose forgets all entries but the first. A reader that was further meets [revoke.ErrGap].
func (l *Lossy) Lose(keep int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ctx := context.Background()
	var kept []sealed.Revocation
	first := -1
	for page := (revoke.Page{More: true}); page.More; {
		var err error
		if page, err = l.memory().Read(ctx, page.Cursor); err != nil {
			panic(err) // a log in memory that nobody else changes has no reason to
		}
		if position := position(page.Cursor); first < 0 {
			first = position - len(page.Revocations)
		}
		kept = append(kept, page.Revocations...)
	}
	kept = kept[:min(keep, len(kept))]
	l.losses = append(l.losses, loss{first, len(kept)})
	l.log = new(revoke.Memory)
	if err := l.log.Append(ctx, kept); err != nil {
		panic(err)
	}
}

// position returns how many entries a cursor of a revoke.Memory has behind it.
func position(cursor string) (n int) {
	fmt.Sscanf(cursor, "%d-", &n)
	return n
}

// inner returns the cursor of the log as it is now for one that Read has returned, which
// begins with the number of losses before it.
func (l *Lossy) inner(cursor string) (string, error) {
	if cursor == "" {
		return "", nil
	}
	epoch, inner, ok := strings.Cut(cursor, "/")
	var before int
	if n, err := fmt.Sscan(epoch, &before); !ok || n != 1 || err != nil || before < 0 || before > len(l.losses) {
		return "", fmt.Errorf("revoketest: %.20q is no cursor of this log", cursor)
	}
	for _, x := range l.losses[before:] {
		read := position(inner) - x.first
		if read < 0 || read > x.kept {
			return "", revoke.ErrGap
		}
		inner = fmt.Sprint(read, "-", read)
	}
	return inner, nil
}

// Append implements [revoke.Log].
func (l *Lossy) Append(ctx context.Context, revocations []sealed.Revocation) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.memory().Append(ctx, revocations)
}

// Read implements [revoke.Log].
func (l *Lossy) Read(ctx context.Context, cursor string) (revoke.Page, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	inner, err := l.inner(cursor)
	if err != nil {
		return revoke.Page{}, err
	}
	page, err := l.memory().Read(ctx, inner)
	page.Cursor = fmt.Sprint(len(l.losses), "/", page.Cursor)
	return page, err
}

// Wait implements [revoke.Log].
func (l *Lossy) Wait(ctx context.Context, cursor string) error {
	l.mu.Lock()
	inner, err := l.inner(cursor)
	log := l.memory()
	l.mu.Unlock()
	if err != nil {
		return err
	}
	return log.Wait(ctx, inner)
}

// Prune implements [revoke.Log].
func (l *Lossy) Prune(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.memory().Prune(ctx)
}
