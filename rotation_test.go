package sealed_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/sealed"
)

// A rotationTest has a ring whose first key sealed the browser's session, and whose
// second key activates in an hour.
type rotationTest struct {
	ring          *sealed.Keyring
	first, second sealed.Key
	m             *sealed.Manager[Session]
	b             *browser
}

func newRotationTest(t *testing.T) rotationTest {
	t.Helper()
	ring, first := ringAndKey(t)
	x := rotationTest{ring: ring, first: first, m: mustNew(t, ring, sealed.Config[Session]{}), b: newBrowser(t)}
	x.b.login(x.m, "alice")
	var err error
	if x.second, err = ring.Rotate(time.Hour); err != nil {
		t.Fatal(err)
	}
	return x
}

// ofOther returns a browser with a session of another instance, which already seals
// with the second key.
func (x rotationTest) ofOther(t *testing.T) *browser {
	t.Helper()
	b := newBrowser(t)
	b.login(mustNew(t, ringOf(t, x.second), sealed.Config[Session]{}), "bob")
	return b
}

func TestPendingKeyOpensBeforeItSeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newRotationTest(t)
		if _, res, err := x.ofOther(t).get(x.m); err != nil || setsCookie(res) {
			t.Errorf("a session under a pending key: error %v, cookie %v; want neither", err, setsCookie(res))
		}
		if _, res, err := x.b.get(x.m); err != nil || setsCookie(res) || x.b.info(x.m).KeyID != x.first.ID() {
			t.Errorf("before the activation: %v, cookie %v, want no change", err, setsCookie(res))
		}
	})
}

func TestChangeUnderAPendingKeyIsSealedWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newRotationTest(t)
		b := x.ofOther(t)
		b.update(x.m, func(s *Session) { s.Flash = "x" })
		if got := b.info(x.m).KeyID; got != x.second.ID() {
			t.Errorf("sealed back to %s from the newer key %s", got, x.second.ID())
		}
	})
}

func TestReadReencryptsWithThePrimaryOnceAndChangesNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newRotationTest(t)
		time.Sleep(time.Hour)
		before := x.b.info(x.m) // it reads
		after := x.b.info(x.m)
		if before.KeyID != x.first.ID() || after.KeyID != x.second.ID() {
			t.Errorf("sealed with %s, then %s; want re-encrypted with the primary", before.KeyID, after.KeyID)
		}
		after.KeyID = before.KeyID
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("re-encrypting changed the session (-before +after):\n%s", diff)
		}
		if _, res, _ := x.b.get(x.m); setsCookie(res) {
			t.Error("re-encrypted twice")
		}
	})
}

func TestReencryptedSessionOutlivesItsFirstKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newRotationTest(t)
		time.Sleep(time.Hour)
		x.b.get(x.m)
		if err := x.ring.Remove(x.first.ID()); err != nil {
			t.Fatal(err)
		}
		if s, _, err := x.b.get(x.m); err != nil || s.User != "alice" {
			t.Errorf("after the old key is gone: %+v, %v", s, err)
		}
	})
}

func TestPrefetchedPageReencrypts(t *testing.T) {
	ring := mustRing(t)
	m := mustNew(t, ring, sealed.Config[Session]{IdleTimeout: time.Hour})
	b := newBrowser(t)
	b.login(m, "alice")
	ring.Rotate(0)
	read := func(_ http.ResponseWriter, r *http.Request) { m.Get(r.Context()) }
	if res := b.visit(m, read, "Sec-Purpose", "prefetch"); !setsCookie(res) {
		t.Error("not re-encrypted on a prefetched page")
	}
}

func TestSessionThatIsNotReadIsNotReencrypted(t *testing.T) {
	ring := mustRing(t)
	m := mustNew(t, ring, sealed.Config[Session]{})
	b := newBrowser(t)
	b.login(m, "alice")
	if _, err := ring.Rotate(0); err != nil {
		t.Fatal(err)
	}
	if res := b.visit(m, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }); setsCookie(res) {
		t.Error("re-encrypted without being read")
	}
}

