package sealed_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/sealed"
	"example.com/sealed/revoke"
)

// syncedRing returns a ring that only its feed changes.
func syncedRing(t *testing.T, entries ...sealed.KeyEntry) (*sealed.Keyring, *sealed.KeyFeed) {
	t.Helper()
	ring, feed := sealed.NewSyncedKeyring()
	if err := feed.Replace(entries); err != nil {
		t.Fatal(err)
	}
	return ring, feed
}

// A key that only this instance knew would be refused by all others.
func TestSyncedKeyringIsChangedByItsFeedOnly(t *testing.T) {
	a, b := sealed.KeyEntry{Key: sealed.GenerateKey()}, sealed.KeyEntry{Key: sealed.GenerateKey()}
	ring, _ := syncedRing(t, a, b)
	before := ring.Keys()
	_, rotated := ring.Rotate(0)
	for name, err := range map[string]error{
		"Rotate": rotated, "Add": ring.Add(sealed.GenerateKey(), time.Time{}),
		"Revoke": ring.Revoke(a.Key.ID()), "Remove": ring.Remove(a.Key.ID()),
	} {
		if err == nil {
			t.Errorf("%s changed a synced ring", name)
		}
	}
	if diff := cmp.Diff(before, ring.Keys()); diff != "" {
		t.Errorf("Keys (-before +after):\n%s", diff)
	}
}

func TestReplace(t *testing.T) {
	now := time.Now().Truncate(time.Millisecond).UTC()
	old, primary, next := sealed.GenerateKey(), sealed.GenerateKey(), sealed.GenerateKey()
	entry := func(k sealed.Key, after time.Duration) sealed.KeyEntry {
		return sealed.KeyEntry{Key: k, Created: now.Add(-time.Hour), Activates: now.Add(after)}
	}
	ring, feed := sealed.NewSyncedKeyring()
	if err := feed.Replace([]sealed.KeyEntry{entry(next, time.Hour), entry(old, -2*time.Minute), entry(primary, -time.Minute)}); err != nil {
		t.Fatal(err)
	}
	describe := func(k sealed.Key, state sealed.KeyState, after time.Duration) sealed.KeyInfo {
		return sealed.KeyInfo{ID: k.ID(), State: state, Created: now.Add(-time.Hour), Activates: now.Add(after)}
	}
	want := []sealed.KeyInfo{
		describe(next, sealed.KeyPending, time.Hour),
		describe(primary, sealed.KeyPrimary, -time.Minute),
		describe(old, sealed.KeyRetiring, -2*time.Minute),
	}
	if diff := cmp.Diff(want, ring.Keys()); diff != "" {
		t.Errorf("Keys (-want +got):\n%s", diff)
	}
	m := mustNew(t, ring, sealed.Config[Session]{})
	b := newBrowser(t)
	b.login(m, "alice")

	// Revoked, with another in its place.
	revoked := entry(primary, -time.Minute)
	revoked.Revoked = true
	if err := feed.Replace([]sealed.KeyEntry{revoked, entry(old, -2*time.Minute)}); err != nil {
		t.Fatal(err)
	}
	b.wantErr(m, sealed.ErrInvalid)
	if got := ring.Keys(); got[0].State != sealed.KeyRevoked || got[1].State != sealed.KeyPrimary || len(got) != 2 {
		t.Errorf("Keys: %+v, want a revoked and a primary one", got)
	}

	// What is refused leaves the ring as it is.
	before := ring.Keys()
	for name, entries := range map[string][]sealed.KeyEntry{
		"no keys":    {},
		"no usable":  {revoked},
		"zero Key":   {entry(old, 0), {}},
		"same ID":    {entry(old, 0), entry(next, 0), entry(old, time.Hour)},
		"zero first": {{Activates: now}},
	} {
		err := feed.Replace(entries)
		if err == nil || !strings.HasPrefix(err.Error(), "sealed: ") {
			t.Errorf("%s: error %v, want one", name, err)
		}
		if diff := cmp.Diff(before, ring.Keys()); diff != "" {
			t.Errorf("%s changed the ring:\n%s", name, diff)
		}
	}

	// A session outlives a replacement that keeps its key.
	b.login(m, "bob")
	if err := feed.Replace([]sealed.KeyEntry{entry(next, -time.Second), entry(old, -2*time.Minute)}); err != nil {
		t.Fatal(err)
	}
	if s, res, err := b.get(m); err != nil || s.User != "bob" || !setsCookie(res) {
		t.Errorf("after Replace: %+v, %v, sealed anew %v", s, err, setsCookie(res))
	}
	if got := b.info(m).KeyID; got != next.ID() {
		t.Errorf("sealed with %s, want %s", got, next.ID())
	}
	// Of two activated at one time the later in the slice seals.
	if err := feed.Replace([]sealed.KeyEntry{entry(next, -time.Second), entry(primary, -time.Second)}); err != nil {
		t.Fatal(err)
	}
	if got := ring.Keys()[0]; got.ID != primary.ID() || got.State != sealed.KeyPrimary {
		t.Errorf("of two with one time %+v comes first, want %s", got, primary.ID())
	}
}

