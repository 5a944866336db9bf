package sealed_test

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/sealed"
	"example.com/sealed/revoke"
)

func TestDestroy(t *testing.T) {
	cookie := sealed.Cookie{Name: "__Secure-s", Domain: "shop.example", Path: "/", SameSite: http.SameSiteStrictMode, Partitioned: true}
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Cookie: cookie, Revocations: revoke.NewList()})
	b := newBrowser(t)
	set := b.login(m, "alice").Cookies()[0]
	thief := b.clone()
	destroy := func(b *browser) *http.Response {
		return b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
			if err := m.Destroy(r.Context()); err != nil {
				t.Error(err)
			}
			if _, err := m.Get(r.Context()); !errors.Is(err, sealed.ErrNoSession) {
				t.Errorf("Get after Destroy: %v, want ErrNoSession", err)
			}
		})
	}
	res := destroy(b)
	if n := len(res.Cookies()); n != 1 {
		t.Fatalf("%d cookies set, want 1", n)
	}
	deletion := res.Cookies()[0]
	if deletion.MaxAge >= 0 || deletion.Value != "" {
		t.Errorf("not a deletion: %v", deletion)
	}
	deletion.MaxAge, deletion.Value, deletion.Raw, set.Value, set.Raw = 0, "", "", "", ""
	if diff := cmp.Diff(set, deletion); diff != "" {
		t.Errorf("deleted with other attributes than set (-set +deleted):\n%s", diff)
	}
	thief.wantErr(m, sealed.ErrRevoked)
	b.wantErr(m, sealed.ErrNoSession)

	// A new session after Destroy replaces the cookie.
	b.login(m, "alice")
	id := b.info(m).ID
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		m.Destroy(r.Context())
		if err := m.Update(r.Context(), func(s *Session) { s.Flash = "bye" }); err != nil {
			t.Error(err)
		}
	})
	if s, _, _ := b.get(m); s.Flash != "bye" || s.User != "" || b.info(m).ID == id {
		t.Errorf("got %+v with the old ID %v", s, b.info(m).ID == id)
	}
}

// "Log out everywhere", and "everywhere but here", in one instant: the session
// that was renewed after it, and a new login, must live.
func TestRevokeSubject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: revoke.NewList()})
		phone, laptop, bob := newBrowser(t), newBrowser(t), newBrowser(t)
		phone.login(m, "alice")
		laptop.login(m, "alice")
		bob.login(m, "bob")
		for range 3 { // all at the same instant: the clock stands still here
			laptop.visit(m, func(_ http.ResponseWriter, r *http.Request) {
				if err := m.RevokeSubject(r.Context(), "alice"); err != nil {
					t.Error(err)
				}
				if err := m.Renew(r.Context()); err != nil {
					t.Error(err)
				}
			})
			phone.wantErr(m, sealed.ErrRevoked)
			if s, _, err := laptop.get(m); err != nil || s.User != "alice" {
				t.Fatalf("the renewed session: %+v, %v", s, err)
			}
			phone.login(m, "alice")
			if s, _, err := phone.get(m); err != nil || s.User != "alice" {
				t.Fatalf("a login after it: %+v, %v", s, err)
			}
		}
		if err := m.RevokeSubject(t.Context(), "alice"); err != nil {
			t.Error(err)
		}
		if s, _, err := bob.get(m); err != nil || s.User != "bob" {
			t.Errorf("another subject's session: %+v, %v", s, err)
		}
		if err := m.RevokeSubject(t.Context(), ""); err == nil {
			t.Error("RevokeSubject of nobody succeeded")
		}
		without := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user})
		if err := without.RevokeSubject(t.Context(), "alice"); err == nil {
			t.Error("RevokeSubject without a list succeeded")
		}
	})
}

