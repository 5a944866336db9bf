package sealed_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"example.com/sealed"
	"example.com/sealed/revoke"
)

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
	ring := mustRing(t)
	calls := 0
	ring.OnUnknownKey(func(context.Context) { calls++ })
	b.wantErr(mustNew(t, ring, sealed.Config[Session]{}), sealed.ErrInvalid)
	if calls != 1 {
		t.Errorf("asked %d times, want once", calls)
	}
}

// A request waits once, however many cookies with unknown keys its client sends.
func TestUnknownKeysOfOneRequestAreAskedForOnce(t *testing.T) {
	ring := mustRing(t)
	m := mustNew(t, ring, sealed.Config[Session]{})
	calls := 0
	ring.OnUnknownKey(func(context.Context) { calls++ })
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
	ring := mustRing(t)
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
	ring := mustRing(t)
	calls := 0
	ring.OnUnknownKey(func(context.Context) { calls++ })
	ring.OnUnknownKey(nil)
	b.wantErr(mustNew(t, ring, sealed.Config[Session]{}), sealed.ErrInvalid)
	if calls != 0 {
		t.Error("asked after the function was removed")
	}
}

// expired returns a ring that has expired, its manager, and a browser with a session.
func expired(t *testing.T) (*sealed.Keyring, *sealed.Manager[Session], *browser) {
	t.Helper()
	ring := mustRing(t)
	m := mustNew(t, ring, sealed.Config[Session]{IdleTimeout: time.Hour})
	b := newBrowser(t)
	b.login(m, "alice")
	ring.ExpireAt(time.Now().Add(30 * time.Minute))
	time.Sleep(30 * time.Minute)
	return ring, m, b
}

func TestRingThatExpiresDuringARequestSealsNothing(t *testing.T) {
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
		ring.ExpireAt(time.Now().Add(time.Minute))
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
		ring, m, _ := expired(t)
		b, _ := stranger(t)
		b.wantErr(m, sealed.ErrUnverified)
		ring.ExpireAt(time.Now().Add(time.Minute))
		b.wantErr(m, sealed.ErrInvalid)
	})
}

func TestRingThatHearsNewsOpensAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring, m, b := expired(t)
		b.wantErr(m, sealed.ErrUnverified)
		ring.ExpireAt(time.Now().Add(time.Minute))
		if s, _, err := b.get(m); err != nil || s.User != "alice" || s.Flash != "" {
			t.Errorf("after news: %+v, %v", s, err)
		}
	})
}

func TestRingWithoutABoundDoesNotExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring, m, b := expired(t)
		ring.ExpireAt(time.Time{})
		time.Sleep(20 * time.Minute)
		if _, _, err := b.get(m); err != nil {
			t.Errorf("without a bound: %v", err)
		}
	})
}

// The ID is known all the same.
func TestDestroyUnderAnExpiredRingRevokesAndDeletes(t *testing.T) {
	var rec recorder
	ring := mustRing(t)
	m := mustNew(t, ring, sealed.Config[Session]{Revocations: revoke.NewList(), Observe: rec.observe})
	b := newBrowser(t)
	b.login(m, "alice")
	thief := b.clone()
	ring.ExpireAt(time.Now().Add(-time.Second))
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
	ring.ExpireAt(time.Time{})
	thief.wantErr(m, sealed.ErrRevoked)
}
