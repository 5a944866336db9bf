package sealed_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/sealed"
	"example.com/sealed/revoke"
)

// Session is the session of most tests.
type Session struct {
	User     string   `cbor:"1,keyasint,omitempty"`
	Cart     []string `cbor:"2,keyasint,omitempty"`
	Flash    string   `cbor:"3,keyasint,omitempty"`
	Remember bool     `cbor:"4,keyasint,omitempty"`
}

func user(s Session) string { return s.User }

// mustRing returns a ring of new keys.
func mustRing(t testing.TB) *sealed.Keyring {
	t.Helper()
	ring, err := sealed.NewKeyring(sealed.GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func mustNew[T any](t testing.TB, ring *sealed.Keyring, config sealed.Config[T]) *sealed.Manager[T] {
	t.Helper()
	m, err := sealed.New(ring, config)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// A browser keeps cookies as net/http/cookiejar does, and visits handlers.
type browser struct {
	t   testing.TB
	jar *cookiejar.Jar
}

var site = &url.URL{Scheme: "https", Host: "shop.example", Path: "/"}

func newBrowser(t testing.TB) *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{t, jar}
}

// visit runs h under m, and keeps the cookies of the response.
func (b *browser) visit(m interface {
	Handler(http.Handler) http.Handler
}, h func(w http.ResponseWriter, r *http.Request), header ...string) *http.Response {
	b.t.Helper()
	r := httptest.NewRequest("GET", site.String(), nil)
	for _, c := range b.jar.Cookies(site) {
		r.AddCookie(c)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	m.Handler(http.HandlerFunc(h)).ServeHTTP(w, r)
	b.jar.SetCookies(site, w.Result().Cookies())
	return w.Result()
}

// cookie returns the Cookie header that the browser sends.
func (b *browser) cookie() string {
	var pairs []string
	for _, c := range b.jar.Cookies(site) {
		pairs = append(pairs, c.Name+"="+c.Value)
	}
	return strings.Join(pairs, "; ")
}

// update changes the session and fails the test if it cannot.
func (b *browser) update(m *sealed.Manager[Session], change func(*Session)) *http.Response {
	b.t.Helper()
	return b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		if err := m.Update(r.Context(), change); err != nil {
			b.t.Errorf("Update: %v", err)
		}
	})
}

// login makes user the session's.
func (b *browser) login(m *sealed.Manager[Session], user string) *http.Response {
	b.t.Helper()
	return b.update(m, func(s *Session) { s.User = user })
}

// get reads the session in a request of its own.
func (b *browser) get(m *sealed.Manager[Session]) (s Session, err error, res *http.Response) {
	b.t.Helper()
	res = b.visit(m, func(_ http.ResponseWriter, r *http.Request) { s, err = m.Get(r.Context()) })
	return s, err, res
}

func (b *browser) info(m *sealed.Manager[Session]) sealed.Info {
	b.t.Helper()
	var info sealed.Info
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		var err error
		if info, err = m.Info(r.Context()); err != nil {
			b.t.Errorf("Info: %v", err)
		}
	})
	return info
}

// wantErr reads the session and checks why there is none.
func (b *browser) wantErr(m *sealed.Manager[Session], want error) {
	b.t.Helper()
	s, err, _ := b.get(m)
	if !errors.Is(err, want) {
		b.t.Errorf("Get: error %v, want %v", err, want)
	}
	if diff := cmp.Diff(Session{}, s); err != nil && diff != "" {
		b.t.Errorf("Get returned data with an error (-want +got):\n%s", diff)
	}
}

// clone returns a browser with a copy of the cookies, as a thief has them.
func (b *browser) clone() *browser {
	c := newBrowser(b.t)
	c.jar.SetCookies(site, withSecure(b.jar.Cookies(site)))
	return c
}

// withSecure gives cookies the attributes that a jar does not return.
func withSecure(cookies []*http.Cookie) []*http.Cookie {
	for _, c := range cookies {
		c.Secure, c.Path = true, "/"
	}
	return cookies
}

func setsCookie(res *http.Response) bool { return len(res.Header["Set-Cookie"]) > 0 }

