package sealed_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/sealed"
	"example.com/sealed/revoke"
)

// An eventTest has a manager that is observed, and a browser.
type eventTest struct {
	recorder
	t    *testing.T
	list *fakeList
	ring *sealed.Keyring
	f    forger
	m    *sealed.Manager[Session]
	b    *browser
}

func newEventTest(t *testing.T) *eventTest {
	t.Helper()
	x := &eventTest{t: t, list: &fakeList{}, b: newBrowser(t)}
	x.m, x.f, x.ring = mustForge(t, sealed.Config[Session]{
		Lifetime: 2 * time.Hour, IdleTimeout: time.Hour, Subject: user, Revocations: x.list, Observe: x.observe,
	})
	return x
}

// login logs the browser in, and forgets the events.
func (x *eventTest) login() {
	x.t.Helper()
	x.b.login(x.m, "alice")
	x.take()
}

// forged returns a cookie of alice's with an ID.
func (x *eventTest) forged(id sealed.ID) string {
	return x.f.cookie(plaintext(x.t, id, time.Now().UnixMilli(), 0, hourMs, Session{User: "alice"}))
}

func TestNoEventWithoutACookieOrARead(t *testing.T) {
	x := newEventTest(t)
	x.b.wantErr(x.m, sealed.ErrNoSession)
	x.want(t, "no cookie")
	x.login()
	x.b.visit(x.m, func(http.ResponseWriter, *http.Request) {})
	x.want(t, "untouched")
}

func TestSealedEventTellsSizeKeyAndID(t *testing.T) {
	x := newEventTest(t)
	res := x.b.update(x.m, func(s *Session) { s.Flash = "x" })
	if e := x.events[0]; e.Bytes != len(res.Header.Get("Set-Cookie")) || e.KeyID != x.ring.Keys()[0].ID || e.ID == (sealed.ID{}) {
		t.Errorf("sealed: %+v, with %d bytes", e, len(res.Header.Get("Set-Cookie")))
	}
	x.want(t, "a new session", "sealed")
}

func TestSealedEventTellsTheBytesOfAllChunks(t *testing.T) {
	var rec recorder
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Cookie: sealed.Cookie{MaxChunks: 3}, Observe: rec.observe})
	res := request(m, func(_ http.ResponseWriter, r *http.Request) {
		m.Update(r.Context(), func(s *Session) { s.Flash = strings.Repeat("x", 5000) })
	})
	if got, want := rec.events[0].Bytes, len(strings.Join(res.Header["Set-Cookie"], "")); got != want || len(res.Header["Set-Cookie"]) < 2 {
		t.Errorf("sealed %d bytes, want %d", got, want)
	}
}

func TestOpenedEventTellsKeyAndID(t *testing.T) {
	x := newEventTest(t)
	x.login()
	x.b.get(x.m)
	if e := x.events[0]; e.KeyID != x.ring.Keys()[0].ID || e.ID == (sealed.ID{}) {
		t.Errorf("opened: %+v", e)
	}
	x.want(t, "a read", "opened")
}

func TestLoginIsARenewedEvent(t *testing.T) {
	x := newEventTest(t)
	x.b.update(x.m, func(s *Session) { s.Flash = "x" })
	x.take()
	x.b.login(x.m, "alice")
	x.want(t, "login", "opened", "renewed", "sealed")
}

// Sealed once, though the handler writes.
func TestRenewedEventTellsTheNewID(t *testing.T) {
	x := newEventTest(t)
	id := sealed.ID{7}
	var next sealed.ID
	request(x.m, func(w http.ResponseWriter, r *http.Request) {
		x.m.Renew(r.Context())
		info, _ := x.m.Info(r.Context())
		next = info.ID
		w.Write([]byte("x"))
	}, x.forged(id))
	if e := x.events[1]; e.ID != next || next == id {
		t.Errorf("renewed: %+v, want %v", e, next)
	}
	x.want(t, "renewed", "opened", "renewed", "sealed")
}

func TestDestroyedEventTellsTheID(t *testing.T) {
	x := newEventTest(t)
	id := sealed.ID{7}
	request(x.m, func(_ http.ResponseWriter, r *http.Request) { x.m.Destroy(r.Context()) }, x.forged(id))
	if e := x.events[1]; e.ID != id {
		t.Errorf("destroyed: %+v", e)
	}
	x.want(t, "destroyed", "opened", "destroyed")
}

func TestLateChangeEventTellsTheError(t *testing.T) {
	x := newEventTest(t)
	x.login()
	x.b.visit(x.m, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		x.m.Update(r.Context(), func(s *Session) { s.Flash = "late" })
		x.m.Destroy(r.Context())
		x.m.Renew(r.Context())
	})
	for _, e := range x.events {
		if !errors.Is(e.Err, sealed.ErrCommitted) {
			t.Errorf("late change: %+v", e)
		}
	}
	x.want(t, "late changes", "late change", "late change", "late change")
}

