package sealed_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/sealed"
	"example.com/sealed/revoke"
)

const grace = 10 * time.Second

// inGrace runs f with a browser whose session was just renewed, and another that still
// has the cookie from before, as has a request that was sent at the same time.
func inGrace(t *testing.T, config sealed.Config[Session], f func(t *testing.T, m *sealed.Manager[Session], renewed, late *browser)) {
	synctest.Test(t, func(t *testing.T) {
		config.Subject, config.Revocations, config.RenewalGrace = user, revoke.NewList(), grace
		m := mustNew(t, mustRing(t), config)
		b := newBrowser(t)
		b.login(m, "alice")
		time.Sleep(time.Minute)
		late := b.clone()
		b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
			if err := m.Renew(r.Context()); err != nil {
				t.Error(err)
			}
		})
		f(t, m, b, late)
	})
}

func TestRequestsOfARenewedSessionAreServedForTheGrace(t *testing.T) {
	inGrace(t, sealed.Config[Session]{}, func(t *testing.T, m *sealed.Manager[Session], renewed, late *browser) {
		time.Sleep(grace - time.Millisecond)
		if s, _, err := late.get(m); err != nil || s.User != "alice" {
			t.Errorf("just within the grace: %+v, %v", s, err)
		}
		time.Sleep(time.Millisecond)
		late.wantErr(m, sealed.ErrRevoked)
		if s, _, err := renewed.get(m); err != nil || s.User != "alice" {
			t.Errorf("the renewed session: %+v, %v", s, err)
		}
	})
}

func TestARenewedSessionIsNotChangedInTheGrace(t *testing.T) {
	inGrace(t, sealed.Config[Session]{}, func(t *testing.T, m *sealed.Manager[Session], _, late *browser) {
		for name, read := range map[string]bool{"at once": false, "after reading it": true} {
			res := late.visit(m, func(_ http.ResponseWriter, r *http.Request) {
				if read {
					m.Get(r.Context())
				}
				if err := m.Update(r.Context(), func(s *Session) { s.Flash = "x" }); !errors.Is(err, sealed.ErrRenewed) {
					t.Errorf("Update %s: %v", name, err)
				}
				if err := m.Update(r.Context(), func(s *Session) { s.User = "bob" }); !errors.Is(err, sealed.ErrRenewed) {
					t.Errorf("Update of the subject %s: %v", name, err)
				}
				if err := m.Renew(r.Context()); !errors.Is(err, sealed.ErrRenewed) {
					t.Errorf("Renew %s: %v", name, err)
				}
				if err := m.Verify(r.Context()); err != nil {
					t.Errorf("Verify %s: %v", name, err)
				}
			})
			if setsCookie(res) {
				t.Errorf("%s, the response replaces the renewed session's cookie", name)
			}
		}
	})
}

// The first half of the request belongs to a session that has not been renewed yet.
func TestAnUpdateBeforeTheRenewalDoesNotReplaceIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: revoke.NewList(), RenewalGrace: grace})
		b := newBrowser(t)
		b.login(m, "alice")
		other := b.clone()
		res := b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
			if err := m.Update(r.Context(), func(s *Session) { s.Flash = "x" }); err != nil {
				t.Error(err)
			}
			other.visit(m, func(_ http.ResponseWriter, r *http.Request) {
				if err := m.Renew(r.Context()); err != nil {
					t.Error(err)
				}
			})
		})
		if setsCookie(res) {
			t.Error("a response sets the cookie of the session from before the renewal")
		}
	})
}

func TestAReadInTheGraceSetsNoCookie(t *testing.T) {
	config := sealed.Config[Session]{IdleTimeout: 2 * time.Minute}
	inGrace(t, config, func(t *testing.T, m *sealed.Manager[Session], _, late *browser) {
		_, res, err := late.get(m) // a minute after its last use: a touch is due
		if err != nil || setsCookie(res) {
			t.Errorf("%v, sets a cookie: %t", err, setsCookie(res))
		}
	})
}

func TestLogoutInTheGraceEndsIt(t *testing.T) {
	inGrace(t, sealed.Config[Session]{}, func(t *testing.T, m *sealed.Manager[Session], _, late *browser) {
		copied := late.clone()
		late.visit(m, func(_ http.ResponseWriter, r *http.Request) {
			if err := m.Destroy(r.Context()); err != nil {
				t.Error(err)
			}
		})
		copied.wantErr(m, sealed.ErrRevoked)
	})
}

func TestLogoutEverywhereEndsTheGrace(t *testing.T) {
	inGrace(t, sealed.Config[Session]{}, func(t *testing.T, m *sealed.Manager[Session], renewed, late *browser) {
		if err := m.RevokeSubject(context.Background(), "alice"); err != nil {
			t.Fatal(err)
		}
		late.wantErr(m, sealed.ErrRevoked)
		renewed.wantErr(m, sealed.ErrRevoked)
	})
}

// A thief who has planted a session, or copied one, is not served after its end.
func TestAChangeOfTheSubjectHasNoGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: revoke.NewList(), RenewalGrace: grace})
		b := newBrowser(t)
		for _, next := range []string{"bob", ""} {
			b.login(m, "alice")
			late := b.clone()
			b.update(m, func(s *Session) { s.User = next })
			late.wantErr(m, sealed.ErrRevoked)
		}
	})
}

func TestRenewalGraceIsChecked(t *testing.T) {
	for name, config := range map[string]sealed.Config[Session]{
		"RenewalGrace -1s":              {RenewalGrace: -time.Second, Revocations: revoke.NewList()},
		"RenewalGrace 1m0.000000001s":   {RenewalGrace: time.Minute + 1, Revocations: revoke.NewList()},
		"RenewalGrace needs Revocation": {RenewalGrace: time.Second},
	} {
		if _, err := sealed.New(mustRing(t), config); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
