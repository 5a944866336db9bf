package sealed_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/sealed"
	"example.com/sealed/revoke"
)

func TestDestroyDeletesTheCookieWithItsAttributes(t *testing.T) {
	cookie := sealed.Cookie{Name: "__Secure-s", Domain: "shop.example", Path: "/", SameSite: http.SameSiteStrictMode, Partitioned: true}
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Cookie: cookie, Revocations: revoke.NewList()})
	b := newBrowser(t)
	set := b.login(m, "alice").Cookies()[0]
	res := b.visit(m, func(_ http.ResponseWriter, r *http.Request) { destroy(t, m, r) })
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
	b.wantErr(m, sealed.ErrNoSession)
}

func TestAfterDestroyThereIsNoSession(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Revocations: revoke.NewList()})
	b := newBrowser(t)
	b.login(m, "alice")
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		destroy(t, m, r)
		if _, err := m.Get(r.Context()); !errors.Is(err, sealed.ErrNoSession) {
			t.Errorf("Get after Destroy: %v, want ErrNoSession", err)
		}
	})
	b.wantErr(m, sealed.ErrNoSession)
}

func TestDestroyRevokesACopyOfTheCookie(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Revocations: revoke.NewList()})
	b := newBrowser(t)
	b.login(m, "alice")
	thief := b.clone()
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) { destroy(t, m, r) })
	thief.wantErr(m, sealed.ErrRevoked)
}

func TestUpdateAfterDestroyBeginsANewSession(t *testing.T) {
	cookie := sealed.Cookie{Name: "__Secure-s", Domain: "shop.example", Path: "/", SameSite: http.SameSiteStrictMode, Partitioned: true}
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Cookie: cookie, Revocations: revoke.NewList()})
	b := newBrowser(t)
	b.login(m, "alice")
	id := b.info(m).ID
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		destroy(t, m, r)
		if err := m.Update(r.Context(), func(s *Session) { s.Flash = "bye" }); err != nil {
			t.Error(err)
		}
	})
	if s, _, _ := b.get(m); s.Flash != "bye" || s.User != "" || b.info(m).ID == id {
		t.Errorf("got %+v with the old ID %v", s, b.info(m).ID == id)
	}
}

// destroyGone runs Destroy for a client that has gone while the request is under way.
func destroyGone(t *testing.T, b *browser, m interface {
	wrapper
	Destroy(context.Context) error
}) {
	t.Helper()
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		cancel()
		if err := m.Destroy(ctx); err != nil {
			t.Errorf("Destroy: %v", err)
		}
	})
}

// A copy may be fresher than the cookie here.
func TestDestroyRevokesASessionThatIsIdleHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: strictList(), IdleTimeout: 10 * time.Minute})
		b := newBrowser(t)
		b.login(m, "alice")
		thief := b.clone()
		for range 5 {
			time.Sleep(5 * time.Minute)
			thief.get(m)
		}
		b.wantErr(m, sealed.ErrExpired)
		destroyGone(t, b, m)
		thief.wantErr(m, sealed.ErrRevoked)
	})
}

func TestDestroyRevokesASessionThatIsUndecodableHere(t *testing.T) {
	ring, list := mustRing(t), strictList()
	old := mustNew(t, ring, sealed.Config[Session]{Subject: user, Revocations: list})
	b := newBrowser(t)
	b.login(old, "alice")
	thief := b.clone()
	destroyGone(t, b, mustNew(t, ring, sealed.Config[struct {
		User int `cbor:"1,keyasint"`
	}]{Revocations: list}))
	thief.wantErr(old, sealed.ErrRevoked)
}

func TestRenewalWithoutConfigSubjectRevokesTheCopy(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Revocations: strictList()})
	b := newBrowser(t)
	b.update(m, func(s *Session) { s.Flash = "x" })
	thief := b.clone()
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		if err := m.Renew(r.Context()); err != nil {
			t.Error(err)
		}
		destroy(t, m, r)
	})
	thief.wantErr(m, sealed.ErrRevoked)
}

// "Log out everywhere but here", in one instant: the session that was renewed after
// it, and a new login, must live.
func TestRevokeSubjectEndsAllSessionsButTheRenewedAndNewOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: revoke.NewList()})
		phone, laptop := newBrowser(t), newBrowser(t)
		phone.login(m, "alice")
		laptop.login(m, "alice")
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
	})
}

