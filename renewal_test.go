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

// renewing runs f with a manager that renews and revokes, where time stands still.
func renewing(t *testing.T, f func(t *testing.T, m *sealed.Manager[Session], b *browser)) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: revoke.NewList(), Lifetime: time.Hour})
		f(t, m, newBrowser(t))
	})
}

func TestLoginRenewsTheSession(t *testing.T) {
	renewing(t, func(t *testing.T, m *sealed.Manager[Session], b *browser) {
		b.update(m, func(s *Session) { s.Cart = []string{"mug"} })
		anonymous := b.info(m)
		time.Sleep(time.Minute)
		b.login(m, "alice")
		alice := b.info(m)
		if alice.ID == anonymous.ID || !alice.Created.Equal(time.Now()) || !alice.Expires.Equal(time.Now().Add(time.Hour)) || alice.Subject != "alice" {
			t.Errorf("login did not renew: %+v, before %+v", alice, anonymous)
		}
		if s, _, _ := b.get(m); len(s.Cart) != 1 {
			t.Error("login lost the cart")
		}
	})
}

// Nobody is logged in to it.
func TestLoginDoesNotRevokeTheAnonymousSession(t *testing.T) {
	renewing(t, func(t *testing.T, m *sealed.Manager[Session], b *browser) {
		b.update(m, func(s *Session) { s.Cart = []string{"mug"} })
		anonymous := b.clone()
		time.Sleep(time.Minute)
		b.login(m, "alice")
		if _, _, err := anonymous.get(m); err != nil {
			t.Errorf("an anonymous session was revoked at login: %v", err)
		}
	})
}

func TestChangeOfDataDoesNotRenew(t *testing.T) {
	renewing(t, func(t *testing.T, m *sealed.Manager[Session], b *browser) {
		b.login(m, "alice")
		id := b.info(m).ID
		b.update(m, func(s *Session) { s.Flash = "x" })
		if got := b.info(m).ID; got != id {
			t.Error("a change of data changed the ID")
		}
	})
}

func TestChangeOfSubjectRevokesTheOldSession(t *testing.T) {
	renewing(t, func(t *testing.T, m *sealed.Manager[Session], b *browser) {
		b.update(m, func(s *Session) { s.User, s.Cart = "alice", []string{"mug"} })
		alice := b.clone()
		b.login(m, "bob")
		alice.wantErr(m, sealed.ErrRevoked)
		bob := b.clone()
		b.update(m, func(s *Session) { s.User = "" })
		bob.wantErr(m, sealed.ErrRevoked)
		if s, _, err := b.get(m); err != nil || len(s.Cart) != 1 || s.User != "" {
			t.Errorf("after logout to anonymous: %+v, %v", s, err)
		}
	})
}

func TestRenewWithoutASessionIsNoSession(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: revoke.NewList()})
	request(m, func(_ http.ResponseWriter, r *http.Request) {
		if err := m.Renew(r.Context()); !errors.Is(err, sealed.ErrNoSession) {
			t.Errorf("Renew: %v, want ErrNoSession", err)
		}
	})
}

func TestRenewGivesANewIDAndRevokesTheOld(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: revoke.NewList()})
	b := newBrowser(t)
	b.login(m, "alice")
	before, thief := b.info(m), b.clone()
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		if err := m.Renew(r.Context()); err != nil {
			t.Errorf("Renew: %v", err)
		}
	})
	if after := b.info(m); after.ID == before.ID || after.Subject != "alice" {
		t.Errorf("Renew: %+v, before %+v", after, before)
	}
	thief.wantErr(m, sealed.ErrRevoked)
}

// Without Config.Subject, Renew cannot know that nobody is logged in.
func TestRenewWithoutConfigSubjectRevokesTheOld(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Revocations: revoke.NewList()})
	b := newBrowser(t)
	b.login(m, "alice")
	thief := b.clone()
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		if err := m.Renew(r.Context()); err != nil {
			t.Error(err)
		}
	})
	thief.wantErr(m, sealed.ErrRevoked)
}

func TestRenewalTakesTimesAndTermsOfToday(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, mustRing(t), sealed.Config[Session]{Lifetime: 2 * time.Hour, IdleTimeout: time.Hour, Subject: user,
			TermsFor: func(s Session) sealed.Terms {
				if s.Remember {
					return sealed.Terms{Lifetime: 48 * time.Hour, IdleTimeout: time.Hour}
				}
				return sealed.Terms{}
			}})
		b := newBrowser(t)
		b.update(m, func(s *Session) { s.Flash = "x" })
		time.Sleep(30 * time.Minute)
		b.get(m)
		b.update(m, func(s *Session) { s.User, s.Remember = "alice", true })
		now := time.Now()
		if i := b.info(m); !i.Created.Equal(now) || !i.LastUsed.Equal(now) || !i.Expires.Equal(now.Add(48*time.Hour)) {
			t.Errorf("%+v", i)
		}
	})
}

// A client can hold a request open across logout or the session's end. What was
// read at its start must not begin a session.
func TestRenewalUnderWayDoesNotOutliveTheSession(t *testing.T) {
	type renewal = func(*sealed.Manager[Session], context.Context) error
	renewals := map[string]renewal{
		"Renew": (*sealed.Manager[Session]).Renew,
		"another subject": func(m *sealed.Manager[Session], ctx context.Context) error {
			return m.Update(ctx, func(s *Session) { s.User += " as admin" })
		},
	}
	for name, tt := range map[string]struct {
		end  func(t *testing.T, m *sealed.Manager[Session], victim *browser)
		want error
	}{
		"logout": {func(t *testing.T, m *sealed.Manager[Session], victim *browser) {
			victim.visit(m, func(_ http.ResponseWriter, r *http.Request) {
				if err := m.Destroy(r.Context()); err != nil {
					t.Error(err)
				}
			})
		}, sealed.ErrRevoked},
		"logout everywhere": {func(t *testing.T, m *sealed.Manager[Session], _ *browser) {
			if err := m.RevokeSubject(t.Context(), "alice"); err != nil {
				t.Error(err)
			}
		}, sealed.ErrRevoked},
		"lifetime":     {func(*testing.T, *sealed.Manager[Session], *browser) { time.Sleep(2 * time.Hour) }, sealed.ErrExpired},
		"idle timeout": {func(*testing.T, *sealed.Manager[Session], *browser) { time.Sleep(11 * time.Minute) }, sealed.ErrExpired},
	} {
		for how, renew := range renewals {
			t.Run(name+", "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := mustNew(t, mustRing(t), sealed.Config[Session]{
						Subject: user, Revocations: revoke.NewList(), Lifetime: time.Hour, IdleTimeout: 10 * time.Minute,
					})
					victim := newBrowser(t)
					victim.login(m, "alice")
					thief := victim.clone()
					thief.visit(m, func(_ http.ResponseWriter, r *http.Request) {
						if _, err := m.Get(r.Context()); err != nil {
							t.Error(err)
						}
						tt.end(t, m, victim)
						if err := renew(m, r.Context()); !errors.Is(err, tt.want) {
							t.Errorf("%v, want %v", err, tt.want)
						}
					})
					if s, _, err := thief.get(m); err == nil {
						t.Errorf("the thief's session lives on: %+v", s)
					}
				})
			})
		}
	}
}
