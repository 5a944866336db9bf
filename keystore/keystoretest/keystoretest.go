// Package keystoretest checks that a [keystore.Store] keeps its contract.
package keystoretest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"example.com/sealed/keystore"
)

// prompt is how soon a store must return once its context is done.
const prompt = 5 * time.Second

// Run checks a store against the rules of [keystore.Store], each in a subtest.
// open is called in each, several times: all stores that it returns within one
// subtest share one document, as those of several processes would, and it is
// empty at first. They are closed by the cleanup of t, if they need that.
func Run(t *testing.T, open func(t *testing.T) keystore.Store) {
	for _, rule := range []struct {
		name  string
		check func(*testing.T, func() keystore.Store)
	}{
		{"an empty store has no document and no version", empty},
		{"what was saved is loaded, byte for byte", roundTrip},
		{"every save has a version of its own", versions},
		{"a save over another version changes nothing", conflict},
		{"of many saves over one version one succeeds", race},
		{"a reader sees whole documents only", whole},
		{"the store keeps no slices", slicesKept},
		{"a context that is done ends the call", cancelled},
	} {
		t.Run(rule.name, func(t *testing.T) {
			rule.check(t, func() keystore.Store { return open(t) })
		})
	}
}

// document returns one that differs from all others.
func document(n int) []byte {
	return fmt.Appendf(nil, "document %d %s", n, bytes.Repeat([]byte{0, '\n', 0xff, byte(n)}, 300))
}

func load(t *testing.T, s keystore.Store) ([]byte, string) {
	t.Helper()
	got, version, err := s.Load(t.Context())
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return got, version
}

func save(t *testing.T, s keystore.Store, b []byte, version string) string {
	t.Helper()
	next, err := s.Save(t.Context(), b, version)
	if err != nil {
		t.Fatalf("Save over version %q: %v", version, err)
	}
	return next
}

func wantDocument(t *testing.T, s keystore.Store, want []byte, wantVersion string) {
	t.Helper()
	got, version := load(t, s)
	if !bytes.Equal(got, want) {
		t.Errorf("Load returned %d bytes, which differ from the %d that were saved last", len(got), len(want))
	}
	if version != wantVersion {
		t.Errorf("Load returned the version %q, Save of that document %q", version, wantVersion)
	}
}

func empty(t *testing.T, open func() keystore.Store) {
	s := open()
	if got, version := load(t, s); got != nil || version != "" {
		t.Errorf("Load of an empty store: %d bytes, version %q, want a nil document and no version", len(got), version)
	}
	if _, err := s.Save(t.Context(), document(1), "1"); !errors.Is(err, keystore.ErrConflict) {
		t.Errorf("Save over a version that an empty store cannot have: %v, want ErrConflict", err)
	}
	if got, version := load(t, s); got != nil || version != "" {
		t.Errorf("a save that conflicted has left %d bytes, version %q", len(got), version)
	}
}

func roundTrip(t *testing.T, open func() keystore.Store) {
	a, b := open(), open()
	version := save(t, a, document(1), "")
	if version == "" {
		t.Error("Save returned an empty version, which means that there is no document")
	}
	wantDocument(t, a, document(1), version)
	wantDocument(t, b, document(1), version)
	version = save(t, b, document(2), version)
	wantDocument(t, a, document(2), version)

	large := bytes.Repeat(document(3), 64<<10/len(document(3)))
	version = save(t, a, large, version)
	wantDocument(t, b, large, version)
}

func versions(t *testing.T, open func() keystore.Store) {
	s := open()
	var seen []string
	version := ""
	for n := range 20 {
		version = save(t, s, document(n), version)
		if slices.Contains(seen, version) {
			t.Fatalf("save %d has the version %q, as an earlier one: who loaded that could overwrite this", n+1, version)
		}
		seen = append(seen, version)
	}
}

func conflict(t *testing.T, open func() keystore.Store) {
	a, b := open(), open()
	first := save(t, a, document(1), "")
	second := save(t, b, document(2), first)
	for _, stale := range []string{"", first, "no version"} {
		if _, err := a.Save(t.Context(), document(3), stale); !errors.Is(err, keystore.ErrConflict) {
			t.Errorf("Save over the version %q, which is not the last: %v, want ErrConflict", stale, err)
		}
		wantDocument(t, b, document(2), second)
	}
}

func race(t *testing.T, open func() keystore.Store) {
	const writers, rounds = 8, 10
	stores := make([]keystore.Store, writers)
	for i := range stores {
		stores[i] = open()
	}
	version := ""
	for round := range rounds {
		next := make([]string, writers)
		var all sync.WaitGroup
		for i, s := range stores {
			all.Go(func() {
				got, err := s.Save(t.Context(), document(round*writers+i), version)
				if err == nil {
					next[i] = got
				} else if !errors.Is(err, keystore.ErrConflict) {
					t.Errorf("Save among others: %v, want nil or ErrConflict", err)
				}
			})
		}
		all.Wait()
		winner := -1
		for i, v := range next {
			if v == "" {
				continue
			}
			if winner >= 0 {
				t.Fatalf("round %d: writers %d and %d both replaced the version %q", round, winner, i, version)
			}
			winner = i
		}
		if winner < 0 {
			t.Fatalf("round %d: nobody could replace the version %q", round, version)
		}
		version = next[winner]
		wantDocument(t, stores[0], document(round*writers+winner), version)
	}
}

func whole(t *testing.T, open func() keystore.Store) {
	writer, reader := open(), open()
	// Documents of one repeated byte, of very different lengths.
	pattern := func(n int) []byte { return bytes.Repeat([]byte{byte('a' + n%26)}, 1+n%7*20_000) }
	version := save(t, writer, pattern(0), "")
	done := make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() {
		for {
			got, _, err := reader.Load(t.Context())
			if err != nil {
				t.Errorf("Load while another writes: %v", err)
				return
			}
			if len(got) == 0 || len(bytes.Trim(got, string(got[:1]))) != 0 || (len(got)-1)%20_000 != 0 {
				t.Errorf("Load returned %d bytes that no Save was given: a torn document", len(got))
				return
			}
			select {
			case <-done:
				return
			default:
			}
		}
	})
	for n := range 60 {
		version = save(t, writer, pattern(n), version)
	}
	close(done)
	reading.Wait()
}

func slicesKept(t *testing.T, open func() keystore.Store) {
	s := open()
	given := document(1)
	version := save(t, s, given, "")
	clear(given)
	wantDocument(t, s, document(1), version)
	got, _ := load(t, s)
	clear(got)
	wantDocument(t, s, document(1), version)
}

func cancelled(t *testing.T, open func() keystore.Store) {
	s := open()
	version := save(t, s, document(1), "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	start := time.Now()
	if _, _, err := s.Load(ctx); err == nil {
		t.Error("Load with a context that is done returned no error")
	}
	// Whether it happened is open; that it says so is not.
	next, err := s.Save(ctx, document(2), version)
	if err == nil {
		t.Errorf("Save with a context that is done returned the version %q and no error", next)
	}
	if took := time.Since(start); took > prompt {
		t.Errorf("with a context that is done Load and Save took %v, want less than %v", took, prompt)
	}
}
