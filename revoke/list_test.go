package revoke_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"example.com/sealed"
	"example.com/sealed/revoke"
)

func id(n int) sealed.ID { return sealed.ID{byte(n), byte(n >> 8), byte(n >> 16), 1} }

func mustRevoke(t *testing.T, l *revoke.List, r sealed.Revocation) {
	t.Helper()
	if err := l.Revoke(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, l *revoke.List, what string, s sealed.Info, want error) {
	t.Helper()
	if err := l.Check(t.Context(), s); !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func TestList(t *testing.T) {
	l := revoke.NewList()
	now := time.Now()
	until := now.Add(time.Hour)
	mustRevoke(t, l, sealed.Revocation{ID: id(1), Until: until})
	mustRevoke(t, l, sealed.Revocation{ID: id(1), Until: until}) // again
	mustRevoke(t, l, sealed.Revocation{Subject: "alice", Before: now, Until: until})
	mustRevoke(t, l, sealed.Revocation{Subject: "alice", Before: now.Add(-time.Hour), Until: until}) // an earlier one

	want(t, l, "the session", sealed.Info{ID: id(1), Created: now}, sealed.ErrRevoked)
	want(t, l, "another", sealed.Info{ID: id(2), Created: now}, nil)
	want(t, l, "the subject's, before", sealed.Info{ID: id(2), Subject: "alice", Created: now.Add(-time.Millisecond)}, sealed.ErrRevoked)
	want(t, l, "the subject's, at that time", sealed.Info{ID: id(2), Subject: "alice", Created: now}, sealed.ErrRevoked)
	want(t, l, "the subject's, later", sealed.Info{ID: id(2), Subject: "alice", Created: now.Add(time.Millisecond)}, nil)
	want(t, l, "another subject's", sealed.Info{ID: id(2), Subject: "bob", Created: now}, nil)
	want(t, l, "nobody's", sealed.Info{ID: id(2), Created: now}, nil)
	if l.Len() != 2 {
		t.Errorf("Len %d, want 2", l.Len())
	}
	for name, r := range map[string]sealed.Revocation{
		"empty": {Until: until}, "both": {ID: id(1), Subject: "alice", Until: until},
	} {
		if err := l.Revoke(t.Context(), r); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestListIsConcurrent(t *testing.T) {
	l := revoke.NewList()
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 1000 {
				n := g*1000 + i
				if err := l.Revoke(context.Background(), sealed.Revocation{ID: id(n), Until: time.Now().Add(time.Hour)}); err != nil {
					t.Error(err)
				}
				if err := l.Check(context.Background(), sealed.Info{ID: id(n)}); !errors.Is(err, sealed.ErrRevoked) {
					t.Errorf("right after Revoke: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if l.Len() != 4000 {
		t.Errorf("Len %d", l.Len())
	}
}