func TestGetWithoutSession(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	b := newBrowser(t)
	b.wantErr(m, sealed.ErrNoSession)
	if s, err := m.Get(t.Context()); !errors.Is(err, sealed.ErrNoHandler) || s.User != "" {
		t.Errorf("Get outside Handler: %v, %v, want ErrNoHandler", s, err)
	}
	for name, err := range map[string]error{
		"Update":  m.Update(t.Context(), func(*Session) { t.Error("change was called") }),
		"Renew":   m.Renew(t.Context()),
		"Destroy": m.Destroy(t.Context()),
	} {
		if !errors.Is(err, sealed.ErrNoHandler) {
			t.Errorf("%s outside Handler: %v, want ErrNoHandler", name, err)
		}
	}
	if _, err := m.Info(t.Context()); !errors.Is(err, sealed.ErrNoHandler) {
		t.Errorf("Info outside Handler: %v, want ErrNoHandler", err)
	}
}

// Managers do not see each other's sessions in the context.
func TestTwoManagers(t *testing.T) {
	ring := mustRing(t)
	a := mustNew(t, ring, sealed.Config[Session]{})
	b := mustNew(t, ring, sealed.Config[Session]{Cookie: sealed.Cookie{Name: "__Host-other"}})
	br := newBrowser(t)
	var nested nest = func(h http.Handler) http.Handler { return a.Handler(b.Handler(h)) }
	br.visit(nested, func(_ http.ResponseWriter, r *http.Request) {
		if err := a.Update(r.Context(), func(s *Session) { s.Flash = "a" }); err != nil {
			t.Error(err)
		}
		if err := b.Update(r.Context(), func(s *Session) { s.Flash = "b" }); err != nil {
			t.Error(err)
		}
	})
	br.visit(nested, func(_ http.ResponseWriter, r *http.Request) {
		sa, errA := a.Get(r.Context())
		sb, errB := b.Get(r.Context())
		if sa.Flash != "a" || sb.Flash != "b" {
			t.Errorf("got %q (%v) and %q (%v), want a and b", sa.Flash, errA, sb.Flash, errB)
		}
	})
}

type nest func(http.Handler) http.Handler

func (n nest) Handler(h http.Handler) http.Handler { return n(h) }

// An untouched visitor gets no cookie, whatever the handler looks at.
func TestNothingToSay(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	for name, h := range map[string]func(http.ResponseWriter, *http.Request){
		"nothing": func(http.ResponseWriter, *http.Request) {},
		"get":     func(_ http.ResponseWriter, r *http.Request) { m.Get(r.Context()) },
		"update to the zero value": func(_ http.ResponseWriter, r *http.Request) {
			if err := m.Update(r.Context(), func(s *Session) { s.Cart = []string{} }); err != nil {
				t.Error(err)
			}
		},
		"destroy": func(_ http.ResponseWriter, r *http.Request) { m.Destroy(r.Context()) },
	} {
		if res := newBrowser(t).visit(m, h); setsCookie(res) {
			t.Errorf("%s: a new visitor got %q", name, res.Header["Set-Cookie"])
		}
	}
}

// An update that changes nothing sends no cookie, one that does sends one.
func TestUpdateComparesBytes(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	b := newBrowser(t)
	if res := b.login(m, "alice"); !setsCookie(res) {
		t.Fatal("login set no cookie")
	}
	if res := b.update(m, func(s *Session) { s.User = "al" + "ice" }); setsCookie(res) {
		t.Error("an update to the same value set a cookie")
	}
	if res := b.update(m, func(s *Session) { s.Flash = "hi" }); !setsCookie(res) {
		t.Error("an update to another value set no cookie")
	}
	if s, err, _ := b.get(m); err != nil || s.User != "alice" || s.Flash != "hi" {
		t.Errorf("got %+v, %v", s, err)
	}
}

// What Get returns and Update gets is the caller's alone.
func TestCopies(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user})
	b := newBrowser(t)
	b.update(m, func(s *Session) { s.Cart = []string{"mug", "tee"} })
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		first, _ := m.Get(r.Context())
		first.Cart[0] = "changed"
		var leaked *Session
		if err := m.Update(r.Context(), func(s *Session) { leaked = s; s.Flash = "x" }); err != nil {
			t.Error(err)
		}
		leaked.Cart[1] = "changed"
		second, _ := m.Get(r.Context())
		if diff := cmp.Diff(Session{Cart: []string{"mug", "tee"}, Flash: "x"}, second); diff != "" {
			t.Errorf("a caller's copy changed the session (-want +got):\n%s", diff)
		}
	})
}

func TestUpdatePanics(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	b := newBrowser(t)
	b.update(m, func(s *Session) { s.Cart = []string{"mug"} })
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		func() {
			defer func() { _ = recover() }()
			m.Update(r.Context(), func(s *Session) { s.Cart[0] = "broken"; panic("oops") })
		}()
		if s, err := m.Get(r.Context()); err != nil || s.Cart[0] != "mug" {
			t.Errorf("after a panic in change: %+v, %v; want the session as it was", s, err)
		}
	})
}

