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

// This browser is logged out, also if the old session lives.
func TestLogoutThatCannotEndTheOldSession(t *testing.T) {
	old, config, b := moving(t, nil)
	m := mustNew(t, mustRing(t), config)
	old.endErr = errors.New("down")
	b.get(m)
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		if err := m.Destroy(r.Context()); !errors.Is(err, old.endErr) {
			t.Errorf("Destroy: %v, want %v", err, old.endErr)
		}
	})
	if names := b.cookieNames(); names != "" {
		t.Errorf("the browser has %q", names)
	}
}

// Logout in the very first request ends the old session, and without a list as well.
func TestLogoutInTheFirstRequest(t *testing.T) {
	old, config, b := moving(t, nil)
	m := mustNew(t, mustRing(t), config)
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) { destroy(t, m, r) })
	if b.cookieNames() != "" || len(old.sessions) != 0 {
		t.Errorf("the browser has %q, the old library %v", b.cookieNames(), old.sessions)
	}
	b.wantErr(m, sealed.ErrNoSession)
}

func TestEndOfTheOldSessionIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, config, b := moving(t, nil)
		var events recorder
		config.Observe, config.Import.EndAfter = events.observe, time.Hour
		m := mustNew(t, mustRing(t), config)
		b.get(m)
		time.Sleep(59 * time.Minute)
		if b.get(m); old.ended != 0 {
			t.Error("ended before EndAfter")
		}
		time.Sleep(time.Minute)
		events.take()
		old.endErr = errors.New("down")
		if _, res, err := b.get(m); err != nil || setsCookie(res) {
			t.Errorf("%v, %q", err, res.Header["Set-Cookie"])
		}
		events.want(t, "a failed end", "opened", "import failed")
		old.endErr = nil
		if b.get(m); b.cookieNames() != name || len(old.sessions) != 0 {
			t.Errorf("the browser has %q, the old library %v", b.cookieNames(), old.sessions)
		}
	})
}

// "Log out everywhere" ends old sessions of before it, whenever they come.
func TestRevokeSubjectEndsOldSessions(t *testing.T) {
	for _, tt := range []struct {
		what    string
		created time.Duration // before the revocation; 0 is not known
		want    error
	}{
		{"logged in before", time.Hour, sealed.ErrRevoked},
		{"logged in since", -time.Minute, nil},
		{"not known when", 0, sealed.ErrRevoked},
		{"a clock that is ahead", -2 * time.Hour, sealed.ErrRevoked},
	} {
		synctest.Test(t, func(t *testing.T) {
			old, config, b := moving(t, revoke.NewList())
			m := mustNew(t, mustRing(t), config)
			s := old.sessions["a1"]
			if tt.created != 0 {
				s.Created = time.Now().Add(-tt.created)
			}
			old.sessions["a1"] = s
			if err := m.RevokeSubject(context.Background(), "alice"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
			if _, _, err := b.get(m); !errors.Is(err, tt.want) {
				t.Errorf("%s: %v, want %v", tt.what, err, tt.want)
			}
		})
	}
}

// A session that was taken over ends when the old one would have, at the latest.
func TestImportedSessionExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, config, b := moving(t, nil)
		m := mustNew(t, mustRing(t), config)
		s := old.sessions["a1"]
		s.Expires = time.Now().Add(time.Hour)
		old.sessions["a1"] = s
		b.get(m)
		if info := b.info(m); !info.Expires.Equal(s.Expires.UTC().Truncate(time.Millisecond)) {
			t.Errorf("it expires at %v, want %v", info.Expires, s.Expires)
		}
		again := newBrowser(t)
		again.jar.SetCookies(site, []*http.Cookie{{Name: "old", Value: "a1"}})
		time.Sleep(time.Hour)
		again.wantErr(m, sealed.ErrExpired)
	})
}

// As long as a copy of the old cookie can come, the list refuses it.
func TestRevocationOfAnImportedSessionLastsUntilTheOldOnesEnd(t *testing.T) {
	list := &fakeList{}
	_, config, b := moving(t, list)
	config.Import.Until = time.Now().Add(30 * 24 * time.Hour)
	m := mustNew(t, mustRing(t), config)
	b.get(m)
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) { destroy(t, m, r) })
	if len(list.revoked) != 1 || list.revoked[0].Until.Before(config.Import.Until) {
		t.Errorf("revoked %+v, want until %v", list.revoked, config.Import.Until)
	}
}

// Without Until copies of the old cookie may come for ever, so revocations last as long as any can.
// Those of sessions that were not taken over do not.
func TestRevocationOfAnImportedSessionLastsWithoutUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, config, b := moving(t, revoke.NewList())
		config.Import.End = nil // as with cookies that hold the session
		m := mustNew(t, mustRing(t), config)
		thief := b.clone()
		b.get(m)
		b.visit(m, func(_ http.ResponseWriter, r *http.Request) { destroy(t, m, r) })
		for range 13 {
			time.Sleep(30 * 24 * time.Hour)
			thief.clone().wantErr(m, sealed.ErrRevoked)
		}
		list := &fakeList{}
		config.Revocations = list
		m = mustNew(t, mustRing(t), config)
		const logouts = 50
		for range logouts {
			b := newBrowser(t)
			b.login(m, "bob")
			b.visit(m, func(_ http.ResponseWriter, r *http.Request) { destroy(t, m, r) })
		}
		long := 0
		for _, v := range list.revoked {
			if time.Until(v.Until) > 30*24*time.Hour {
				long++
			}
		}
		if len(list.revoked) != logouts || long > logouts/4 { // one in 256 is expected
			t.Errorf("of %d logouts %d are kept for 400 days", len(list.revoked), long)
		}
	})
}

// After Until nobody is asked, in no case: the old store may be gone.
func TestNobodyIsAskedAfterUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, config, b := moving(t, revoke.NewList())
		config.Import.Until = time.Now().Add(time.Hour)
		config.Lifetime = 30 * 24 * time.Hour
		m := mustNew(t, mustRing(t), config)
		b.get(m)
		out := b.clone()
		time.Sleep(2 * time.Hour)
		old.loadErr, old.endErr = errors.New("gone"), errors.New("gone")
		if s, _, err := b.get(m); err != nil || s.User != "alice" || b.cookieNames() != name {
			t.Errorf("then %+v, %v, and the browser has %q", s, err, b.cookieNames())
		}
		out.visit(m, func(_ http.ResponseWriter, r *http.Request) { destroy(t, m, r) })
		if out.cookieNames() != "" || old.loaded != 1 || old.ended != 0 {
			t.Errorf("after a logout the browser has %q; asked %d times, ended %d times", out.cookieNames(), old.loaded, old.ended)
		}
	})
}
