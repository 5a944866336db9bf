package sealed_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/sealed"
)

const (
	skew    = 5 * time.Minute
	longest = 400 * 24 * time.Hour // that any session can last
)

func TestRevocationOfASessionLastsUntilItsEnd(t *testing.T) {
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
		want := []sealed.Revocation{
			{Subject: "alice", Before: time.Now(), Until: time.Now().Add(longest + skew)},
			{ID: info.ID, Until: info.Expires.Add(skew)},
		}
		if diff := cmp.Diff(want, list.revoked); diff != "" {
			t.Errorf("revocations (-want +got):\n%s", diff)
		}
	})
}

// Another instance, or an earlier Lifetime, may have made it.
func TestRevocationOfALongerSessionLastsUntilThatOnesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring, list := mustRing(t), &fakeList{}
		day := mustNew(t, ring, sealed.Config[Session]{})
		hour := mustNew(t, ring, sealed.Config[Session]{Lifetime: time.Hour, Revocations: list})
		b := newBrowser(t)
		b.login(day, "alice")
		time.Sleep(time.Minute)
		b.update(hour, func(s *Session) { s.Flash = "x" })
		expires := b.info(day).Expires
		b.visit(hour, func(_ http.ResponseWriter, r *http.Request) { destroy(t, hour, r) })
		if len(list.revoked) != 1 || !list.revoked[0].Until.Equal(expires.Add(skew)) {
			t.Errorf("%+v, want until %v", list.revoked, expires.Add(skew))
		}
	})
}

func TestRevocationOfASubjectLastsAsLongAsAnySession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		list := &fakeList{}
		m := mustNew(t, mustRing(t), sealed.Config[Session]{
			Subject: user, Revocations: list, Lifetime: time.Hour, // another manager's, or yesterday's, may be longer
		})
		m.RevokeSubject(t.Context(), "alice")
		if len(list.revoked) != 1 {
			t.Fatalf("revoked %v", list.revoked)
		}
		if got, min := list.revoked[0].Until, time.Now().Add(400*24*time.Hour); got.Before(min) {
			t.Errorf("forgotten at %v: sessions may live until %v", got, min)
		}
	})
}

// The request's own session may be of an instance whose clock is ahead.
func TestRevocationOfASubjectEndsTheRequestsOwnSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		list := &fakeList{}
		m, f, _ := mustForge(t, sealed.Config[Session]{Subject: user, Revocations: list, Lifetime: time.Hour})
		ahead := time.Now().Add(time.Minute)
		request(m, func(_ http.ResponseWriter, r *http.Request) {
			for _, subject := range []string{"alice", "bob"} {
				if err := m.RevokeSubject(r.Context(), subject); err != nil {
					t.Error(err)
				}
			}
			if err := m.RevokeSubject(r.Context(), ""); err == nil {
				t.Error("nobody was revoked")
			}
		}, userCookie(f, 1, "alice", ahead.UnixMilli(), 0))
		want := []sealed.Revocation{
			{Subject: "alice", Before: ahead, Until: ahead.Add(longest + skew)},
			{Subject: "bob", Before: time.Now(), Until: time.Now().Add(longest + skew)},
		}
		if diff := cmp.Diff(want, list.revoked); diff != "" {
			t.Errorf("revocations (-want +got):\n%s", diff)
		}
	})
}

func TestSessionThatWasNeverSentIsNotRevoked(t *testing.T) {
	list := &fakeList{}
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: list})
	request(m, func(_ http.ResponseWriter, r *http.Request) {
		set(t, m, r)
		if err := m.Renew(r.Context()); err != nil {
			t.Error(err)
		}
		destroy(t, m, r)
	})
	if len(list.revoked) != 0 {
		t.Errorf("revoked %v, which nobody has", list.revoked)
	}
}

func TestRenewingTwiceRevokesOnlyWhatWasSent(t *testing.T) {
	list := &fakeList{}
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: list})
	b := newBrowser(t)
	b.login(m, "alice")
	id := b.info(m).ID
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		for range 2 {
			if err := m.Renew(r.Context()); err != nil {
				t.Error(err)
			}
		}
	})
	if len(list.revoked) != 1 || list.revoked[0].ID != id {
		t.Errorf("revoked %v, want %v only", list.revoked, id)
	}
}

// unverified runs f with a browser whose session the list cannot tell of, for an
// error of the list's own and for ErrUnverified.
func unverified(t *testing.T, f func(t *testing.T, m *sealed.Manager[Session], list *fakeList, b *browser)) {
	for name, check := range map[string]error{"its own error": errDown, "ErrUnverified": errors.Join(sealed.ErrUnverified, errDown)} {
		t.Run(name, func(t *testing.T) {
			list := &fakeList{}
			ring := mustRing(t)
			m := mustNew(t, ring, sealed.Config[Session]{Subject: user, Revocations: list})
			b := newBrowser(t)
			b.login(m, "alice")
			list.checks(check)
			if _, err := ring.Rotate(0); err != nil { // a read would re-encrypt
				t.Fatal(err)
			}
			f(t, m, list, b)
		})
	}
}