// A revocation outlives every session it ends.
func TestRevocationUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		list := &fakeList{}
		m := mustNew(t, mustRing(t), sealed.Config[Session]{Lifetime: time.Hour, Subject: user, Revocations: list})
		b := newBrowser(t)
		b.login(m, "alice")
		info := b.info(m)
		time.Sleep(time.Minute)
		b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
			m.RevokeSubject(r.Context(), "alice")
			m.Destroy(r.Context())
		})
		const skew = 5 * time.Minute
		want := []sealed.Revocation{
			{Subject: "alice", Before: time.Now(), Until: time.Now().Add(time.Hour + skew)},
			{ID: info.ID, Until: info.Expires.Add(skew)},
		}
		if diff := cmp.Diff(want, list.revoked); diff != "" {
			t.Errorf("revocations (-want +got):\n%s", diff)
		}
		withTerms := mustNew(t, mustRing(t), sealed.Config[Session]{
			Subject: user, Revocations: list, TermsFor: func(Session) sealed.Terms { return sealed.Terms{} },
		})
		withTerms.RevokeSubject(t.Context(), "alice")
		if got, min := list.revoked[2].Until, time.Now().Add(400*24*time.Hour); got.Before(min) {
			t.Errorf("with TermsFor, forgotten at %v: sessions may live until %v", got, min)
		}
	})
}

// Under ErrUnverified nothing touches the cookie, and nothing is lost.
func TestUnverified(t *testing.T) {
	down := errors.New("the list is down")
	for name, check := range map[string]error{"its own error": down, "ErrUnverified": errors.Join(sealed.ErrUnverified, down)} {
		t.Run(name, func(t *testing.T) {
			list := &fakeList{}
			ring := mustRing(t)
			m := mustNew(t, ring, sealed.Config[Session]{Subject: user, Revocations: list})
			b := newBrowser(t)
			b.login(m, "alice")
			list.checks(check)
			if _, err := ring.Rotate(0); err != nil {
				t.Fatal(err)
			}
			res := b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
				s, err := m.Get(r.Context())
				if !errors.Is(err, sealed.ErrUnverified) || !errors.Is(err, down) || s.User != "" {
					t.Errorf("Get: %+v, %v, want ErrUnverified and its cause", s, err)
				}
				err = m.Update(r.Context(), func(s *Session) { s.Flash = "x" })
				if !errors.Is(err, sealed.ErrUnverified) {
					t.Errorf("Update: %v, want ErrUnverified", err)
				}
				if err := m.Renew(r.Context()); !errors.Is(err, sealed.ErrUnverified) {
					t.Errorf("Renew: %v, want ErrUnverified", err)
				}
			})
			if setsCookie(res) {
				t.Errorf("the cookie was touched: %q", res.Header["Set-Cookie"])
			}
			list.checks(nil)
			if s, _, err := b.get(m); err != nil || s.User != "alice" {
				t.Errorf("when the list is back: %+v, %v", s, err)
			}
		})
	}
}

// A list that fails is reported; a logout still logs this browser out, and can
// be tried again.
func TestRevocationFails(t *testing.T) {
	down := errors.New("disk full")
	list := &fakeList{}
	list.revokes(down)
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: list})
	b := newBrowser(t)
	b.login(m, "alice")
	id := b.info(m).ID
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		if err := m.Update(r.Context(), func(s *Session) { s.User = "bob" }); !errors.Is(err, down) {
			t.Errorf("Update: %v, want %v", err, down)
		}
		if err := m.Renew(r.Context()); !errors.Is(err, down) {
			t.Errorf("Renew: %v, want %v", err, down)
		}
		if s, err := m.Get(r.Context()); err != nil || s.User != "alice" {
			t.Errorf("then %+v, %v; want the session as it was", s, err)
		}
	})
	if got := b.info(m).ID; got != id {
		t.Error("the session was renewed although the old one could not be revoked")
	}
	res := b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		if err := m.Destroy(r.Context()); !errors.Is(err, down) {
			t.Errorf("Destroy: %v, want %v", err, down)
		}
		list.revokes(nil)
		if err := m.Destroy(r.Context()); err != nil {
			t.Errorf("Destroy again: %v", err)
		}
	})
	if len(list.revoked) != 1 || list.revoked[0].ID != id {
		t.Errorf("revoked %v, want the session", list.revoked)
	}
	if len(res.Cookies()) != 1 || res.Cookies()[0].MaxAge >= 0 {
		t.Errorf("the cookie was not deleted: %v", res.Header["Set-Cookie"])
	}
}
