package sealed_test

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/sealed"
	"example.com/sealed/revoke"
)

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
	if s, _, err := b.get(m); err != nil || s.User != "alice" || s.Flash != "hi" {
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
	if s, _, err := b.get(m); err != nil || len(s.Cart) != n {
		t.Errorf("%d of %d updates arrived: %v", len(s.Cart), n, err)
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
	if _, _, err := b.get(shop); err != nil {
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
