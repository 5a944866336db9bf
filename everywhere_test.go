package sealed_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/sealed"
	"example.com/sealed/revoke"
)

// elsewhere is what a handler does that logs a user out on all other devices.
func elsewhere(m *sealed.Manager[Session], r *http.Request) error {
	info, err := m.Info(r.Context())
	if err != nil {
		return err
	}
	if err := m.RevokeSubject(r.Context(), info.Subject); err != nil {
		return err
	}
	return m.Renew(r.Context())
}

// A thief has copied the cookie, and holds such a request open.
func TestRevokeSubjectExemptsNoRequestThatWasOpenBefore(t *testing.T) {
	for name, owner := range map[string]func(m *sealed.Manager[Session], b *browser){
		"logs out everywhere": func(m *sealed.Manager[Session], _ *browser) { m.RevokeSubject(context.Background(), "alice") },
		"logs out elsewhere": func(m *sealed.Manager[Session], b *browser) {
			b.visit(m, func(_ http.ResponseWriter, r *http.Request) { elsewhere(m, r) })
		},
	} {
		for _, wait := range []time.Duration{0, time.Microsecond, time.Millisecond, time.Hour} {
			synctest.Test(t, func(t *testing.T) {
				m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: revoke.NewList()})
				b := newBrowser(t)
				b.login(m, "alice")
				time.Sleep(time.Minute)
				thief := b.clone()
				thief.visit(m, func(_ http.ResponseWriter, r *http.Request) {
					m.Get(r.Context())
					time.Sleep(wait)
					owner(m, b)
					time.Sleep(wait)
					if err := elsewhere(m, r); !errors.Is(err, sealed.ErrRevoked) {
						t.Errorf("the owner %s: the thief's request: %v, want ErrRevoked", name, err)
					}
				})
				if _, _, err := thief.get(m); err == nil {
					t.Errorf("the owner %s: the thief's session lives on", name)
				}
			})
		}
	}
}

// The owner's comes between the thief's RevokeSubject and Renew.
func TestRevokeSubjectExemptsByItsOwnTime(t *testing.T) {
	for _, wait := range []time.Duration{time.Nanosecond, time.Millisecond, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: revoke.NewList()})
			b := newBrowser(t)
			b.login(m, "alice")
			time.Sleep(time.Minute)
			thief := b.clone()
			thief.visit(m, func(_ http.ResponseWriter, r *http.Request) {
				if err := m.RevokeSubject(r.Context(), "alice"); err != nil {
					t.Error(err)
				}
				time.Sleep(wait)
				if err := m.RevokeSubject(t.Context(), "alice"); err != nil {
					t.Error(err)
				}
				if err := m.Renew(r.Context()); !errors.Is(err, sealed.ErrRevoked) {
					t.Errorf("after %v: Renew: %v, want ErrRevoked", wait, err)
				}
			})
			if _, _, err := thief.get(m); err == nil {
				t.Errorf("after %v: the thief's session lives on", wait)
			}
		})
	}
}

// A thief repeats it, by the clock of this machine, while the owner logs out once.
func TestThiefDoesNotSurviveARevokeSubjectByRenewingAllTheTime(t *testing.T) {
	for round := range 60 {
		m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: revoke.NewList()})
		thief := newBrowser(t)
		thief.login(m, "alice")
		started, stop := make(chan struct{}), make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				thief.visit(m, func(_ http.ResponseWriter, r *http.Request) { elsewhere(m, r) })
				if n == 2 {
					close(started)
				}
			}
		})
		<-started
		if err := m.RevokeSubject(t.Context(), "alice"); err != nil {
			t.Fatal(err)
		}
		close(stop)
		wg.Wait()
		if s, _, err := thief.get(m); err == nil {
			t.Fatalf("round %d: the thief's session lives on: %+v", round, s)
		}
	}
}

func TestRenewJudgesASessionBegunInTheSameRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: revoke.NewList()})
		res := request(m, func(_ http.ResponseWriter, r *http.Request) {
			set(t, m, r)
			time.Sleep(5 * time.Millisecond)
			m.RevokeSubject(t.Context(), "alice") // on another instance
			time.Sleep(5 * time.Millisecond)
			if err := m.Renew(r.Context()); !errors.Is(err, sealed.ErrRevoked) {
				t.Errorf("Renew: %v, want ErrRevoked", err)
			}
		})
		if setsCookie(res) {
			t.Errorf("a dead session was sent: %q", res.Header["Set-Cookie"])
		}
	})
}