// Many goroutines of one request lose nothing.
func TestConcurrentUse(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: revoke.NewList()})
	b := newBrowser(t)
	b.login(m, "alice")
	const n = 50
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() {
				if err := m.Update(r.Context(), func(s *Session) { s.Cart = append(s.Cart, "mug") }); err != nil {
					t.Error(err)
				}
			})
			wg.Go(func() {
				if s, err := m.Get(r.Context()); err != nil || s.User != "alice" {
					t.Errorf("%+v, %v", s, err)
				}
				if _, err := m.Info(r.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
	if s, err, _ := b.get(m); err != nil || len(s.Cart) != n {
		t.Errorf("%d of %d updates arrived: %v", len(s.Cart), n, err)
	}
}

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
		if s, err, _ := b.get(m); err != nil || s.User != "alice" {
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
		if _, err, _ := long.get(day); err != nil {
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
			if _, err, res := b.get(m); err != nil || setsCookie(res) != wantCookie {
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
		if s, err, _ := remembered.get(m); err != nil || s.User != "alice" {
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
		m, f := mustForge(t)
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
		if _, err, _ := anonymousCopy.get(m); err != nil {
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
		if s, err, _ := b.get(m); err != nil || len(s.Cart) != 1 || s.User != "" {
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
			if s, err, _ := laptop.get(m); err != nil || s.User != "alice" {
				t.Fatalf("the renewed session: %+v, %v", s, err)
			}
			phone.login(m, "alice")
			if s, err, _ := phone.get(m); err != nil || s.User != "alice" {
				t.Fatalf("a login after it: %+v, %v", s, err)
			}
		}
		if err := m.RevokeSubject(t.Context(), "alice"); err != nil {
			t.Error(err)
		}
		if s, err, _ := bob.get(m); err != nil || s.User != "bob" {
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

// fakeList is a revocation list in a state that a test wants.
type fakeList struct {
	mu      sync.Mutex
	check   error
	revoke  error
	revoked []sealed.Revocation
}

func (l *fakeList) Revoke(_ context.Context, r sealed.Revocation) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.revoke == nil {
		l.revoked = append(l.revoked, r)
	}
	return l.revoke
}

func (l *fakeList) Check(context.Context, sealed.Info) error { return l.check }

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
			list.check = check
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
			list.check = nil
			if s, err, _ := b.get(m); err != nil || s.User != "alice" {
				t.Errorf("when the list is back: %+v, %v", s, err)
			}
		})
	}
}

// A list that fails is reported; a logout still logs this browser out, and can
// be tried again.
func TestRevocationFails(t *testing.T) {
	list := &fakeList{revoke: errors.New("disk full")}
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: list})
	b := newBrowser(t)
	b.login(m, "alice")
	id := b.info(m).ID
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		if err := m.Update(r.Context(), func(s *Session) { s.User = "bob" }); !errors.Is(err, list.revoke) {
			t.Errorf("Update: %v, want %v", err, list.revoke)
		}
		if err := m.Renew(r.Context()); !errors.Is(err, list.revoke) {
			t.Errorf("Renew: %v, want %v", err, list.revoke)
		}
		if s, err := m.Get(r.Context()); err != nil || s.User != "alice" {
			t.Errorf("then %+v, %v; want the session as it was", s, err)
		}
	})
	if got := b.info(m).ID; got != id {
		t.Error("the session was renewed although the old one could not be revoked")
	}
	res := b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		if err := m.Destroy(r.Context()); !errors.Is(err, list.revoke) {
			t.Errorf("Destroy: %v, want %v", err, list.revoke)
		}
		list.revoke = nil
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

func TestSealAndOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		list := revoke.NewList()
		m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: list, Lifetime: time.Hour})
		token, err := m.Seal(Session{User: "alice"})
		if err != nil {
			t.Fatal(err)
		}
		s, info, err := m.Open(t.Context(), token)
		if err != nil || s.User != "alice" || info.Subject != "alice" || !info.Expires.Equal(time.Now().Add(time.Hour)) {
			t.Errorf("Open: %+v, %+v, %v", s, info, err)
		}
		b := newBrowser(t)
		b.jar.SetCookies(site, withSecure([]*http.Cookie{{Name: "__Host-session", Value: token}}))
		b.wantErr(m, sealed.ErrInvalid) // no cookie
		b.login(m, "alice")
		if _, _, err := m.Open(t.Context(), strings.TrimPrefix(b.cookie(), "__Host-session=")); !errors.Is(err, sealed.ErrInvalid) {
			t.Errorf("a cookie's token opened as another carrier's: %v", err)
		}
		if err := m.RevokeSubject(t.Context(), "alice"); err != nil {
			t.Fatal(err)
		}
		if s, _, err := m.Open(t.Context(), token); !errors.Is(err, sealed.ErrRevoked) || s.User != "" {
			t.Errorf("revoked: %+v, %v", s, err)
		}
		token, _ = m.Seal(Session{User: "alice"})
		if _, _, err := m.Open(t.Context(), token); err != nil {
			t.Errorf("sealed after the revocation: %v", err)
		}
		time.Sleep(2 * time.Hour)
		if _, _, err := m.Open(t.Context(), token); !errors.Is(err, sealed.ErrExpired) {
			t.Errorf("expired: %v", err)
		}
		if _, err := m.Seal(Session{Flash: strings.Repeat("x", 64<<10)}); !errors.Is(err, sealed.ErrTooLarge) {
			t.Errorf("a token over 64 KiB: %v, want ErrTooLarge", err)
		}
		big, err := m.Seal(Session{Flash: strings.Repeat("x", 40<<10)})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := m.Open(t.Context(), big); err != nil {
			t.Error(err)
		}
		if _, _, err := m.Open(t.Context(), big+strings.Repeat("A", 64<<10)); !errors.Is(err, sealed.ErrInvalid) {
			t.Errorf("a token over 64 KiB: %v, want ErrInvalid", err)
		}
	})
}

// A purpose separates managers that share keys and the cookie's name.
func TestPurpose(t *testing.T) {
	ring := mustRing(t)
	admin := mustNew(t, ring, sealed.Config[Session]{Purpose: "admin"})
	shop := mustNew(t, ring, sealed.Config[Session]{Purpose: "shop"})
	b := newBrowser(t)
	b.login(shop, "alice")
	b.wantErr(admin, sealed.ErrInvalid)
	if _, err, _ := b.get(shop); err != nil {
		t.Error(err)
	}
	token, _ := shop.Seal(Session{User: "alice"})
	if _, _, err := admin.Open(t.Context(), token); !errors.Is(err, sealed.ErrInvalid) {
		t.Errorf("Open under another purpose: %v", err)
	}
}

// A session type that changed in a way that no longer fits is no session, with
// a reason, and never shows what was stored.
func TestTypeChanged(t *testing.T) {
	ring := mustRing(t)
	old := mustNew(t, ring, sealed.Config[Session]{})
	token, err := old.Seal(Session{User: "secret-user"})
	if err != nil {
		t.Fatal(err)
	}
	type changed struct {
		User int64 `cbor:"1,keyasint"`
	}
	type grown struct {
		Session
		More string `cbor:"9,keyasint,omitempty"`
	}
	_, _, err = mustNew(t, ring, sealed.Config[changed]{}).Open(t.Context(), token)
	if !errors.Is(err, sealed.ErrInvalid) || strings.Contains(err.Error(), "secret-user") || !strings.Contains(err.Error(), "int64") {
		t.Errorf("error %v, want ErrInvalid that names the types only", err)
	}
	if s, _, err := mustNew(t, ring, sealed.Config[grown]{}).Open(t.Context(), token); err != nil || s.User != "secret-user" {
		t.Errorf("a type with one more field: %+v, %v", s, err)
	}
}

// What cannot be read back is refused when it is written.
func TestUndecodableIsRefused(t *testing.T) {
	type tree struct{ Next *tree }
	m := mustNew(t, mustRing(t), sealed.Config[tree]{})
	newBrowser(t).visit(m, func(_ http.ResponseWriter, r *http.Request) {
		err := m.Update(r.Context(), func(s *tree) {
			for range 40 {
				s.Next = &tree{}
				s = s.Next
			}
		})
		if err == nil {
			t.Error("Update took a session nested more deeply than Get would decode")
		}
	})
}

// Times keep their nanoseconds.
func TestTimesAreExact(t *testing.T) {
	type stamped struct{ At time.Time }
	m := mustNew(t, mustRing(t), sealed.Config[stamped]{})
	at := time.Date(2026, 1, 2, 3, 4, 5, 123456789, time.UTC)
	token, err := m.Seal(stamped{at})
	if err != nil {
		t.Fatal(err)
	}
	if s, _, err := m.Open(t.Context(), token); err != nil || !s.At.Equal(at) {
		t.Errorf("got %v, %v, want %v", s.At, err, at)
	}
}
