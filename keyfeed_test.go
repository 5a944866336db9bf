package sealed_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/sealed"
	"example.com/sealed/revoke"
	"github.com/google/go-cmp/cmp"
)

// syncedRing returns a ring that only its feed changes, with a key.
func syncedRing(t testing.TB, entries ...sealed.KeyEntry) (*sealed.Keyring, *sealed.KeyFeed) {
	t.Helper()
	if len(entries) == 0 {
		entries = []sealed.KeyEntry{{Key: sealed.GenerateKey()}}
	}
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

// stranger returns a browser with a session under a key, and the key.
func stranger(t *testing.T) (*browser, sealed.Key) {
	t.Helper()
	ring, key := ringAndKey(t)
	b := newBrowser(t)
	b.login(mustNew(t, ring, sealed.Config[Session]{}), "alice")
	return b, key
}

func TestUnknownKeyIsAskedForOnce(t *testing.T) {
	b, _ := stranger(t)
	ring, feed := syncedRing(t)
	calls := 0
	feed.OnUnknownKey(func(context.Context) { calls++ })
	b.wantErr(mustNew(t, ring, sealed.Config[Session]{}), sealed.ErrInvalid)
	if calls != 1 {
		t.Errorf("asked %d times, want once", calls)
	}
}

// A request waits once, however many cookies with unknown keys its client sends.
func TestUnknownKeysOfOneRequestAreAskedForOnce(t *testing.T) {
	ring, feed := syncedRing(t)
	m := mustNew(t, ring, sealed.Config[Session]{})
	calls := 0
	feed.OnUnknownKey(func(context.Context) { calls++ })
	var cookies []string
	for range 4 {
		b, _ := stranger(t)
		cookies = append(cookies, b.cookie())
	}
	if _, _, err := getWith(m, cookies...); !errors.Is(err, sealed.ErrInvalid) {
		t.Errorf("Get: %v", err)
	}
	if calls != 1 {
		t.Errorf("asked %d times, want once", calls)
	}
}

func TestKeyThatIsFetchedOpensTheSessionAndIsNotAskedForAgain(t *testing.T) {
	b, key := stranger(t)
	first := sealed.KeyEntry{Key: sealed.GenerateKey()}
	ring, feed := syncedRing(t, first)
	m := mustNew(t, ring, sealed.Config[Session]{})
	calls := 0
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
	if calls != 1 {
		t.Errorf("asked %d times, want once", calls)
	}
}

func TestNobodyIsAskedWhenTheFunctionIsRemoved(t *testing.T) {
	b, _ := stranger(t)
	ring, feed := syncedRing(t)
	calls := 0
	feed.OnUnknownKey(func(context.Context) { calls++ })
	feed.OnUnknownKey(nil)
	b.wantErr(mustNew(t, ring, sealed.Config[Session]{}), sealed.ErrInvalid)
	if calls != 0 {
		t.Error("asked after the function was removed")
	}
}

// expired returns a ring that has expired, its manager, and a browser with a session.
func expired(t *testing.T) (*sealed.KeyFeed, *sealed.Manager[Session], *browser) {
	t.Helper()
	ring, feed := syncedRing(t)
	m := mustNew(t, ring, sealed.Config[Session]{IdleTimeout: time.Hour})
	b := newBrowser(t)
	b.login(m, "alice")
	feed.ExpireAt(time.Now().Add(30 * time.Minute))
	time.Sleep(30 * time.Minute)
	return feed, m, b
}

func TestRingThatExpiresDuringARequestSealsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring, feed := syncedRing(t)
		m := mustNew(t, ring, sealed.Config[Session]{IdleTimeout: time.Hour})
		b := newBrowser(t)
		b.login(m, "alice")
		feed.ExpireAt(time.Now().Add(30 * time.Minute))
		res := b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
			if _, err := m.Get(r.Context()); err != nil {
				t.Error(err)
			}
			time.Sleep(30 * time.Minute)
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
		feed.ExpireAt(time.Now().Add(time.Minute))
		if s, _, err := b.get(m); err != nil || s.User != "alice" || s.Flash != "" {
			t.Errorf("after news: %+v, %v", s, err)
		}
	})
}

func TestExpiredRingOpensNothingAndTouchesNoCookie(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, m, b := expired(t)
		if _, res, err := b.get(m); !errors.Is(err, sealed.ErrUnverified) || setsCookie(res) {
			t.Errorf("Get: %v, cookie %v, want ErrUnverified and none", err, setsCookie(res))
		}
	})
}

func TestExpiredRingSealsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, m, _ := expired(t)
		request(m, func(_ http.ResponseWriter, r *http.Request) {
			if err := m.Update(r.Context(), func(s *Session) { s.User = "bob" }); !errors.Is(err, sealed.ErrUnverified) {
				t.Errorf("Update of a new session: %v, want ErrUnverified", err)
			}
		})
		if _, err := m.Seal(Session{}); !errors.Is(err, sealed.ErrUnverified) {
			t.Errorf("Seal: %v, want ErrUnverified", err)
		}
	})
}

// One under a key that this instance has not heard of may be good.
func TestExpiredRingCannotTellOfAnUnknownKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		feed, m, _ := expired(t)
		b, _ := stranger(t)
		b.wantErr(m, sealed.ErrUnverified)
		feed.ExpireAt(time.Now().Add(time.Minute))
		b.wantErr(m, sealed.ErrInvalid)
	})
}

func TestRingThatHearsNewsOpensAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		feed, m, b := expired(t)
		b.wantErr(m, sealed.ErrUnverified)
		feed.ExpireAt(time.Now().Add(time.Minute))
		if s, _, err := b.get(m); err != nil || s.User != "alice" || s.Flash != "" {
			t.Errorf("after news: %+v, %v", s, err)
		}
	})
}

func TestRingWithoutABoundDoesNotExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		feed, m, b := expired(t)
		feed.ExpireAt(time.Time{})
		time.Sleep(20 * time.Minute)
		if _, _, err := b.get(m); err != nil {
			t.Errorf("without a bound: %v", err)
		}
	})
}

// The ID is known all the same.
func TestDestroyUnderAnExpiredRingRevokesAndDeletes(t *testing.T) {
	var rec recorder
	ring, feed := syncedRing(t)
	m := mustNew(t, ring, sealed.Config[Session]{Revocations: revoke.NewList(), Observe: rec.observe})
	b := newBrowser(t)
	b.login(m, "alice")
	thief := b.clone()
	feed.ExpireAt(time.Now().Add(-time.Second))
	rec.take()
	res := b.visit(m, func(_ http.ResponseWriter, r *http.Request) { destroy(t, m, r) })
	if !setsCookie(res) || b.cookie() != "" {
		t.Errorf("the cookie was not deleted: %q", res.Header["Set-Cookie"])
	}
	for _, e := range rec.events {
		if e.ID == (sealed.ID{}) {
			t.Errorf("the event %q has no session ID", e.Kind)
		}
	}
	rec.want(t, "Destroy", "rejected stale keys", "destroyed")
	feed.ExpireAt(time.Time{})
	thief.wantErr(m, sealed.ErrRevoked)
}

// replaced returns a ring of three keys and its feed, what its entries are made by, and
// the time that they go by.
func replaced(t *testing.T) (ring *sealed.Keyring, feed *sealed.KeyFeed, old, primary, next sealed.Key, entry func(sealed.Key, time.Duration) sealed.KeyEntry, now time.Time) {
	t.Helper()
	now = time.Now().Truncate(time.Millisecond).UTC()
	old, primary, next = sealed.GenerateKey(), sealed.GenerateKey(), sealed.GenerateKey()
	entry = func(k sealed.Key, after time.Duration) sealed.KeyEntry {
		return sealed.KeyEntry{Key: k, Created: now.Add(-time.Hour), Activates: now.Add(after)}
	}
	ring, feed = sealed.NewSyncedKeyring()
	if err := feed.Replace([]sealed.KeyEntry{entry(next, time.Hour), entry(old, -2*time.Minute), entry(primary, -time.Minute)}); err != nil {
		t.Fatal(err)
	}
	return ring, feed, old, primary, next, entry, now
}

func TestReplaceFillsAnEmptyRing(t *testing.T) {
	ring, _, old, primary, next, _, now := replaced(t)
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
}

func TestReplaceRevokesAKeyWithAnotherInItsPlace(t *testing.T) {
	ring, feed, old, primary, _, entry, _ := replaced(t)
	m := mustNew(t, ring, sealed.Config[Session]{})
	b := newBrowser(t)
	b.login(m, "alice")
	revoked := entry(primary, -time.Minute)
	revoked.Revoked = true
	if err := feed.Replace([]sealed.KeyEntry{revoked, entry(old, -2*time.Minute)}); err != nil {
		t.Fatal(err)
	}
	b.wantErr(m, sealed.ErrInvalid)
	if got := ring.Keys(); got[0].State != sealed.KeyRevoked || got[1].State != sealed.KeyPrimary || len(got) != 2 {
		t.Errorf("Keys: %+v, want a revoked and a primary one", got)
	}
}

func TestReplaceThatIsRefusedLeavesTheRingAsItIs(t *testing.T) {
	ring, feed, old, primary, next, entry, now := replaced(t)
	revoked := entry(primary, -time.Minute)
	revoked.Revoked = true
	if err := feed.Replace([]sealed.KeyEntry{revoked, entry(old, -2*time.Minute)}); err != nil {
		t.Fatal(err)
	}
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
}

func TestSessionOutlivesAReplacementThatKeepsItsKey(t *testing.T) {
	ring, feed, old, primary, next, entry, _ := replaced(t)
	revoked := entry(primary, -time.Minute)
	revoked.Revoked = true
	if err := feed.Replace([]sealed.KeyEntry{revoked, entry(old, -2*time.Minute)}); err != nil {
		t.Fatal(err)
	}
	m := mustNew(t, ring, sealed.Config[Session]{})
	b := newBrowser(t)
	b.login(m, "bob")
	if err := feed.Replace([]sealed.KeyEntry{entry(next, -time.Second), entry(old, -2*time.Minute)}); err != nil {
		t.Fatal(err)
	}
	if s, res, err := b.get(m); err != nil || s.User != "bob" || !setsCookie(res) {
		t.Errorf("after Replace: %+v, %v, re-encrypted %v", s, err, setsCookie(res))
	}
	if got := b.info(m).KeyID; got != next.ID() {
		t.Errorf("sealed with %s, want %s", got, next.ID())
	}
}

func TestLaterOfTwoEntriesActivatedAtOneTimeIsPrimary(t *testing.T) {
	ring, feed, _, primary, next, entry, _ := replaced(t)
	if err := feed.Replace([]sealed.KeyEntry{entry(next, -time.Second), entry(primary, -time.Second)}); err != nil {
		t.Fatal(err)
	}
	if got := ring.Keys()[0]; got.ID != primary.ID() || got.State != sealed.KeyPrimary {
		t.Errorf("of two with one time %+v comes first, want %s", got, primary.ID())
	}
}
