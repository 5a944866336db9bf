package sealed_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/sealed"
	"example.com/sealed/revoke"
)

func TestGetWithoutCookieIsNoSession(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	newBrowser(t).wantErr(m, sealed.ErrNoSession)
}

func TestOutsideHandlerIsNoHandler(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
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

func TestManagersDoNotSeeEachOthersSessions(t *testing.T) {
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

func TestNewVisitorWithNothingToKeepGetsNoCookie(t *testing.T) {
	for what, config := range map[string]sealed.Config[Session]{"without subjects": {}, "with subjects": {Subject: user}} {
		m := mustNew(t, mustRing(t), config)
		for name, h := range map[string]http.HandlerFunc{
			"nothing": func(http.ResponseWriter, *http.Request) {},
			"get":     func(_ http.ResponseWriter, r *http.Request) { m.Get(r.Context()) },
			"update to the zero value": func(_ http.ResponseWriter, r *http.Request) {
				if err := m.Update(r.Context(), func(s *Session) { s.Cart = []string{} }); err != nil {
					t.Error(err)
				}
			},
			"update there and back": func(_ http.ResponseWriter, r *http.Request) { thereAndBack(t, m, r) },
			"destroy":               func(_ http.ResponseWriter, r *http.Request) { m.Destroy(r.Context()) },
		} {
			if res := newBrowser(t).visit(m, h); setsCookie(res) {
				t.Errorf("%s, %s: a new visitor got %q", name, what, res.Header["Set-Cookie"])
			}
		}
	}
}

// thereAndBack changes a new session so that it holds nothing again.
func thereAndBack(t *testing.T, m *sealed.Manager[Session], r *http.Request) {
	t.Helper()
	for _, flash := range []string{"x", ""} {
		if err := m.Update(r.Context(), func(s *Session) { s.Flash = flash }); err != nil {
			t.Error(err)
		}
	}
}

func TestEmptySessionAfterDestroyIsNotWritten(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user})
	b := newBrowser(t)
	b.login(m, "alice")
	res := b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		m.Destroy(r.Context())
		thereAndBack(t, m, r)
	})
	if c := res.Cookies(); len(c) != 1 || c[0].MaxAge >= 0 {
		t.Errorf("after Destroy: %q, want the deletion", res.Header["Set-Cookie"])
	}
}

func TestUpdateToTheSameValueSetsNoCookie(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	b := newBrowser(t)
	if res := b.login(m, "alice"); !setsCookie(res) {
		t.Fatal("login set no cookie")
	}
	if res := b.update(m, func(s *Session) { s.User = "al" + "ice" }); setsCookie(res) {
		t.Error("an update to the same value set a cookie")
	}
}

func TestUpdateToAnotherValueSetsTheCookie(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	b := newBrowser(t)
	b.login(m, "alice")
	if res := b.update(m, func(s *Session) { s.Flash = "hi" }); !setsCookie(res) {
		t.Error("an update to another value set no cookie")
	}
	if s, _, err := b.get(m); err != nil || s.User != "alice" || s.Flash != "hi" {
		t.Errorf("got %+v, %v", s, err)
	}
}

func TestCallersCopyDoesNotChangeTheSession(t *testing.T) {
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

func TestInfoNamesNoKeyBeforeSealing(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: &fakeList{}})
	b := newBrowser(t)
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		set(t, m, r)
		if i, err := m.Info(r.Context()); err != nil || i.KeyID != "" {
			t.Errorf("a new session has key %s, %v", i.KeyID, err)
		}
	})
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		for range 2 {
			if err := m.Renew(r.Context()); err != nil {
				t.Error(err)
			}
			if i, err := m.Info(r.Context()); err != nil || i.KeyID != "" || i.Created.Location() != time.UTC {
				t.Errorf("a renewed session has key %s, created %v, %v", i.KeyID, i.Created, err)
			}
		}
	})
}

func TestIDIsHexadecimalInJSON(t *testing.T) {
	b, err := json.Marshal(sealed.ID{0xab, 1})
	if string(b) != `"ab010000000000000000000000000000"` || err != nil {
		t.Errorf("%s, %v", b, err)
	}
}

func TestPanicInChangeLeavesTheSessionAsItWas(t *testing.T) {
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

func TestConcurrentUpdatesOfOneRequestAreNotLost(t *testing.T) {
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

// An Info in JSON, and an ID from a log, come back.
func TestIDComesBackFromItsText(t *testing.T) {
	want := sealed.Info{ID: sealed.ID{1, 0xfe}, Subject: "alice"}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got sealed.Info
	if err := json.Unmarshal(text, &got); err != nil || got != want {
		t.Errorf("from JSON: %+v, %v, want %+v", got, err, want)
	}
	id, err := sealed.ParseID(want.ID.String())
	if err != nil || id != want.ID {
		t.Errorf("ParseID: %v, %v", id, err)
	}
	for _, text := range []string{"", "ab", want.ID.String() + "00", strings.Repeat("x", 32), " " + want.ID.String()[1:]} {
		got := want.ID
		if err := got.UnmarshalText([]byte(text)); err == nil || got != want.ID {
			t.Errorf("UnmarshalText of %q: %v, %v, want an error and no change", text, got, err)
		}
		if len(text) > 3 && strings.Contains(fmt.Sprint(got.UnmarshalText([]byte(text))), text) {
			t.Errorf("the error quotes %q", text)
		}
	}
}