// After its own RevokeSubject, without Renew, the session is one of those that ended.
func TestUpdateAfterOnesOwnRevokeSubjectIsAnError(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: revoke.NewList()})
	b := newBrowser(t)
	b.login(m, "alice")
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		if err := m.RevokeSubject(r.Context(), "alice"); err != nil {
			t.Error(err)
		}
		if err := m.Update(r.Context(), func(s *Session) { s.Flash = "x" }); !errors.Is(err, sealed.ErrRevoked) {
			t.Errorf("Update: %v, want ErrRevoked", err)
		}
		if err := m.Renew(r.Context()); err != nil {
			t.Errorf("Renew: %v", err)
		}
		if err := m.Update(r.Context(), func(s *Session) { s.Flash = "x" }); err != nil {
			t.Errorf("Update after Renew: %v", err)
		}
	})
	if s, _, err := b.get(m); err != nil || s.Flash != "x" {
		t.Errorf("then %+v, %v", s, err)
	}
}

// Whoever leaves the subject by a change keeps what is nobody's, such as a message.
func TestUpdateToAnotherSubjectAfterRevokeSubject(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: revoke.NewList()})
	b := newBrowser(t)
	b.login(m, "alice")
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		if err := m.RevokeSubject(r.Context(), "alice"); err != nil {
			t.Error(err)
		}
		if err := m.Update(r.Context(), func(s *Session) { *s = Session{Flash: "bye"} }); err != nil {
			t.Errorf("Update: %v", err)
		}
	})
	if s, _, err := b.get(m); err != nil || s.Flash != "bye" || s.User != "" {
		t.Errorf("then %+v, %v", s, err)
	}
}

// The exemption is for the subject whose sessions were revoked.
func TestExemptionEndsWithTheSubject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		list := revoke.NewList()
		m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: list})
		b := newBrowser(t)
		b.login(m, "alice")
		time.Sleep(time.Minute + 500*time.Microsecond)
		b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
			if err := m.RevokeSubject(r.Context(), "alice"); err != nil {
				t.Error(err)
			}
			if err := m.Update(r.Context(), func(s *Session) { s.User = "bob" }); err != nil {
				t.Error(err)
			}
			// In the same millisecond as bob's session, and before alice's were revoked.
			bobs := sealed.Revocation{Subject: "bob", Before: time.Now().Add(-200 * time.Microsecond), Until: time.Now().Add(time.Hour)}
			if err := list.Revoke(t.Context(), bobs); err != nil {
				t.Error(err)
			}
			if err := m.Renew(r.Context()); !errors.Is(err, sealed.ErrRevoked) {
				t.Errorf("Renew as bob: %v, want ErrRevoked", err)
			}
		})
	})
}

// A manager with a shorter lifetime, or an earlier configuration, shares the list.
func TestRevokeSubjectOutlivesSessionsOfAnyLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring, list := mustRing(t), revoke.NewList()
		long := mustNew(t, ring, sealed.Config[Session]{Subject: user, Revocations: list, Lifetime: 400 * 24 * time.Hour})
		short := mustNew(t, ring, sealed.Config[Session]{Subject: user, Revocations: list, Lifetime: time.Hour})
		b := newBrowser(t)
		b.login(long, "alice")
		time.Sleep(time.Minute)
		if err := short.RevokeSubject(t.Context(), "alice"); err != nil {
			t.Fatal(err)
		}
		for range 399 {
			b.wantErr(long, sealed.ErrRevoked)
			time.Sleep(24 * time.Hour)
		}
	})
}

func TestRevokeSubjectThatCouldEndNothingIsAnError(t *testing.T) {
	for name, config := range map[string]sealed.Config[Session]{
		"without a list":           {Subject: user},
		"without Config.Subject":   {Revocations: revoke.NewList()},
		"of nobody, without both":  {},
		"of nobody, but with both": {Subject: user, Revocations: revoke.NewList()},
	} {
		subject := "alice"
		if name == "of nobody, but with both" {
			subject = ""
		}
		if err := mustNew(t, mustRing(t), config).RevokeSubject(t.Context(), subject); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestRevokeSessionEndsOneByItsID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		list := &fakeList{}
		real := revoke.NewList()
		list.check, list.revoke = real.Check, real.Revoke
		m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: list})
		phone, laptop := newBrowser(t), newBrowser(t)
		phone.login(m, "alice")
		laptop.login(m, "alice")
		id := phone.info(m).ID
		laptop.visit(m, func(_ http.ResponseWriter, r *http.Request) {
			if err := m.RevokeSession(r.Context(), id); err != nil {
				t.Error(err)
			}
		})
		phone.wantErr(m, sealed.ErrRevoked)
		if _, _, err := laptop.get(m); err != nil {
			t.Errorf("the other session: %v", err)
		}
		want := []sealed.Revocation{{ID: id, Until: time.Now().Add(longest + skew)}}
		if diff := cmp.Diff(want, list.revoked); diff != "" {
			t.Errorf("revocations (-want +got):\n%s", diff)
		}
		if err := m.RevokeSession(t.Context(), sealed.ID{}); err == nil {
			t.Error("the zero ID was revoked")
		}
		if err := mustNew(t, mustRing(t), sealed.Config[Session]{}).RevokeSession(t.Context(), id); err == nil {
			t.Error("no error without a list")
		}
	})
}

