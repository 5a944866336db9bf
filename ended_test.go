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

// endings are what can end a session while a request of its browser is under way.
var endings = map[string]struct {
	end  func(t *testing.T, m *sealed.Manager[Session], ring *sealed.Keyring, b *browser)
	want error
}{
	"logout": {func(t *testing.T, m *sealed.Manager[Session], _ *sealed.Keyring, b *browser) {
		b.visit(m, func(_ http.ResponseWriter, r *http.Request) { destroy(t, m, r) })
	}, sealed.ErrRevoked},
	"logout everywhere": {func(t *testing.T, m *sealed.Manager[Session], _ *sealed.Keyring, _ *browser) {
		if err := m.RevokeSubject(t.Context(), "alice"); err != nil {
			t.Error(err)
		}
	}, sealed.ErrRevoked},
	"its end on another device": {func(t *testing.T, m *sealed.Manager[Session], _ *sealed.Keyring, b *browser) {
		if err := m.RevokeSession(t.Context(), b.info(m).ID); err != nil {
			t.Error(err)
		}
	}, sealed.ErrRevoked},
	"its lifetime":     {func(*testing.T, *sealed.Manager[Session], *sealed.Keyring, *browser) { time.Sleep(25 * time.Hour) }, sealed.ErrExpired},
	"its idle timeout": {func(*testing.T, *sealed.Manager[Session], *sealed.Keyring, *browser) { time.Sleep(time.Hour) }, sealed.ErrExpired},
	"its key's revocation": {func(t *testing.T, _ *sealed.Manager[Session], ring *sealed.Keyring, _ *browser) {
		old := ring.Keys()[0].ID
		if _, err := ring.Rotate(0); err != nil {
			t.Error(err)
		}
		if err := ring.Revoke(old); err != nil {
			t.Error(err)
		}
	}, sealed.ErrInvalid},
}

// eachEnding runs f for each ending, in a bubble, with alice logged in.
func eachEnding(t *testing.T, f func(t *testing.T, m *sealed.Manager[Session], b *browser, end func(), want error)) {
	for name, e := range endings {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ring := mustRing(t)
				m := mustNew(t, ring, sealed.Config[Session]{Subject: user, Revocations: revoke.NewList(), IdleTimeout: time.Hour})
				b := newBrowser(t)
				b.login(m, "alice")
				time.Sleep(20 * time.Minute) // its last use is due to be recorded
				f(t, m, b, func() { e.end(t, m, ring, b.clone()) }, e.want)
			})
		})
	}
}

func TestResponseThatOnlyReadLeavesAnEndedSessionAlone(t *testing.T) {
	eachEnding(t, func(t *testing.T, m *sealed.Manager[Session], b *browser, end func(), _ error) {
		res := b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
			if _, err := m.Get(r.Context()); err != nil {
				t.Error(err)
			}
			end()
		})
		if setsCookie(res) {
			t.Errorf("the cookie was set: %q", res.Header["Set-Cookie"])
		}
	})
}

func TestResponseWhoseUpdateWasAcceptedLeavesAnEndedSessionAlone(t *testing.T) {
	eachEnding(t, func(t *testing.T, m *sealed.Manager[Session], b *browser, end func(), _ error) {
		res := b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
			if err := m.Update(r.Context(), func(s *Session) { s.Flash = "x" }); err != nil {
				t.Error(err)
			}
			end()
		})
		if setsCookie(res) {
			t.Errorf("the cookie was set: %q", res.Header["Set-Cookie"])
		}
	})
}

func TestUpdateOfASessionThatHasEndedSinceItWasReadIsAnError(t *testing.T) {
	eachEnding(t, func(t *testing.T, m *sealed.Manager[Session], b *browser, end func(), want error) {
		if want == sealed.ErrInvalid {
			return // a forged session is none: Update begins one
		}
		called := false
		b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
			m.Get(r.Context())
			end()
			if err := m.Update(r.Context(), func(s *Session) { called = true; s.Flash = "x" }); !errors.Is(err, want) {
				t.Errorf("Update: %v, want %v", err, want)
			}
		})
		if called {
			t.Error("the change was called")
		}
	})
}