// A token of an unknown key has the ring ask for it, once.
func TestOnUnknownKey(t *testing.T) {
	key := sealed.GenerateKey()
	other, err := sealed.NewKeyring(key)
	if err != nil {
		t.Fatal(err)
	}
	b := newBrowser(t)
	b.login(mustNew(t, other, sealed.Config[Session]{}), "alice")
	first := sealed.KeyEntry{Key: sealed.GenerateKey()}
	ring, feed := syncedRing(t, first)
	m := mustNew(t, ring, sealed.Config[Session]{})
	calls := 0
	feed.OnUnknownKey(func(context.Context) { calls++ })
	b.wantErr(m, sealed.ErrInvalid)
	if calls != 1 {
		t.Errorf("asked %d times, want once", calls)
	}
	type ctxKey struct{}
	feed.OnUnknownKey(func(ctx context.Context) {
		if ctx.Value(ctxKey{}) == nil {
			t.Error("the context is not the request's")
		}
		calls++
		if err := feed.Replace([]sealed.KeyEntry{first, {Key: key}}); err != nil {
			t.Error(err)
		}
	})
	for range 2 {
		b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
			s, err := m.Get(context.WithValue(r.Context(), ctxKey{}, true))
			if err != nil || s.User != "alice" {
				t.Errorf("with the key fetched: %+v, %v", s, err)
			}
		})
	}
	if calls != 2 {
		t.Errorf("asked %d times, want 2", calls)
	}
	feed.OnUnknownKey(nil)
	stranger := newBrowser(t)
	stranger.login(mustNew(t, mustRing(t), sealed.Config[Session]{}), "alice")
	stranger.wantErr(m, sealed.ErrInvalid)
	if calls != 2 {
		t.Error("asked after the function was removed")
	}
}

