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

func TestLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, mustRing(t), sealed.Config[Session]{Lifetime: time.Hour})
		b := newBrowser(t)
		b.login(m, "alice")
		created := time.Now().UTC()
		want := sealed.Info{Created: created, LastUsed: created, Expires: created.Add(time.Hour)}
		got := b.info(m)
		want.ID, want.KeyID = got.ID, got.KeyID
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Info (-want +got):\n%s", diff)
		}
		time.Sleep(time.Hour - time.Millisecond)
		b.update(m, func(s *Session) { s.Flash = "use does not lengthen it" })
		if s, _, err := b.get(m); err != nil || s.User != "alice" {
			t.Errorf("a millisecond before the end: %+v, %v", s, err)
		}
		time.Sleep(time.Millisecond)
		b.wantErr(m, sealed.ErrExpired)
	})
}

// Today's Lifetime shortens sessions sealed with a longer one, and does not
// lengthen those sealed with a shorter one.
func TestLifetimeChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring := mustRing(t)
		hour := mustNew(t, ring, sealed.Config[Session]{Lifetime: time.Hour})
		day := mustNew(t, ring, sealed.Config[Session]{Lifetime: 24 * time.Hour})
		short, long := newBrowser(t), newBrowser(t)
		short.login(hour, "alice")
		long.login(day, "alice")
		if got, want := long.info(hour).Expires, time.Now().Add(time.Hour); !got.Equal(want) {
			t.Errorf("a day's session under an hour's config expires %v, want %v", got, want)
		}
		time.Sleep(time.Hour)
		short.wantErr(day, sealed.ErrExpired)
		long.wantErr(hour, sealed.ErrExpired)
		if _, _, err := long.get(day); err != nil {
			t.Error(err)
		}
	})
}

func TestIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, mustRing(t), sealed.Config[Session]{Lifetime: 24 * time.Hour, IdleTimeout: time.Hour})
		b := newBrowser(t)
		b.login(m, "alice")
		expires := b.info(m).Expires
		step := func(d time.Duration, wantCookie bool) {
			t.Helper()
			time.Sleep(d)
			if _, res, err := b.get(m); err != nil || setsCookie(res) != wantCookie {
				t.Errorf("a use after %v: error %v, cookie %v, want cookie %v", d, err, setsCookie(res), wantCookie)
			}
		}
		step(15*time.Minute-time.Millisecond, false) // not worth a cookie yet
		step(time.Millisecond, true)                 // a quarter has passed
		step(0, false)
		if got := b.info(m); !got.LastUsed.Equal(time.Now()) || !got.Expires.Equal(expires) {
			t.Errorf("last used %v, expires %v; want %v, %v", got.LastUsed, got.Expires, time.Now(), expires)
		}
		step(time.Hour-time.Millisecond, true)

		// Neither an untouched session nor a prefetched page is use.
		time.Sleep(30 * time.Minute)
		if res := b.visit(m, func(http.ResponseWriter, *http.Request) {}); setsCookie(res) {
			t.Error("a request that did not read the session moved its last use")
		}
		for _, purpose := range []string{"prefetch", "prefetch;prerender"} {
			res := b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
				if _, err := m.Get(r.Context()); err != nil {
					t.Error(err)
				}
			}, "Sec-Purpose", purpose)
			if setsCookie(res) {
				t.Errorf("Sec-Purpose: %s moved the last use", purpose)
			}
		}
		time.Sleep(30 * time.Minute)
		b.wantErr(m, sealed.ErrExpired)
	})
}

// A change on a prefetched page is kept, but is no use.
func TestPrefetchUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, mustRing(t), sealed.Config[Session]{IdleTimeout: time.Hour})
		b := newBrowser(t)
		b.login(m, "alice")
		used := time.Now()
		time.Sleep(20 * time.Minute)
		b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
			if err := m.Update(r.Context(), func(s *Session) { s.Flash = "seen" }); err != nil {
				t.Error(err)
			}
		}, "Sec-Purpose", "prefetch")
		b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
			s, _ := m.Get(r.Context())
			if info, _ := m.Info(r.Context()); s.Flash != "seen" || !info.LastUsed.Equal(used) {
				t.Errorf("flash %q, last used %v; want seen, %v", s.Flash, info.LastUsed, used)
			}
		})
	})
}

