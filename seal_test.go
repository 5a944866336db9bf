package sealed_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/sealed"
	"example.com/sealed/revoke"
)

func mustSeal[T any](t *testing.T, m *sealed.Manager[T], data T) string {
	t.Helper()
	token, err := m.Seal(data)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestSealedTokenOpens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: revoke.NewList(), Lifetime: time.Hour})
		s, info, err := m.Open(t.Context(), mustSeal(t, m, Session{User: "alice"}))
		if err != nil || s.User != "alice" || info.Subject != "alice" || !info.Expires.Equal(time.Now().Add(time.Hour)) {
			t.Errorf("Open: %+v, %+v, %v", s, info, err)
		}
		big := mustSeal(t, m, Session{Flash: strings.Repeat("x", 40<<10)})
		if _, _, err := m.Open(t.Context(), big); err != nil {
			t.Error(err)
		}
	})
}

func TestSealedTokenIsNoCookie(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: revoke.NewList()})
	b := newBrowser(t)
	b.jar.SetCookies(site, withSecure([]*http.Cookie{{Name: "__Host-session", Value: mustSeal(t, m, Session{User: "alice"})}}))
	b.wantErr(m, sealed.ErrInvalid)
}

func TestCookieIsNoSealedToken(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: revoke.NewList()})
	b := newBrowser(t)
	b.login(m, "alice")
	if _, _, err := m.Open(t.Context(), strings.TrimPrefix(b.cookie(), "__Host-session=")); !errors.Is(err, sealed.ErrInvalid) {
		t.Errorf("a cookie's token opened as another carrier's: %v", err)
	}
}

// One that is sealed after the revocation opens, though it be in the same instant.
func TestRevokedTokenDoesNotOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: revoke.NewList(), Lifetime: time.Hour})
		token := mustSeal(t, m, Session{User: "alice"})
		if err := m.RevokeSubject(t.Context(), "alice"); err != nil {
			t.Fatal(err)
		}
		if s, _, err := m.Open(t.Context(), token); !errors.Is(err, sealed.ErrRevoked) || s.User != "" {
			t.Errorf("revoked: %+v, %v", s, err)
		}
		if _, _, err := m.Open(t.Context(), mustSeal(t, m, Session{User: "alice"})); err != nil {
			t.Errorf("sealed after the revocation: %v", err)
		}
	})
}

func TestExpiredTokenDoesNotOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: revoke.NewList(), Lifetime: time.Hour})
		token := mustSeal(t, m, Session{User: "alice"})
		time.Sleep(2 * time.Hour)
		if _, _, err := m.Open(t.Context(), token); !errors.Is(err, sealed.ErrExpired) {
			t.Errorf("expired: %v", err)
		}
	})
}

func TestSealOf64KiBIsTooLarge(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	if _, err := m.Seal(Session{Flash: strings.Repeat("x", 64<<10)}); !errors.Is(err, sealed.ErrTooLarge) {
		t.Errorf("a token over 64 KiB: %v, want ErrTooLarge", err)
	}
}

func TestOpenOfMoreThan64KiBIsInvalid(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	big := mustSeal(t, m, Session{Flash: strings.Repeat("x", 40<<10)})
	if _, _, err := m.Open(t.Context(), big+strings.Repeat("A", 64<<10)); !errors.Is(err, sealed.ErrInvalid) {
		t.Errorf("a token over 64 KiB: %v, want ErrInvalid", err)
	}
}

// A purpose separates managers that share keys and the cookie's name.
func TestPurposeSeparatesCookies(t *testing.T) {
	ring := mustRing(t)
	admin := mustNew(t, ring, sealed.Config[Session]{Purpose: "admin"})
	shop := mustNew(t, ring, sealed.Config[Session]{Purpose: "shop"})
	b := newBrowser(t)
	b.login(shop, "alice")
	b.wantErr(admin, sealed.ErrInvalid)
	if _, _, err := b.get(shop); err != nil {
		t.Error(err)
	}
}

func TestPurposeSeparatesTokens(t *testing.T) {
	ring := mustRing(t)
	admin := mustNew(t, ring, sealed.Config[Session]{Purpose: "admin"})
	shop := mustNew(t, ring, sealed.Config[Session]{Purpose: "shop"})
	if _, _, err := admin.Open(t.Context(), mustSeal(t, shop, Session{User: "alice"})); !errors.Is(err, sealed.ErrInvalid) {
		t.Errorf("Open under another purpose: %v", err)
	}
}