func TestRevocationFailedEventTellsIDAndError(t *testing.T) {
	x := newEventTest(t)
	id := sealed.ID{7}
	x.list.revokes(errDown)
	request(x.m, func(_ http.ResponseWriter, r *http.Request) { x.m.Renew(r.Context()) }, x.forged(id))
	if e := x.events[1]; e.ID != id || !errors.Is(e.Err, errDown) {
		t.Errorf("revocation failed: %+v", e)
	}
	x.want(t, "a renewal", "opened", "revocation failed")
	x.login()
	x.b.visit(x.m, func(_ http.ResponseWriter, r *http.Request) {
		x.m.Destroy(r.Context())
		x.list.revokes(nil)
	})
	x.want(t, "a logout", "opened", "destroyed", "revocation failed")
}

func TestRejectedEventTellsWhatTheListSays(t *testing.T) {
	x := newEventTest(t)
	x.login()
	x.list.checks(sealed.ErrUnverified)
	x.b.wantErr(x.m, sealed.ErrUnverified)
	x.want(t, "unverified", "rejected unverified")
	x.list.checks(sealed.ErrRevoked)
	x.b.wantErr(x.m, sealed.ErrRevoked)
	x.want(t, "revoked", "rejected revoked")
}

func TestRejectedEventTellsIdleFromExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newEventTest(t)
		x.login()
		time.Sleep(time.Hour)
		x.b.wantErr(x.m, sealed.ErrExpired)
		x.want(t, "idle", "rejected idle")
		time.Sleep(time.Hour)
		x.b.wantErr(x.m, sealed.ErrExpired)
		x.want(t, "expired", "rejected expired")
	})
}

func TestRejectedEventTellsMalformedFromTampered(t *testing.T) {
	x := newEventTest(t)
	x.login()
	getWith(x.m, name+"=AAAA")
	x.want(t, "malformed", "rejected malformed")
	cookie := x.b.cookie()
	at := len(cookie) - 10
	flipped := "A"
	if cookie[at] == 'A' {
		flipped = "B"
	}
	getWith(x.m, cookie[:at]+flipped+cookie[at+1:])
	x.want(t, "tampered", "rejected tampered")
}

func TestRejectedEventTellsAnUnknownKey(t *testing.T) {
	x := newEventTest(t)
	stranger := newBrowser(t)
	stranger.login(mustNew(t, mustRing(t), sealed.Config[Session]{}), "mallory")
	getWith(x.m, stranger.cookie())
	x.want(t, "unknown key", "rejected unknown key")
}

func TestRejectedEventNamesARevokedKey(t *testing.T) {
	x := newEventTest(t)
	x.login()
	first := x.ring.Keys()[0].ID
	x.ring.Rotate(0)
	x.ring.Revoke(first)
	x.b.wantErr(x.m, sealed.ErrInvalid)
	if x.events[0].KeyID != first {
		t.Errorf("the event names key %q, want %q", x.events[0].KeyID, first)
	}
	x.want(t, "revoked key", "rejected revoked key")
}

func TestRejectedEventTellsAnUndecodableRecord(t *testing.T) {
	x := newEventTest(t)
	getWith(x.m, x.f.cookie(plaintext(t, [16]byte{7}, 1, 0, 2, Session{}, map[int]any{1: true})))
	if e := x.events[0]; e.KeyID != x.ring.Keys()[0].ID || !errors.Is(e.Err, sealed.ErrInvalid) {
		t.Errorf("undecodable: %+v", e)
	}
	x.want(t, "an extension", "rejected undecodable")
	getWith(x.m, x.f.cookie(nil))
	x.want(t, "an empty record", "rejected undecodable")
}

func TestRejectedEventTellsAnotherTypeAsUndecodable(t *testing.T) {
	x := newEventTest(t)
	x.login()
	_, _, err := getWith(mustNew(t, x.ring, sealed.Config[struct {
		User int `cbor:"1,keyasint"`
	}]{Observe: x.observe}), x.b.cookie())
	x.want(t, "another type", "rejected undecodable")
	if !errors.Is(err, sealed.ErrInvalid) {
		t.Error(err)
	}
}

func TestRejectedEventTellsATokenFromTheFuture(t *testing.T) {
	x := newEventTest(t)
	at := time.Now().Add(time.Hour).UnixMilli()
	token := x.f.token(plaintext(t, [16]byte{1}, at, 0, hourMs, Session{}), "", purpose)
	if _, _, err := x.m.Open(t.Context(), token); !errors.Is(err, sealed.ErrInvalid) {
		t.Error(err)
	}
	x.want(t, "from the future", "rejected not yet valid")
}