func TestRevokeSubjectLeavesOtherSubjects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: revoke.NewList()})
		bob := newBrowser(t)
		bob.login(m, "bob")
		if err := m.RevokeSubject(t.Context(), "alice"); err != nil {
			t.Error(err)
		}
		if s, _, err := bob.get(m); err != nil || s.User != "bob" {
			t.Errorf("another subject's session: %+v, %v", s, err)
		}
	})
}

func TestRevokeSubjectOfNobodyIsRefused(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: revoke.NewList()})
	if err := m.RevokeSubject(t.Context(), ""); err == nil {
		t.Error("RevokeSubject of nobody succeeded")
	}
	request(m, func(_ http.ResponseWriter, r *http.Request) {
		if err := m.RevokeSubject(r.Context(), ""); err == nil {
			t.Error("nobody was revoked")
		}
	})
}

func TestRevokeSubjectWithoutAListIsRefused(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user})
	if err := m.RevokeSubject(t.Context(), "alice"); err == nil {
		t.Error("RevokeSubject without a list succeeded")
	}
}

// Logging out everywhere exempts only the request that does it, and only its own
// session: one that was logged out stays so.
func TestRevokeSubjectExemptsNoSessionThatWasRevoked(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: revoke.NewList()})
	victim := newBrowser(t)
	victim.login(m, "alice")
	thief := victim.clone()
	thief.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		m.Get(r.Context())
		victim.visit(m, func(_ http.ResponseWriter, r *http.Request) { m.Destroy(r.Context()) })
		if err := m.RevokeSubject(r.Context(), "alice"); err != nil {
			t.Error(err)
		}
		if err := m.Renew(r.Context()); !errors.Is(err, sealed.ErrRevoked) {
			t.Errorf("Renew: %v, want ErrRevoked", err)
		}
	})
}

// A bannedTest revokes subjects ahead of time, as an instance whose clock is ahead
// does, or an operator who bans one.
type bannedTest struct {
	list *revoke.List
	m    *sealed.Manager[Session]
}

func newBannedTest(t *testing.T, lifetime time.Duration) bannedTest {
	t.Helper()
	list := revoke.NewList()
	return bannedTest{list, mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: list, Lifetime: lifetime})}
}

func (x bannedTest) ban(t *testing.T, user string, ahead time.Duration) {
	t.Helper()
	r := sealed.Revocation{Subject: user, Before: time.Now().Add(ahead), Until: time.Now().Add(48 * time.Hour)}
	if err := x.list.Revoke(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

// A session is never dead on arrival.
func TestLoginOfABannedSubjectIsAnErrorOfUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBannedTest(t, time.Hour)
		x.ban(t, "banned", time.Hour)
		request(x.m, func(_ http.ResponseWriter, r *http.Request) {
			if err := x.m.Update(r.Context(), func(s *Session) { s.User = "banned" }); !errors.Is(err, sealed.ErrRevoked) {
				t.Errorf("login of a banned user: %v, want ErrRevoked", err)
			}
		})
	})
}

func TestSealForABannedSubjectIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBannedTest(t, time.Hour)
		x.ban(t, "banned", time.Hour)
		if _, err := x.m.Seal(Session{User: "banned"}); !errors.Is(err, sealed.ErrRevoked) {
			t.Errorf("Seal for a banned user: %v, want ErrRevoked", err)
		}
	})
}

// It ends when it would have.
func TestSessionAfterARevocationAheadIsDatedBehindIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBannedTest(t, time.Hour)
		for _, ahead := range []time.Duration{0, time.Millisecond, 70 * time.Second, 290 * time.Second, 5*time.Minute - time.Millisecond} {
			user := ahead.String()
			x.ban(t, user, ahead)
			b := newBrowser(t)
			b.login(x.m, user)
			info := b.info(x.m)
			if got, want := time.Until(info.Created), ahead+time.Millisecond; got != want {
				t.Errorf("after a revocation %v ahead: created %v ahead, want %v", ahead, got, want)
			}
			if !info.Expires.Equal(time.Now().Add(time.Hour)) {
				t.Errorf("after a revocation %v ahead: expires %v, want an hour from now", ahead, info.Expires)
			}
		}
	})
}

func TestSessionDatedBeyondItsEndIsRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBannedTest(t, time.Minute)
		x.ban(t, "short", 70*time.Second)
		if _, err := x.m.Seal(Session{User: "short"}); !errors.Is(err, sealed.ErrRevoked) {
			t.Errorf("dated beyond its own end: %v, want ErrRevoked", err)
		}
	})
}
