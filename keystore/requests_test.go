package keystore_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/sealed"
	"example.com/sealed/keystore"
)

// A request with an unknown key waits for a refresh, that for a quarter of a second
// only, together with all others, and once a second.
func TestUnknownKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store gate
		wrapping := newWrapping()
		a, b := mustOpen(t, &store, wrapping, quick), mustOpen(t, &store, wrapping, quick)
		m := manager(t, b)
		if _, err := keystore.Rotate(t.Context(), &store, wrapping, 0); err != nil {
			t.Fatal(err)
		}
		if err := a.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		token, err := manager(t, a).Seal("alice")
		if err != nil {
			t.Fatal(err)
		}
		store.delay.Store(int64(100 * time.Millisecond))
		loads := store.loads.Load()
		start := time.Now()
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if got, _, err := m.Open(t.Context(), token); err != nil || got != "alice" {
					t.Errorf("%q, %v", got, err)
				}
			})
		}
		all.Wait()
		if n := store.loads.Load() - loads; n != 1 {
			t.Errorf("50 requests have read the store %d times, want once", n)
		}
		if took := time.Since(start); took != 100*time.Millisecond {
			t.Errorf("they took %v, want as long as the store", took)
		}

		// Somebody makes up key IDs: they cost one read a second, and no waiting.
		other, err := sealed.New(mustRing(t), sealed.Config[string]{Purpose: "test"})
		if err != nil {
			t.Fatal(err)
		}
		forged, err := other.Seal("mallory")
		if err != nil {
			t.Fatal(err)
		}
		loads = store.loads.Load()
		for start = time.Now(); time.Since(start) < 10*time.Second; time.Sleep(10 * time.Millisecond) {
			if _, _, err := m.Open(t.Context(), forged); !errors.Is(err, sealed.ErrInvalid) {
				t.Fatal(err)
			}
		}
		if n := store.loads.Load() - loads; n < 9 || n > 11 {
			t.Errorf("the store was read %d times in ten seconds of made-up IDs, want about 10", n)
		}

		// A store that hangs holds a request for a quarter of a second, and one
		// whose client has gone not even that.
		store.delay.Store(int64(time.Minute))
		time.Sleep(2 * time.Second)
		start = time.Now()
		m.Open(t.Context(), forged)
		if took := time.Since(start); took != 250*time.Millisecond {
			t.Errorf("with a store that hangs the request took %v, want 250 ms", took)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		start = time.Now()
		m.Open(gone, forged)
		if took := time.Since(start); took != 0 {
			t.Errorf("with its client gone the request took %v", took)
		}
	})
}

func mustRing(t *testing.T) *sealed.Keyring {
	t.Helper()
	ring, err := sealed.NewKeyring(sealed.GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// While the store hangs, requests and Status wait for nothing.
func TestRequestsDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store gate
		s := mustOpen(t, &store, newWrapping(), quick)
		m, err := sealed.New(s.Keyring(), sealed.Config[string]{Purpose: "test"})
		if err != nil {
			t.Fatal(err)
		}
		handler := m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if err := m.Update(r.Context(), func(v *string) { *v += "x" }); err != nil {
				t.Error(err)
			}
		}))
		store.delay.Store(int64(time.Hour))
		refreshed := make(chan struct{})
		go func() {
			defer close(refreshed)
			if err := s.Refresh(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Refresh of a store that hangs: %v", err)
			}
		}()
		synctest.Wait()
		start := time.Now()
		handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "https://shop.example/", nil))
		s.Status()
		s.Keyring().Keys()
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Refresh(impatient); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a Refresh behind another: %v", err)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("waited %v, want only for the second Refresh", took)
		}
		<-refreshed
		if took := time.Since(start); took > 11*time.Second {
			t.Errorf("a reconciliation with a store that hangs took %v, want 10 s", took)
		}
	})
}