func TestVerifyTellsThatTheSessionHasEndedAlsoAfterTheHeaders(t *testing.T) {
	eachEnding(t, func(t *testing.T, m *sealed.Manager[Session], b *browser, end func(), want error) {
		b.visit(m, func(w http.ResponseWriter, r *http.Request) {
			m.Get(r.Context())
			w.WriteHeader(http.StatusOK)
			if err := m.Verify(r.Context()); err != nil {
				t.Errorf("Verify: %v", err)
			}
			end()
			if err := m.Verify(r.Context()); !errors.Is(err, want) {
				t.Errorf("Verify: %v, want %v", err, want)
			}
		})
	})
}

func TestVerifyWithoutASession(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	request(m, func(_ http.ResponseWriter, r *http.Request) {
		if err := m.Verify(r.Context()); !errors.Is(err, sealed.ErrNoSession) {
			t.Errorf("Verify: %v, want ErrNoSession", err)
		}
	})
	if err := m.Verify(t.Context()); !errors.Is(err, sealed.ErrNoHandler) {
		t.Errorf("Verify outside Handler: %v, want ErrNoHandler", err)
	}
}

// The browser has logged in again by another request; the slow response must not
// overwrite that.
func TestSlowResponseOfAnEndedSessionLeavesTheNextLogin(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: revoke.NewList()})
	b := newBrowser(t)
	b.login(m, "alice")
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		if err := m.Update(r.Context(), func(s *Session) { s.Flash = "x" }); err != nil {
			t.Error(err)
		}
		b.visit(m, func(_ http.ResponseWriter, r *http.Request) { destroy(t, m, r) })
		b.login(m, "bob")
	})
	if s, _, err := b.get(m); err != nil || s.User != "bob" {
		t.Errorf("then %+v, %v; want bob", s, err)
	}
}

// A session that the list cannot verify any more may be good: nothing that was accepted
// is lost, but no cookie is set for a read.
func TestListThatGoesStaleDuringARequest(t *testing.T) {
	for _, change := range []bool{true, false} {
		list := &fakeList{}
		ring := mustRing(t)
		m := mustNew(t, ring, sealed.Config[Session]{Subject: user, Revocations: list})
		b := newBrowser(t)
		b.login(m, "alice")
		if _, err := ring.Rotate(0); err != nil {
			t.Fatal(err)
		}
		res := b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
			m.Get(r.Context())
			if change {
				if err := m.Update(r.Context(), func(s *Session) { s.Flash = "x" }); err != nil {
					t.Error(err)
				}
			}
			list.checks(sealed.ErrUnverified)
		})
		if setsCookie(res) != change {
			t.Errorf("changed %v: set %q", change, res.Header["Set-Cookie"])
		}
	}
}

// An anonymous visitor logs in while a slow page, which only reads the session, is under
// way. That page must not bring the anonymous session back.
func TestSlowReadDoesNotUndoALogin(t *testing.T) {
	for name, due := range map[string]func(ring *sealed.Keyring){
		"last use to record": func(*sealed.Keyring) {},
		"another key":        func(ring *sealed.Keyring) { ring.Rotate(0) },
	} {
		synctest.Test(t, func(t *testing.T) {
			ring := mustRing(t)
			m := mustNew(t, ring, sealed.Config[Session]{Subject: user, IdleTimeout: time.Hour})
			b := newBrowser(t)
			b.update(m, func(s *Session) { s.Flash = "x" })
			time.Sleep(20 * time.Minute)
			due(ring)
			b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
				m.Get(r.Context())
				b.login(m, "alice")
				time.Sleep(2*time.Second + time.Millisecond)
			})
			if s, _, err := b.get(m); err != nil || s.User != "alice" {
				t.Errorf("%s: then %+v, %v; want alice", name, s, err)
			}
		})
	}
}

func TestReadSetsACookieWithinTwoSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, mustRing(t), sealed.Config[Session]{IdleTimeout: time.Hour})
		for wait, want := range map[time.Duration]bool{2 * time.Second: true, 2*time.Second + time.Millisecond: false} {
			b := newBrowser(t)
			b.login(m, "alice")
			time.Sleep(20 * time.Minute)
			res := b.visit(m, func(_ http.ResponseWriter, r *http.Request) { m.Get(r.Context()); time.Sleep(wait) })
			if setsCookie(res) != want {
				t.Errorf("after %v: sets a cookie %v, want %v", wait, setsCookie(res), want)
			}
		}
	})
}

// With slow pages only, a session in use would go idle, or lose its key.
func TestSlowReadKeepsASessionThatWouldGoIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, mustRing(t), sealed.Config[Session]{IdleTimeout: time.Hour})
		b := newBrowser(t)
		b.login(m, "alice")
		for range 20 {
			time.Sleep(25 * time.Minute)
			b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
				if _, err := m.Get(r.Context()); err != nil {
					t.Fatalf("Get: %v", err)
				}
				time.Sleep(10 * time.Second)
			})
		}
	})
}

