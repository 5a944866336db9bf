package sealed_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"example.com/sealed"
)

// termsManager has terms for a session to be remembered, for one with a short idle
// timeout, and some that are invalid. Those of any other are the Config's: two
// hours, and one idle.
func termsManager(t *testing.T) *sealed.Manager[Session] {
	t.Helper()
	return mustNew(t, mustRing(t), sealed.Config[Session]{
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
}

func TestTermsGiveASessionItsOwnLifetimeAndPersistence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, b := termsManager(t), newBrowser(t)
		res := b.update(m, func(s *Session) { s.User, s.Remember = "alice", true })
		if got := res.Cookies()[0].MaxAge; got != 30*24*3600 {
			t.Errorf("Max-Age %d, want 30 days", got)
		}
		time.Sleep(29*24*time.Hour + time.Hour)
		if s, _, err := b.get(m); err != nil || s.User != "alice" {
			t.Errorf("after 29 days: %+v, %v", s, err)
		}
	})
}

// Max-Age is what is left of it.
func TestChangeKeepsTheDeadlineOfTerms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, b := termsManager(t), newBrowser(t)
		b.update(m, func(s *Session) { s.User, s.Remember = "alice", true })
		time.Sleep(29*24*time.Hour + time.Hour)
		res := b.update(m, func(s *Session) { s.Flash = "x" })
		if got := res.Cookies()[0].MaxAge; got != 24*3600-3600 {
			t.Errorf("Max-Age %d on day 29, want what is left", got)
		}
	})
}

func TestTermsGiveASessionItsOwnIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, b := termsManager(t), newBrowser(t)
		b.update(m, func(s *Session) { s.Flash = "idle" })
		if got, want := b.info(m).Expires, time.Now().Add(2*time.Hour); !got.Equal(want) {
			t.Errorf("a zero Lifetime in Terms: expires %v, want %v", got, want)
		}
		time.Sleep(time.Minute)
		b.wantErr(m, sealed.ErrExpired)
	})
}

// The idle timeout is among them.
func TestZeroTermsAreTheConfigs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, b := termsManager(t), newBrowser(t)
		if res := b.login(m, "bob"); res.Cookies()[0].MaxAge != 0 {
			t.Error("a session without Persistent has a Max-Age")
		}
		time.Sleep(time.Hour)
		b.wantErr(m, sealed.ErrExpired)
	})
}

func TestInvalidTermsRefuseTheChange(t *testing.T) {
	m, b := termsManager(t), newBrowser(t)
	b.login(m, "bob")
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		if err := m.Update(r.Context(), func(s *Session) { s.Flash = "bad" }); err == nil {
			t.Error("Update accepted invalid Terms")
		}
		if s, err := m.Get(r.Context()); err != nil || s.Flash != "" {
			t.Errorf("after invalid Terms: %+v, %v; want the session as it was", s, err)
		}
	})
}

func TestInvalidTermsForAStoredSessionAreUndecodable(t *testing.T) {
	var rec recorder
	ring := mustRing(t)
	b := newBrowser(t)
	b.login(mustNew(t, ring, sealed.Config[Session]{}), "alice")
	m := mustNew(t, ring, sealed.Config[Session]{Observe: rec.observe, TermsFor: func(s Session) sealed.Terms {
		return sealed.Terms{Lifetime: -1}
	}})
	b.wantErr(m, sealed.ErrInvalid)
	rec.want(t, "invalid terms", "rejected undecodable")
}