// A ring that has expired opens and seals nothing, and touches no cookie.
func TestExpireAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring, feed := syncedRing(t, sealed.KeyEntry{Key: sealed.GenerateKey()})
		m := mustNew(t, ring, sealed.Config[Session]{IdleTimeout: time.Hour})
		b := newBrowser(t)
		b.login(m, "alice")
		feed.ExpireAt(time.Now().Add(30 * time.Minute))
		res := b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
			if _, err := m.Get(r.Context()); err != nil {
				t.Error(err)
			}
			time.Sleep(30 * time.Minute) // it expires within the request
			if err := m.Update(r.Context(), func(s *Session) { s.Flash = "x" }); !errors.Is(err, sealed.ErrUnverified) {
				t.Errorf("Update: %v, want ErrUnverified", err)
			}
			if err := m.Renew(r.Context()); !errors.Is(err, sealed.ErrUnverified) {
				t.Errorf("Renew: %v, want ErrUnverified", err)
			}
		})
		if setsCookie(res) {
			t.Error("a session was sealed for a time of last use under an expired ring")
		}
		if _, res, err := b.get(m); !errors.Is(err, sealed.ErrUnverified) || setsCookie(res) {
			t.Errorf("Get: %v, cookie %v, want ErrUnverified and none", err, setsCookie(res))
		}
		newBrowser(t).visit(m, func(_ http.ResponseWriter, r *http.Request) {
			if err := m.Update(r.Context(), func(s *Session) { s.User = "bob" }); !errors.Is(err, sealed.ErrUnverified) {
				t.Errorf("Update of a new session: %v, want ErrUnverified", err)
			}
		})
		// One under a key that this instance has not heard of may be good.
		stranger := newBrowser(t)
		stranger.login(mustNew(t, mustRing(t), sealed.Config[Session]{}), "carol")
		stranger.wantErr(m, sealed.ErrUnverified)
		if _, err := m.Seal(Session{}); !errors.Is(err, sealed.ErrUnverified) {
			t.Errorf("Seal: %v, want ErrUnverified", err)
		}
		feed.ExpireAt(time.Now().Add(time.Minute))
		if s, _, err := b.get(m); err != nil || s.User != "alice" || s.Flash != "" {
			t.Errorf("after news: %+v, %v", s, err)
		}
		stranger.wantErr(m, sealed.ErrInvalid)
		feed.ExpireAt(time.Time{})
		time.Sleep(20 * time.Minute)
		if _, _, err := b.get(m); err != nil {
			t.Errorf("without a bound: %v", err)
		}
	})
}

// Logout holds also while the ring has expired: the ID is known all the same.
func TestDestroyUnderAnExpiredRing(t *testing.T) {
	ring, feed := syncedRing(t, sealed.KeyEntry{Key: sealed.GenerateKey()})
	list := revoke.NewList()
	var events []sealed.Event
	m := mustNew(t, ring, sealed.Config[Session]{Revocations: list, Observe: func(_ context.Context, e sealed.Event) { events = append(events, e) }})
	b := newBrowser(t)
	b.login(m, "alice")
	thief := b.clone()
	feed.ExpireAt(time.Now().Add(-time.Second))
	events = nil
	res := b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		if err := m.Destroy(r.Context()); err != nil {
			t.Errorf("Destroy: %v", err)
		}
	})
	if !setsCookie(res) || b.cookie() != "" {
		t.Errorf("the cookie was not deleted: %q", res.Header["Set-Cookie"])
	}
	var kinds []string
	for _, e := range events {
		kinds = append(kinds, string(e.Kind)+" "+string(e.Reason))
		if e.ID == (sealed.ID{}) {
			t.Errorf("the event %q has no session ID", e.Kind)
		}
	}
	if diff := cmp.Diff([]string{"rejected stale keys", "destroyed "}, kinds); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	feed.ExpireAt(time.Time{})
	thief.wantErr(m, sealed.ErrRevoked)
}

// A request waits once, however many cookies with unknown keys its client sends.
func TestOnUnknownKeyOncePerRequest(t *testing.T) {
	ring, feed := syncedRing(t, sealed.KeyEntry{Key: sealed.GenerateKey()})
	m := mustNew(t, ring, sealed.Config[Session]{})
	calls := 0
	feed.OnUnknownKey(func(context.Context) { calls++ })
	r := httptest.NewRequest("GET", "https://shop.example/", nil)
	for range 4 {
		b := newBrowser(t)
		b.login(mustNew(t, mustRing(t), sealed.Config[Session]{}), "alice")
		r.Header.Add("Cookie", b.cookie())
	}
	m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if _, err := m.Get(r.Context()); !errors.Is(err, sealed.ErrInvalid) {
			t.Errorf("Get: %v", err)
		}
	})).ServeHTTP(httptest.NewRecorder(), r)
	if calls != 1 {
		t.Errorf("asked %d times, want once", calls)
	}
}