// One for each, and one for the fifth and all after it.
func TestEachCookieOfTheNameIsAnEvent(t *testing.T) {
	x := newEventTest(t)
	x.login()
	getWith(x.m, x.b.cookie()+"; "+x.b.cookie()+"; "+name+"=x; "+name+"=x; "+name+"=x; "+name+"=x")
	x.want(t, "six cookies", "rejected duplicate", "rejected malformed", "rejected malformed", "opened", "rejected duplicate")
	getWith(x.m, strings.Repeat(name+"=x; ", 4)+name+"=x")
	if e := x.events[4]; e.Reason != "duplicate" || !errors.Is(e.Err, sealed.ErrInvalid) {
		t.Errorf("the fifth: %+v", e)
	}
}

func TestSealAndOpenAreEvents(t *testing.T) {
	x := newEventTest(t)
	token := mustSeal(t, x.m, Session{User: "alice"})
	if e := x.events[0]; e.Bytes != len(token) {
		t.Errorf("sealed: %+v, a token of %d bytes", e, len(token))
	}
	x.m.Open(t.Context(), token)
	x.m.Open(t.Context(), token[1:])
	x.want(t, "Seal and Open", "sealed", "opened", "rejected malformed")
}

func TestSealsEventTellsKeyAndID(t *testing.T) {
	x := newEventTest(t)
	if _, err := x.ring.Rotate(0); err != nil {
		t.Fatal(err)
	}
	token := mustSeal(t, x.m, Session{User: "alice"})
	_, info, err := x.m.Open(t.Context(), token)
	if e := x.events[0]; err != nil || e.ID != info.ID || e.KeyID != info.KeyID || info.KeyID != x.ring.Keys()[0].ID || e.KeyID == "" {
		t.Errorf("Seal: %+v, %+v, %v", e, info, err)
	}
}

func TestObserveGetsTheRequestsContext(t *testing.T) {
	type ctxKey struct{}
	var rec recorder
	list := &fakeList{}
	m, f, _ := mustForge(t, sealed.Config[Session]{Revocations: list, Observe: func(ctx context.Context, e sealed.Event) {
		if ctx.Value(ctxKey{}) == nil {
			t.Errorf("%v: not the request's context", e.Kind)
		}
		rec.observe(ctx, e)
	}})
	var marked nest = func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			m.Handler(h).ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), ctxKey{}, 1)))
		})
	}
	cookie := userCookie(f, 1, "alice", time.Now().UnixMilli(), 0)
	request(marked, func(w http.ResponseWriter, r *http.Request) {
		m.Renew(r.Context())
		w.Write([]byte("x"))
		m.Renew(r.Context())
	}, f.cookie(nil)+"; "+cookie+strings.Repeat("; "+name+"=x", 3))
	rec.want(t, "renewed", "rejected undecodable", "rejected malformed", "rejected malformed", "opened", "rejected duplicate", "renewed", "sealed", "late change")
	list.revokes(errDown)
	request(marked, func(_ http.ResponseWriter, r *http.Request) { m.Destroy(r.Context()) }, cookie)
	rec.want(t, "destroyed", "opened", "destroyed", "revocation failed")
}

func TestObserverThatPanicsInTheCommitDoesNotTakeTheCookie(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Observe: func(_ context.Context, e sealed.Event) {
		if e.Kind == sealed.EventSealed {
			panic("observer")
		}
	}})
	res := request(m, func(w http.ResponseWriter, r *http.Request) {
		set(t, m, r)
		func() {
			defer func() { _ = recover() }()
			w.Write([]byte("x"))
		}()
		w.Write([]byte("x"))
	})
	wantSession(t, m, res)
}

func TestEventsHoldNoDataSubjectsKeysOrTokens(t *testing.T) {
	const secret = "very-secret-user"
	var printed strings.Builder
	ring, key := ringAndKey(t)
	m := mustNew(t, ring, sealed.Config[Session]{
		Subject: user, Revocations: revoke.NewList(),
		Observe: func(_ context.Context, e sealed.Event) { fmt.Fprintf(&printed, "%+v %v\n", e, e.Err) },
	})
	b := newBrowser(t)
	b.login(m, secret)
	cookie := b.cookie()
	b.get(m)
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) { m.Destroy(r.Context()) })
	getWith(m, cookie)
	getWith(m, cookie[:40]+"x"+cookie[41:])
	getWith(mustNew(t, ring, sealed.Config[struct {
		User int `cbor:"1,keyasint"`
	}]{Observe: func(_ context.Context, e sealed.Event) { fmt.Fprintf(&printed, "%+v %v\n", e, e.Err) }}), cookie)
	for _, s := range []string{secret, cookie[len(name)+20:], key.Text()[13:]} {
		if strings.Contains(printed.String(), s) {
			t.Errorf("the events show a secret:\n%s", printed.String())
		}
	}
	if n := strings.Count(printed.String(), "\n"); n < 6 {
		t.Errorf("only %d events", n)
	}
	if typ := reflect.TypeFor[sealed.Event](); typ.NumField() != 7 {
		t.Errorf("Event has %d fields; does the new one hold a secret?", typ.NumField())
	}
}