var errDown = errors.New("the list is down")

func TestUnverifiedSessionIsNeitherReadNorChanged(t *testing.T) {
	unverified(t, func(t *testing.T, m *sealed.Manager[Session], _ *fakeList, b *browser) {
		b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
			s, err := m.Get(r.Context())
			if !errors.Is(err, sealed.ErrUnverified) || !errors.Is(err, errDown) || s.User != "" {
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
	})
}

func TestUnverifiedSessionKeepsItsCookieAndComesBack(t *testing.T) {
	unverified(t, func(t *testing.T, m *sealed.Manager[Session], list *fakeList, b *browser) {
		res := b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
			m.Get(r.Context())
			m.Update(r.Context(), func(s *Session) { s.Flash = "x" })
			m.Renew(r.Context())
		})
		if setsCookie(res) {
			t.Errorf("the cookie was touched: %q", res.Header["Set-Cookie"])
		}
		list.checks(nil)
		if s, _, err := b.get(m); err != nil || s.User != "alice" {
			t.Errorf("when the list is back: %+v, %v", s, err)
		}
	})
}

func TestWrappedErrRevokedIsNotErrUnverified(t *testing.T) {
	list := &fakeList{}
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Revocations: list})
	b := newBrowser(t)
	b.login(m, "alice")
	list.checks(fmt.Errorf("by alice: %w", sealed.ErrRevoked))
	if _, _, err := b.get(m); !errors.Is(err, sealed.ErrRevoked) || errors.Is(err, sealed.ErrUnverified) {
		t.Errorf("%v, want ErrRevoked only", err)
	}
}

// unrevokable returns a browser whose session the list cannot revoke.
func unrevokable(t *testing.T) (m *sealed.Manager[Session], list *fakeList, b *browser, id sealed.ID) {
	t.Helper()
	list = &fakeList{}
	list.revokes(errDown)
	m = mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: list})
	b = newBrowser(t)
	b.login(m, "alice")
	return m, list, b, b.info(m).ID
}

func TestRenewalThatCannotRevokeLeavesTheSessionAsItWas(t *testing.T) {
	m, _, b, id := unrevokable(t)
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		if err := m.Update(r.Context(), func(s *Session) { s.User = "bob" }); !errors.Is(err, errDown) {
			t.Errorf("Update: %v, want %v", err, errDown)
		}
		if err := m.Renew(r.Context()); !errors.Is(err, errDown) {
			t.Errorf("Renew: %v, want %v", err, errDown)
		}
		if s, err := m.Get(r.Context()); err != nil || s.User != "alice" {
			t.Errorf("then %+v, %v; want the session as it was", s, err)
		}
	})
	if got := b.info(m).ID; got != id {
		t.Error("the session was renewed although the old one could not be revoked")
	}
}

func TestDestroyThatCannotRevokeDeletesTheCookie(t *testing.T) {
	m, _, b, _ := unrevokable(t)
	res := b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		if err := m.Destroy(r.Context()); !errors.Is(err, errDown) {
			t.Errorf("Destroy: %v, want %v", err, errDown)
		}
	})
	if len(res.Cookies()) != 1 || res.Cookies()[0].MaxAge >= 0 {
		t.Errorf("the cookie was not deleted: %v", res.Header["Set-Cookie"])
	}
}

func TestDestroyThatCouldNotRevokeCanBeTriedAgain(t *testing.T) {
	m, list, b, id := unrevokable(t)
	res := b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		if err := m.Destroy(r.Context()); !errors.Is(err, errDown) {
			t.Errorf("Destroy: %v, want %v", err, errDown)
		}
		list.revokes(nil)
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

func TestDestroyRevokesTheOthersIfOneFailsAndTriesOnlyThatAgain(t *testing.T) {
	fail := true
	list := &fakeList{revoke: func(_ context.Context, r sealed.Revocation) error {
		if r.ID[0] == 2 && fail {
			return errDown
		}
		return nil
	}}
	m, f, _ := mustForge(t, sealed.Config[Session]{Revocations: list})
	var cookies []string
	for _, i := range []byte{1, 2, 3} { // the second and third stand in others before the first
		cookies = append(cookies, userCookie(f, i, "alice", time.Now().UnixMilli(), 0))
	}
	request(m, func(_ http.ResponseWriter, r *http.Request) {
		if err := m.Destroy(r.Context()); !errors.Is(err, errDown) || len(list.revoked) != 2 {
			t.Errorf("%v, revoked %v; want the other two", err, list.revoked)
		}
		fail = false
		if err := m.Destroy(r.Context()); err != nil || len(list.revoked) != 3 || list.revoked[2].ID[0] != 2 {
			t.Errorf("again: %v, revoked %v", err, list.revoked)
		}
	}, cookies...)
}
