package revoke_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
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

// Entries are kept until they are due, also if that moved, and then forgotten,
// without a goroutine: by Revoke, or by Check.
func TestListForgets(t *testing.T) {
	for name, call := range map[string]func(*testing.T, *revoke.List){
		"Revoke": func(t *testing.T, l *revoke.List) {
			mustRevoke(t, l, sealed.Revocation{ID: id(9), Until: time.Now().Add(48 * time.Hour)})
		},
		"Check": func(t *testing.T, l *revoke.List) { want(t, l, "unknown", sealed.Info{ID: id(8)}, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := revoke.NewList()
				start := time.Now()
				mustRevoke(t, l, sealed.Revocation{ID: id(1), Until: start.Add(90 * time.Minute)})
				mustRevoke(t, l, sealed.Revocation{ID: id(2), Until: start.Add(30 * time.Minute)})
				mustRevoke(t, l, sealed.Revocation{ID: id(2), Until: start.Add(90 * time.Minute)})
				mustRevoke(t, l, sealed.Revocation{Subject: "a", Before: start, Until: start.Add(30 * time.Minute)})
				mustRevoke(t, l, sealed.Revocation{Subject: "a", Before: start, Until: start.Add(90 * time.Minute)})
				mustRevoke(t, l, sealed.Revocation{Subject: "b", Before: start, Until: start.Add(30 * time.Minute)})
				time.Sleep(90*time.Minute - time.Second)
				call(t, l)
				want(t, l, "not due", sealed.Info{ID: id(1)}, sealed.ErrRevoked)
				want(t, l, "extended", sealed.Info{ID: id(2)}, sealed.ErrRevoked)
				want(t, l, "extended subject", sealed.Info{ID: id(3), Subject: "a", Created: start}, sealed.ErrRevoked)
				time.Sleep(2 * time.Hour)
				call(t, l)
				if n, most := l.Len(), map[string]int{"Revoke": 1, "Check": 0}[name]; n > most {
					t.Errorf("%d entries left, want %d", n, most)
				}
			})
		})
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
