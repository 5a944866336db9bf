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

// Each thing that an operator must be able to count is one event.
func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rec recorder
		list := &fakeList{}
		ring := mustRing(t)
		m := mustNew(t, ring, sealed.Config[Session]{
			Lifetime: 2 * time.Hour, IdleTimeout: time.Hour, Subject: user, Revocations: list, Observe: rec.observe,
		})
		b := newBrowser(t)
		b.wantErr(m, sealed.ErrNoSession)
		rec.want(t, "no cookie")
		res := b.update(m, func(s *Session) { s.Flash = "x" })
		if e := rec.events[0]; e.Bytes != len(res.Header.Get("Set-Cookie")) || e.KeyID != ring.Keys()[0].ID || e.ID == (sealed.ID{}) {
			t.Errorf("sealed: %+v, with %d bytes", e, len(res.Header.Get("Set-Cookie")))
		}
		rec.want(t, "a new session", "sealed")
		b.get(m)
		if e := rec.events[0]; e.KeyID != ring.Keys()[0].ID || e.ID == (sealed.ID{}) {
			t.Errorf("opened: %+v", e)
		}
		rec.want(t, "a read", "opened")
		b.visit(m, func(http.ResponseWriter, *http.Request) {})
		rec.want(t, "untouched")
		b.login(m, "alice")
		rec.want(t, "login", "opened", "renewed", "sealed")

		b.visit(m, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(200)
			m.Update(r.Context(), func(s *Session) { s.Flash = "late" })
			m.Destroy(r.Context())
		})
		rec.want(t, "late changes", "late change", "late change")

		list.checks(sealed.ErrUnverified)
		b.wantErr(m, sealed.ErrUnverified)
		rec.want(t, "unverified", "rejected unverified")
		list.checks(sealed.ErrRevoked)
		b.wantErr(m, sealed.ErrRevoked)
		rec.want(t, "revoked", "rejected revoked")
		list.checks(nil)

		getWith(m, b.cookie()+"; "+b.cookie()+"; "+name+"=x; "+name+"=x; "+name+"=x; "+name+"=x")
		rec.want(t, "six cookies", "rejected duplicate", "rejected malformed", "rejected malformed", "opened", "rejected duplicate")
		getWith(m, name+"=AAAA")
		rec.want(t, "malformed", "rejected malformed")
		stranger := mustNew(t, mustRing(t), sealed.Config[Session]{})
		other := newBrowser(t)
		other.login(stranger, "mallory")
		getWith(m, other.cookie())
		rec.want(t, "unknown key", "rejected unknown key")
		cookie := b.cookie()
		at := len(cookie) - 10
		flipped := "A"
		if cookie[at] == 'A' {
			flipped = "B"
		}
		getWith(m, cookie[:at]+flipped+cookie[at+1:])
		rec.want(t, "tampered", "rejected tampered")
		_, _, err := getWith(mustNew(t, ring, sealed.Config[struct {
			User int `cbor:"1,keyasint"`
		}]{Observe: rec.observe}), b.cookie())
		rec.want(t, "another type", "rejected undecodable")
		if !errors.Is(err, sealed.ErrInvalid) {
			t.Error(err)
		}

		time.Sleep(time.Hour)
		b.wantErr(m, sealed.ErrExpired)
		rec.want(t, "idle", "rejected idle")
		time.Sleep(time.Hour)
		b.wantErr(m, sealed.ErrExpired)
		rec.want(t, "expired", "rejected expired")

		b.login(m, "alice")
		rec.take()
		list.revokes(errors.New("no"))
		b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
			m.Destroy(r.Context())
			list.revokes(nil)
		})
		rec.want(t, "a failing list", "opened", "destroyed", "revocation failed")
		token, _ := m.Seal(Session{User: "alice"})
		if e := rec.events[0]; e.Bytes != len(token) {
			t.Errorf("sealed: %+v, a token of %d bytes", e, len(token))
		}
		m.Open(t.Context(), token)
		m.Open(t.Context(), token[1:])
		rec.want(t, "Seal and Open", "sealed", "opened", "rejected malformed")

		b.login(m, "alice")
		rec.take()
		first := ring.Keys()[0].ID
		ring.Rotate(0)
		ring.Revoke(first)
		b.wantErr(m, sealed.ErrInvalid)
		if rec.events[0].KeyID != first {
			t.Errorf("the event names key %q, want %q", rec.events[0].KeyID, first)
		}
		rec.want(t, "revoked key", "rejected revoked key")
	})
}

// A token from the future has a reason of its own.
func TestNotYetValidEvent(t *testing.T) {
	var rec recorder
	ring, key := ringAndKey(t)
	m := mustNew(t, ring, sealed.Config[Session]{Observe: rec.observe})
	at := time.Now().Add(time.Hour).UnixMilli()
	token := newForger(t, key).token(plaintext(t, [16]byte{1}, at, 0, 3_600_000, Session{}), "", "")
	if _, _, err := m.Open(t.Context(), token); !errors.Is(err, sealed.ErrInvalid) {
		t.Error(err)
	}
	rec.want(t, "from the future", "rejected not yet valid")
}

// No event carries data, subjects, keys or tokens.
func TestEventsHoldNoSecrets(t *testing.T) {
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
	if typ := reflect.TypeFor[sealed.Event](); typ.NumField() != 6 {
		t.Errorf("Event has %d fields; does the new one hold a secret?", typ.NumField())
	}
}