func TestSlowReadReencryptsUnderAKeyThatHasSealedForADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring := mustRing(t)
		m := mustNew(t, ring, sealed.Config[Session]{Lifetime: 30 * 24 * time.Hour})
		b := newBrowser(t)
		b.login(m, "alice")
		ring.Rotate(0)
		slow := func() bool {
			return setsCookie(b.visit(m, func(_ http.ResponseWriter, r *http.Request) { m.Get(r.Context()); time.Sleep(3 * time.Second) }))
		}
		if slow() {
			t.Error("a slow read was re-encrypted at once")
		}
		time.Sleep(24 * time.Hour)
		if !slow() {
			t.Error("not re-encrypted after a day")
		}
	})
}

func TestPeekIsNoUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, mustRing(t), sealed.Config[Session]{IdleTimeout: 30 * time.Minute})
		b := newBrowser(t)
		b.login(m, "alice")
		poll := func(want error) {
			t.Helper()
			b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
				if s, err := m.Peek(r.Context()); !errors.Is(err, want) || (err == nil) != (s.User == "alice") {
					t.Errorf("Peek: %+v, %v, want %v", s, err, want)
				}
			})
		}
		for range 29 {
			time.Sleep(time.Minute)
			poll(nil)
		}
		time.Sleep(time.Minute)
		poll(sealed.ErrExpired)
		if _, err := m.Peek(t.Context()); !errors.Is(err, sealed.ErrNoHandler) {
			t.Errorf("Peek outside Handler: %v, want ErrNoHandler", err)
		}
	})
}

func TestInfoTellsWhenTheSessionGoesIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, mustRing(t), sealed.Config[Session]{IdleTimeout: time.Hour, TermsFor: func(s Session) sealed.Terms {
			return sealed.Terms{Lifetime: 24 * time.Hour, IdleTimeout: map[bool]time.Duration{false: time.Hour}[s.Remember]}
		}})
		b := newBrowser(t)
		b.login(m, "alice")
		if got, want := b.info(m).IdleExpires, time.Now().Add(time.Hour); !got.Equal(want) {
			t.Errorf("IdleExpires %v, want %v", got, want)
		}
		b.update(m, func(s *Session) { s.Remember = true })
		if got := b.info(m).IdleExpires; !got.IsZero() {
			t.Errorf("IdleExpires %v without an idle timeout", got)
		}
	})
}

// http.TimeoutHandler around the middleware has answered 503; nobody waits for more.
func TestChangeOfARequestThatIsOverIsAnErrorButDestroyRevokes(t *testing.T) {
	for name, derive := range map[string]func(context.Context) context.Context{
		"its context":  func(ctx context.Context) context.Context { return ctx },
		"one from it":  func(ctx context.Context) context.Context { return context.WithValue(ctx, anyKey{}, 1) },
		"one without":  context.WithoutCancel,
		"one with end": func(ctx context.Context) context.Context { return canceled(context.WithoutCancel(ctx)) },
	} {
		list := revoke.NewList()
		m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: list})
		b := newBrowser(t)
		b.login(m, "alice")
		thief := b.clone()
		over := nest(func(h http.Handler) http.Handler {
			inner := m.Handler(h)
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ctx, cancel := context.WithCancel(r.Context())
				defer cancel()
				if name != "one with end" {
					cancel()
				}
				inner.ServeHTTP(w, r.WithContext(ctx))
			})
		})
		b.visit(over, func(_ http.ResponseWriter, r *http.Request) {
			ctx := derive(r.Context())
			if s, err := m.Get(ctx); err != nil || s.User != "alice" {
				t.Errorf("%s: Get: %+v, %v", name, s, err)
			}
			if err := m.Update(ctx, func(s *Session) { s.Flash = "x" }); !errors.Is(err, context.Canceled) {
				t.Errorf("%s: Update: %v, want context.Canceled", name, err)
			}
			if err := m.Renew(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("%s: Renew: %v, want context.Canceled", name, err)
			}
			if err := m.Destroy(ctx); err != nil {
				t.Errorf("%s: Destroy: %v", name, err)
			}
		})
		thief.wantErr(m, sealed.ErrRevoked)
	}
}

type anyKey struct{}

func canceled(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
}