func TestRenewedEventLinksTheIDs(t *testing.T) {
	var rec recorder
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Observe: rec.observe})
	b := newBrowser(t)
	b.login(m, "alice")
	before := b.info(m).ID
	rec.take()
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		if err := m.Renew(r.Context()); err != nil {
			t.Error(err)
		}
	})
	for _, e := range rec.events {
		if e.Kind == sealed.EventRenewed {
			if e.PreviousID != before || e.ID != b.info(m).ID || e.ID == before {
				t.Errorf("%+v, want from %v to %v", e, before, b.info(m).ID)
			}
			return
		}
	}
	t.Errorf("no event of a renewal in %v", rec.take())
}

// Strangers must not fill the list.
func TestDestroyOfNobodysSessionIsNotForTheList(t *testing.T) {
	list := revoke.NewList()
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: list})
	for range 50 {
		b := newBrowser(t)
		b.update(m, func(s *Session) { s.Cart = []string{"mug"} })
		res := b.visit(m, func(_ http.ResponseWriter, r *http.Request) { destroy(t, m, r) })
		if !setsCookie(res) || b.cookie() != "" {
			t.Fatalf("the cookie was not deleted: %q", res.Header["Set-Cookie"])
		}
	}
	if n := list.Len(); n != 0 {
		t.Errorf("%d entries of strangers", n)
	}
}

// Without a list another cookie's session goes on, and would be the visitor's next.
func TestDestroyWithoutAListSaysThatAnotherCookieGoesOn(t *testing.T) {
	m, f, _ := mustForge(t, sealed.Config[Session]{})
	now := time.Now().UnixMilli()
	one, two, expired := userCookie(f, 1, "alice", now, 0), userCookie(f, 2, "alice", now, 1), userCookie(f, 3, "alice", now-10*hourMs, 0)
	for what, tt := range map[string]struct {
		cookies string
		says    bool
	}{
		"two sessions":   {one + "; " + two, true},
		"one":            {one, false},
		"one, twice":     {one + "; " + one, false},
		"an expired one": {one + "; " + expired, false},
	} {
		var err error
		res := request(m, func(_ http.ResponseWriter, r *http.Request) { err = m.Destroy(r.Context()) }, tt.cookies)
		if (err != nil) != tt.says || !setsCookie(res) {
			t.Errorf("%s: Destroy: %v, want an error: %v; the cookie is deleted: %v", what, err, tt.says, setsCookie(res))
		}
	}
}

// Between the judgement and the renewal somebody else revokes all: the new session is one
// of those, and is not dated past them as that of a new login is.
func TestRenewalIsNotDatedPastARevocation(t *testing.T) {
	list := &fakeList{}
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: list})
	b := newBrowser(t)
	b.login(m, "alice")
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		m.Get(r.Context())
		judged := false
		before := time.Now().Add(time.Second)
		list.check = func(_ context.Context, s sealed.Info) error {
			if !judged {
				judged = true
				return nil
			}
			if s.Created.After(before) {
				return nil
			}
			return sealed.ErrRevoked
		}
		if err := m.Renew(r.Context()); !errors.Is(err, sealed.ErrRevoked) {
			t.Errorf("Renew: %v, want ErrRevoked", err)
		}
	})
}

// A login right after a RevokeSubject of an instance whose clock is ahead is dated past
// that; so is its renewal.
func TestRenewalOfASessionDatedAheadWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		list := revoke.NewList()
		m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: list})
		if err := list.Revoke(t.Context(), sealed.Revocation{Subject: "alice", Before: time.Now().Add(time.Minute), Until: time.Now().Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		b := newBrowser(t)
		b.login(m, "alice")
		b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
			if err := m.Renew(r.Context()); err != nil {
				t.Errorf("Renew: %v", err)
			}
		})
		if s, _, err := b.get(m); err != nil || s.User != "alice" {
			t.Errorf("then %+v, %v", s, err)
		}
	})
}