// TermsFor gives each session its own lifetime, idle timeout and persistence.
func TestTerms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, mustRing(t), sealed.Config[Session]{
			Lifetime: 2 * time.Hour, IdleTimeout: time.Hour, Subject: user,
			TermsFor: func(s Session) sealed.Terms {
				switch {
				case s.Remember:
					return sealed.Terms{Lifetime: 30 * 24 * time.Hour, Persistent: true}
				case s.Flash == "idle":
					return sealed.Terms{IdleTimeout: time.Minute}
				case s.Flash == "bad":
					return sealed.Terms{Lifetime: -1}
				}
				return sealed.Terms{}
			},
		})
		remembered, plain, idle := newBrowser(t), newBrowser(t), newBrowser(t)
		res := remembered.update(m, func(s *Session) { s.User, s.Remember = "alice", true })
		if got := res.Cookies()[0].MaxAge; got != 30*24*3600 {
			t.Errorf("Max-Age %d, want 30 days", got)
		}
		if res := plain.login(m, "bob"); res.Cookies()[0].MaxAge != 0 {
			t.Error("a session without Persistent has a Max-Age")
		}
		idle.update(m, func(s *Session) { s.Flash = "idle" })
		if got, want := idle.info(m).Expires, time.Now().Add(2*time.Hour); !got.Equal(want) {
			t.Errorf("a zero Lifetime in Terms: expires %v, want %v", got, want)
		}
		plain.visit(m, func(_ http.ResponseWriter, r *http.Request) {
			if err := m.Update(r.Context(), func(s *Session) { s.Flash = "bad" }); err == nil {
				t.Error("Update accepted invalid Terms")
			}
			if s, err := m.Get(r.Context()); err != nil || s.Flash != "" {
				t.Errorf("after invalid Terms: %+v, %v; want the session as it was", s, err)
			}
		})
		time.Sleep(time.Minute)
		idle.wantErr(m, sealed.ErrExpired)
		time.Sleep(time.Hour - time.Minute)
		plain.wantErr(m, sealed.ErrExpired) // the zero Terms are the Config's, idle timeout included
		time.Sleep(29 * 24 * time.Hour)
		if s, _, err := remembered.get(m); err != nil || s.User != "alice" {
			t.Errorf("after 29 days: %+v, %v", s, err)
		}
		// A change keeps the deadline: Max-Age is what is left of it.
		res = remembered.update(m, func(s *Session) { s.Flash = "x" })
		if got := res.Cookies()[0].MaxAge; got != 24*3600-3600 {
			t.Errorf("Max-Age %d on day 29, want what is left", got)
		}
	})
}

// Another instance's clock may be up to five minutes ahead.
func TestClockSkew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f, _ := mustForge(t, sealed.Config[Session]{})
		now, hour := time.Now().UnixMilli(), time.Hour.Milliseconds()
		const skew = 5 * 60 * 1000
		for _, tt := range []struct {
			name              string
			created, lastUsed int64
			want              error
		}{
			{"created 5 minutes ahead", now + skew, 0, nil},
			{"created further ahead", now + skew + 1, 0, sealed.ErrInvalid},
			{"used 5 minutes ahead", now - 60_000, 60_000 + skew, nil},
			{"used further ahead", now - 60_000, 60_000 + skew + 1, sealed.ErrInvalid},
		} {
			token := f.token(plaintext(t, [16]byte{1}, tt.created, tt.lastUsed, hour, Session{}), "", "")
			if _, _, err := m.Open(t.Context(), token); !errors.Is(err, tt.want) {
				t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
			}
		}
	})
}

// Login, logout to anonymous and a switch of user renew the session.
func TestSubjectChangeRenews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: revoke.NewList(), Lifetime: time.Hour})
		b := newBrowser(t)
		b.update(m, func(s *Session) { s.Cart = []string{"mug"} })
		anonymous, anonymousCopy := b.info(m), b.clone()
		time.Sleep(time.Minute)
		b.login(m, "alice")
		alice, aliceCopy := b.info(m), b.clone()
		if alice.ID == anonymous.ID || !alice.Created.Equal(time.Now()) || !alice.Expires.Equal(time.Now().Add(time.Hour)) || alice.Subject != "alice" {
			t.Errorf("login did not renew: %+v, before %+v", alice, anonymous)
		}
		if s, _, _ := b.get(m); len(s.Cart) != 1 {
			t.Error("login lost the cart")
		}
		if _, _, err := anonymousCopy.get(m); err != nil {
			t.Errorf("an anonymous session was revoked at login: %v", err)
		}
		b.update(m, func(s *Session) { s.Flash = "x" })
		if got := b.info(m).ID; got != alice.ID {
			t.Error("a change of data changed the ID")
		}
		b.login(m, "bob")
		aliceCopy.wantErr(m, sealed.ErrRevoked)
		bobCopy := b.clone()
		b.update(m, func(s *Session) { s.User = "" })
		bobCopy.wantErr(m, sealed.ErrRevoked)
		if s, _, err := b.get(m); err != nil || len(s.Cart) != 1 || s.User != "" {
			t.Errorf("after logout to anonymous: %+v, %v", s, err)
		}
	})
}

func TestRenew(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: revoke.NewList()})
	b := newBrowser(t)
	renew := func(want error) {
		t.Helper()
		b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
			if err := m.Renew(r.Context()); !errors.Is(err, want) {
				t.Errorf("Renew: %v, want %v", err, want)
			}
		})
	}
	renew(sealed.ErrNoSession)
	b.login(m, "alice")
	before, thief := b.info(m), b.clone()
	renew(nil)
	if after := b.info(m); after.ID == before.ID || after.Subject != "alice" {
		t.Errorf("Renew: %+v, before %+v", after, before)
	}
	thief.wantErr(m, sealed.ErrRevoked)
}

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