func TestReadDoesNotReencryptWhatWouldNotFit(t *testing.T) {
	ring := mustRing(t)
	wide := mustNew(t, ring, sealed.Config[Session]{Cookie: sealed.Cookie{Name: "__Secure-s", MaxSize: 4093}})
	narrow := mustNew(t, ring, sealed.Config[Session]{Cookie: sealed.Cookie{Name: "__Secure-s", Path: "/" + strings.Repeat("p", 900), MaxSize: 4093}})
	res := request(wide, func(_ http.ResponseWriter, r *http.Request) {
		if err := wide.Update(r.Context(), func(s *Session) { s.Flash = strings.Repeat("x", 2600) }); err != nil {
			t.Error(err)
		}
	})
	cookie := cookieOf(res)
	if _, err := ring.Rotate(0); err != nil {
		t.Fatal(err)
	}
	if _, res, err := getWith(narrow, cookie); err != nil || setsCookie(res) {
		t.Errorf("%v, %d Set-Cookie lines, want none", err, len(res.Header["Set-Cookie"]))
	}
}

func TestRevokedKeyOpensNothing(t *testing.T) {
	ring, first := ringAndKey(t)
	m := mustNew(t, ring, sealed.Config[Session]{})
	b := newBrowser(t)
	b.login(m, "alice")
	ring.Rotate(0)
	if err := ring.Revoke(first.ID()); err != nil {
		t.Fatal(err)
	}
	b.wantErr(m, sealed.ErrInvalid)
}

func TestWithoutAnActiveKeyTheNextToBeActiveSeals(t *testing.T) {
	ring, first := ringAndKey(t)
	m := mustNew(t, ring, sealed.Config[Session]{})
	b := newBrowser(t)
	pending, _ := ring.Rotate(time.Hour)
	if _, err := ring.Rotate(2 * time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := ring.Revoke(first.ID()); err != nil {
		t.Fatal(err)
	}
	b.login(m, "alice")
	if got := b.info(m).KeyID; got != pending.ID() {
		t.Errorf("sealed with %s, want %s, which is next", got, pending.ID())
	}
}

// takenDuringRequest reads the session, takes its key away within the request, and
// checks that the cookie stays, and the events.
func takenDuringRequest(t *testing.T, take func(*sealed.Keyring, string) error, events ...string) {
	t.Helper()
	var rec recorder
	ring, key := ringAndKey(t)
	m := mustNew(t, ring, sealed.Config[Session]{Observe: rec.observe})
	b := newBrowser(t)
	b.login(m, "alice")
	rec.take()
	res := b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		m.Get(r.Context())
		ring.Rotate(0)
		if err := take(ring, key.ID()); err != nil {
			t.Error(err)
		}
	})
	if setsCookie(res) {
		t.Errorf("the cookie was touched: %q", res.Header["Set-Cookie"])
	}
	rec.want(t, "one request", events...)
}

func TestRevokedKeyDuringRequestSetsNoCookie(t *testing.T) {
	takenDuringRequest(t, (*sealed.Keyring).Revoke, "opened", "rejected revoked key")
}

func TestRemovedKeyDuringRequestSetsNoCookie(t *testing.T) {
	takenDuringRequest(t, (*sealed.Keyring).Remove, "opened", "rejected unknown key")
}

// It must not carry a forged session over to a good key.
func TestRequestUnderWayDoesNotSaveASessionFromItsRevokedKey(t *testing.T) {
	for name, change := range map[string]func(*sealed.Manager[Session], context.Context) error{
		"read": func(*sealed.Manager[Session], context.Context) error { return nil },
		"update": func(m *sealed.Manager[Session], ctx context.Context) error {
			return m.Update(ctx, func(s *Session) { s.Flash = "x" })
		},
		"renew": (*sealed.Manager[Session]).Renew,
	} {
		for when, early := range map[string]bool{"revoked before it": true, "revoked after it": false} {
			t.Run(name+", "+when, func(t *testing.T) {
				ring, key := ringAndKey(t)
				m := mustNew(t, ring, sealed.Config[Session]{})
				b := newBrowser(t)
				b.login(m, "mallory")
				b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
					if _, err := m.Get(r.Context()); err != nil {
						t.Error(err)
					}
					if _, err := ring.Rotate(0); err != nil {
						t.Error(err)
					}
					if !early {
						change(m, r.Context())
					}
					if err := ring.Revoke(key.ID()); err != nil {
						t.Error(err)
					}
					if early {
						if err := change(m, r.Context()); name == "renew" && !errors.Is(err, sealed.ErrInvalid) {
							t.Errorf("Renew: %v, want ErrInvalid", err)
						}
					}
				})
				if s, _, err := b.get(m); s.User != "" {
					t.Errorf("the forged session lives on: %+v, %v", s, err)
				}
			})
		}
	}
}
