package sealed_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"example.com/sealed"
)

// An idleTest is a browser whose session ends when it is idle for an hour.
type idleTest struct {
	t *testing.T
	m *sealed.Manager[Session]
	b *browser
}

func newIdleTest(t *testing.T) idleTest {
	t.Helper()
	x := idleTest{t, mustNew(t, mustRing(t), sealed.Config[Session]{Lifetime: 24 * time.Hour, IdleTimeout: time.Hour}), newBrowser(t)}
	x.b.login(x.m, "alice")
	return x
}

// use reads the session after d, and checks whether that sets the cookie.
func (x idleTest) use(d time.Duration, wantCookie bool) {
	x.t.Helper()
	time.Sleep(d)
	if _, res, err := x.b.get(x.m); err != nil || setsCookie(res) != wantCookie {
		x.t.Errorf("a use after %v: error %v, cookie %v, want cookie %v", d, err, setsCookie(res), wantCookie)
	}
}

func TestUseIsRecordedWhenAQuarterOfTheIdleTimeoutHasPassed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newIdleTest(t)
		expires := x.b.info(x.m).Expires
		x.use(15*time.Minute-time.Millisecond, false) // not worth a cookie yet
		x.use(time.Millisecond, true)
		x.use(0, false)
		if got := x.b.info(x.m); !got.LastUsed.Equal(time.Now()) || !got.Expires.Equal(expires) {
			t.Errorf("last used %v, expires %v; want %v, %v", got.LastUsed, got.Expires, time.Now(), expires)
		}
	})
}

func TestSessionEndsWhenItIsIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newIdleTest(t)
		x.use(15*time.Minute, true)
		x.use(time.Hour-time.Millisecond, true)
		time.Sleep(time.Hour)
		x.b.wantErr(x.m, sealed.ErrExpired)
	})
}

func TestRequestThatDoesNotReadTheSessionIsNoUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newIdleTest(t)
		time.Sleep(30 * time.Minute)
		if res := x.b.visit(x.m, func(http.ResponseWriter, *http.Request) {}); setsCookie(res) {
			t.Error("a request that did not read the session moved its last use")
		}
		time.Sleep(30 * time.Minute)
		x.b.wantErr(x.m, sealed.ErrExpired)
	})
}

func TestPrefetchedPageIsNoUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newIdleTest(t)
		time.Sleep(30 * time.Minute)
		for _, purpose := range []string{"prefetch", "prefetch;prerender"} {
			res := x.b.visit(x.m, func(_ http.ResponseWriter, r *http.Request) {
				if _, err := x.m.Get(r.Context()); err != nil {
					t.Error(err)
				}
			}, "Sec-Purpose", purpose)
			if setsCookie(res) {
				t.Errorf("Sec-Purpose: %s moved the last use", purpose)
			}
		}
		time.Sleep(30 * time.Minute)
		x.b.wantErr(x.m, sealed.ErrExpired)
	})
}

func TestPageOfAnotherSecPurposeIsUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newIdleTest(t)
		time.Sleep(20 * time.Minute)
		read := func(_ http.ResponseWriter, r *http.Request) { x.m.Get(r.Context()) }
		if res := x.b.visit(x.m, read, "Sec-Purpose", "preview"); !setsCookie(res) {
			t.Error("a use was not recorded")
		}
	})
}

func TestChangeIsUseAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newIdleTest(t)
		time.Sleep(time.Minute)
		x.b.visit(x.m, func(_ http.ResponseWriter, r *http.Request) {
			x.m.Get(r.Context())
			time.Sleep(time.Minute)
			set(t, x.m, r)
			x.m.Update(r.Context(), func(s *Session) { s.Flash = "x" })
		})
		if got := x.b.info(x.m).LastUsed; !got.Equal(time.Now()) {
			t.Errorf("after a change: last used %v, want %v", got, time.Now())
		}
	})
}

func TestReadIsUseWhenTheSessionWasAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newIdleTest(t)
		time.Sleep(20 * time.Minute)
		read := time.Now()
		x.b.visit(x.m, func(_ http.ResponseWriter, r *http.Request) { x.m.Get(r.Context()); time.Sleep(time.Second) })
		if got := x.b.info(x.m).LastUsed; !got.Equal(read) {
			t.Errorf("after a read: last used %v, want %v", got, read)
		}
	})
}

// Another instance's clock is ahead.
func TestLastUseNeverMovesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f, _ := mustForge(t, sealed.Config[Session]{Lifetime: time.Hour, IdleTimeout: time.Hour, Persistent: true})
		now := time.Now().UnixMilli()
		for what, p := range map[string][]byte{
			"used ahead":    plaintext(t, [16]byte{1}, now-1000, 61_000, hourMs, Session{User: "alice"}),
			"created ahead": plaintext(t, [16]byte{1}, now+60_000, 0, hourMs, Session{User: "alice"}),
		} {
			res := request(m, func(_ http.ResponseWriter, r *http.Request) {
				if err := m.Update(r.Context(), func(s *Session) { s.Flash = "x" }); err != nil {
					t.Error(err)
				}
				if i, err := m.Info(r.Context()); err != nil || i.LastUsed.UnixMilli() != now+60_000 {
					t.Errorf("%s: %+v, %v", what, i, err)
				}
			}, f.cookie(p))
			if s, _, err := getWith(m, cookieOf(res)); err != nil || s.Flash != "x" {
				t.Errorf("%s: %+v, %v", what, s, err)
			}
		}
	})
}

func TestChangeOnPrefetchedPageIsKeptButIsNoUse(t *testing.T) {
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
