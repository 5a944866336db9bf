package sealed_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/sealed"
	"example.com/sealed/revoke"
)

// An oldLibrary keeps sessions on the server, as others do, under the cookie "old".
type oldLibrary struct {
	sessions map[string]sealed.Imported[Session]
	loadErr  error
	endErr   error
	loaded   int
	ended    int
}

func (o *oldLibrary) load(r *http.Request) (sealed.Imported[Session], error) {
	o.loaded++
	c, err := r.Cookie("old")
	if err != nil || o.loadErr != nil {
		return sealed.Imported[Session]{}, errors.Join(err, o.loadErr)
	}
	s, ok := o.sessions[c.Value]
	if !ok {
		return s, sealed.ErrNoSession
	}
	return s, nil
}

func (o *oldLibrary) end(r *http.Request) error {
	o.ended++
	c, err := r.Cookie("old")
	if err != nil || o.endErr != nil {
		return errors.Join(err, o.endErr)
	}
	delete(o.sessions, c.Value)
	return nil
}

// moving returns an old library that has a session of alice, a configuration that imports
// it, and a browser with its cookie.
func moving(t *testing.T, list sealed.RevocationList) (*oldLibrary, sealed.Config[Session], *browser) {
	old := &oldLibrary{sessions: map[string]sealed.Imported[Session]{"a1": {Data: Session{User: "alice", Cart: []string{"tea"}}}}}
	b := newBrowser(t)
	b.jar.SetCookies(site, []*http.Cookie{{Name: "old", Value: "a1", Path: "/"}})
	return old, sealed.Config[Session]{
		Subject: user, Revocations: list,
		Import: sealed.Import[Session]{Cookie: named("old"), Load: old.load, End: old.end},
	}, b
}

func TestImportedSessionGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, config, b := moving(t, nil)
		var events recorder
		config.Observe = events.observe
		m := mustNew(t, mustRing(t), config)

		s, res, err := b.get(m)
		if diff := cmp.Diff(Session{User: "alice", Cart: []string{"tea"}}, s); err != nil || diff != "" {
			t.Fatalf("the first request: %v (-want +got)\n%s", err, diff)
		}
		if res.Header.Get("Cache-Control") != "no-store" || res.Header.Get("Vary") != "Cookie" {
			t.Errorf("the first response has %q", res.Header)
		}
		events.want(t, "the first request", "imported", "sealed")
		if names := b.cookieNames(); names != "old "+name && names != name+" old" {
			t.Errorf("after it the browser has %q, want both cookies", names)
		}
		b.update(m, func(s *Session) { s.Cart = append(s.Cart, "milk") })
		if old.loaded != 1 || old.ended != 0 {
			t.Errorf("asked %d times, ended %d times", old.loaded, old.ended)
		}

		time.Sleep(time.Minute)
		events.take()
		if s, _, err := b.get(m); err != nil || len(s.Cart) != 2 {
			t.Errorf("a minute later: %+v, %v", s, err)
		}
		events.want(t, "a minute later", "opened")
		if b.cookieNames() != name || old.ended != 1 || len(old.sessions) != 0 {
			t.Errorf("a minute later the browser has %q, ended %d times, left %v", b.cookieNames(), old.ended, old.sessions)
		}
		b.get(m)
		if old.loaded != 1 || old.ended != 1 {
			t.Errorf("at the end: asked %d times, ended %d times", old.loaded, old.ended)
		}
	})
}

// Nothing is lost if the first response never arrives, or was slow.
func TestImportWhoseResponseIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, config, b := moving(t, nil)
		m := mustNew(t, mustRing(t), config)
		b.clone().get(m)
		time.Sleep(time.Hour)
		res := b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
			if s, err := m.Get(r.Context()); err != nil || s.User != "alice" {
				t.Errorf("a second time: %+v, %v", s, err)
			}
			time.Sleep(3 * time.Minute)
		})
		if old.ended != 0 {
			t.Error("the old session was ended, and the visitor has no other")
		}
		if setsCookie(res) {
			t.Errorf("a slow read sets %q: the visitor may have logged in since", res.Header["Set-Cookie"])
		}
		b.login(m, "bob")
		if s, _, err := b.get(m); err != nil || s.User != "bob" {
			t.Errorf("after a login: %+v, %v", s, err)
		}
	})
}

// Of two first requests at once both are served, as one session: logout ends it for both,
// and for copies of the old cookie.
func TestTwoFirstRequestsAtOnce(t *testing.T) {
	old, config, b := moving(t, revoke.NewList())
	m := mustNew(t, mustRing(t), config)
	other, thief := b.clone(), b.clone()
	for _, x := range []*browser{b, other} {
		if s, _, err := x.get(m); err != nil || s.User != "alice" {
			t.Fatalf("%+v, %v", s, err)
		}
	}
	if a, b := b.info(m), other.info(m); a.ID != b.ID {
		t.Errorf("IDs %v and %v, want one session", a.ID, b.ID)
	}
	old.endErr = errors.New("down") // so that only the list can refuse
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		if err := m.Destroy(r.Context()); err == nil {
			t.Error("Destroy is no error though the old session lives")
		}
		old.endErr = nil
		saved := old.sessions["a1"]
		destroy(t, m, r)
		old.sessions["a1"] = saved
	})
	if names := b.cookieNames(); names != "" {
		t.Errorf("after logout the browser has %q", names)
	}
	if old.ended != 2 {
		t.Errorf("ended %d times, want a second try", old.ended)
	}
	other.wantErr(m, sealed.ErrRevoked)
	thief.wantErr(m, sealed.ErrRevoked)
}

// A response that only read sets no cookie of a session that may have ended since.
func TestImportThatCannotBeVerifiedAnyMore(t *testing.T) {
	list := &fakeList{}
	_, config, b := moving(t, list)
	m := mustNew(t, mustRing(t), config)
	res := b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		if _, err := m.Get(r.Context()); err != nil {
			t.Errorf("Get: %v", err)
		}
		list.checks(sealed.ErrUnverified)
	})
	if setsCookie(res) {
		t.Errorf("set %q", res.Header["Set-Cookie"])
	}
}

// Who logs in as somebody else has a new session, and the old one is not taken over again.
func TestLoginInTheFirstRequest(t *testing.T) {
	_, config, b := moving(t, revoke.NewList())
	m := mustNew(t, mustRing(t), config)
	copied := b.clone()
	b.login(m, "bob")
	if s, _, err := b.get(m); err != nil || s.User != "bob" {
		t.Errorf("%+v, %v", s, err)
	}
	copied.wantErr(m, sealed.ErrRevoked)
}

// A request that was under way with the old cookie at a renewal is served, for the grace.
func TestImportDuringTheGraceOfARenewal(t *testing.T) {
	_, config, b := moving(t, revoke.NewList())
	config.RenewalGrace = 10 * time.Second
	m := mustNew(t, mustRing(t), config)
	late := b.clone()
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		if err := m.Renew(r.Context()); err != nil {
			t.Errorf("Renew: %v", err)
		}
	})
	s, res, err := late.get(m)
	if err != nil || s.User != "alice" || setsCookie(res) {
		t.Errorf("%+v, %v, %q, want to be served, without a cookie", s, err, res.Header["Set-Cookie"])
	}
}

// What cannot be known now is not overwritten.
func TestImportThatFails(t *testing.T) {
	old, config, b := moving(t, nil)
	var events recorder
	config.Observe = events.observe
	m := mustNew(t, mustRing(t), config)
	old.loadErr = errors.New("down")
	res := b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		if _, err := m.Get(r.Context()); !errors.Is(err, sealed.ErrUnverified) || !errors.Is(err, old.loadErr) {
			t.Errorf("Get: %v, want ErrUnverified", err)
		}
		if err := m.Update(r.Context(), func(s *Session) { s.User = "bob" }); !errors.Is(err, sealed.ErrUnverified) {
			t.Errorf("Update: %v, want ErrUnverified", err)
		}
	})
	if setsCookie(res) {
		t.Errorf("set %q", res.Header["Set-Cookie"])
	}
	events.want(t, "an old library that is down", "rejected not imported")
	old.loadErr = nil
	if s, _, err := b.get(m); err != nil || s.User != "alice" {
		t.Errorf("later: %+v, %v", s, err)
	}
}

// An old session that is too large can be read as long as it lives: nothing is lost in
// silence.
func TestImportThatDoesNotFit(t *testing.T) {
	old, config, b := moving(t, nil)
	var events recorder
	config.Observe = events.observe
	m := mustNew(t, mustRing(t), config)
	old.sessions["a1"] = sealed.Imported[Session]{Data: Session{User: "alice", Flash: strings.Repeat("x", 5000)}}
	if s, res, err := b.get(m); err != nil || s.User != "alice" || setsCookie(res) {
		t.Errorf("%q, %v, %q", s.User, err, res.Header["Set-Cookie"])
	}
	if n := len(events.events); n != 2 || events.events[1].Kind != sealed.EventImportFailed || !errors.Is(events.events[1].Err, sealed.ErrTooLarge) {
		t.Errorf("events %+v", events.events)
	}
	b.update(m, func(s *Session) { s.Flash = "" })
	if s, _, err := b.get(m); err != nil || s.User != "alice" || old.loaded != 2 {
		t.Errorf("when it fits: %+v, %v, asked %d times", s, err, old.loaded)
	}
}

// No old session, an old cookie of none, or a time when none is left: the visitor is new.
func TestNothingToImport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, config, b := moving(t, nil)
		config.Import.Until = time.Now().Add(time.Hour)
		m := mustNew(t, mustRing(t), config)
		newBrowser(t).wantErr(m, sealed.ErrNoSession)
		if old.loaded != 0 {
			t.Error("asked without the old cookie")
		}
		b.jar.SetCookies(site, []*http.Cookie{{Name: "old", Value: "unknown", Path: "/"}})
		b.wantErr(m, sealed.ErrNoSession)
		b.login(m, "bob")
		b.jar.SetCookies(site, []*http.Cookie{{Name: "old", Value: "a1", Path: "/"}})
		if s, _, err := b.get(m); err != nil || s.User != "bob" {
			t.Errorf("with both cookies: %+v, %v, want the new session", s, err)
		}
		late := newBrowser(t)
		late.jar.SetCookies(site, []*http.Cookie{{Name: "old", Value: "a1", Path: "/"}})
		time.Sleep(time.Hour)
		late.wantErr(m, sealed.ErrNoSession)
	})
}

// The values of other libraries' cookies have dots: signatures, JSON Web Tokens, and what looks like
// a session of ours that is split.
func TestImportOfACookieWithDots(t *testing.T) {
	for _, value := range []string{"s%3Aid.c2lnbmF0dXJl", "eyJhbGciOiJIUzI1NiJ9.eyJ1IjoxfQ.c2ln", "2.a", ".", "a."} {
		old, config, b := moving(t, nil)
		old.sessions[value] = old.sessions["a1"]
		b.jar.SetCookies(site, []*http.Cookie{{Name: "old", Value: value, Path: "/"}})
		m := mustNew(t, mustRing(t), config)
		b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
			if s, err := m.Get(r.Context()); err != nil || s.User != "alice" {
				t.Errorf("%s: %+v, %v", value, s, err)
			}
			destroy(t, m, r)
		})
		if old.ended != 1 || b.cookieNames() != "" {
			t.Errorf("%s: after a logout ended %d times, the browser has %q", value, old.ended, b.cookieNames())
		}
	}
}

func TestImportIsChecked(t *testing.T) {
	load := (&oldLibrary{}).load
	for want, i := range map[string]sealed.Import[Session]{
		"no Load":       {Cookie: named("old")},
		"no Name":       {Load: load},
		"manager's own": {Load: load, Cookie: named(name)},
		"negative":      {Load: load, Cookie: named("old"), EndAfter: -1},
		"Import: ":      {Load: load, Cookie: named("a b")},
	} {
		if _, err := sealed.New(mustRing(t), sealed.Config[Session]{Import: i}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want an error with %q", i.Cookie, err, want)
		}
	}
}

// What cannot be a session is none, and says so.
func TestImportOfDataThatCannotBeASession(t *testing.T) {
	old, config, b := moving(t, nil)
	m := mustNew(t, mustRing(t), config)
	old.sessions["a1"] = sealed.Imported[Session]{Data: Session{User: "\xff"}}
	b.wantErr(m, sealed.ErrInvalid)
}

// The functions of an import are called under the request's lock.
func TestCallFromWithinAnImportIsAnError(t *testing.T) {
	old, config, b := moving(t, revoke.NewList())
	var m *sealed.Manager[Session]
	var ctx context.Context
	config.Import.Load = func(r *http.Request) (sealed.Imported[Session], error) {
		if worked := callback(m, ctx); worked != "" {
			return sealed.Imported[Session]{}, fmt.Errorf("no error of %s", worked)
		}
		return old.load(r)
	}
	m = mustNew(t, mustRing(t), config)
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		ctx = r.Context()
		if _, err := m.Get(ctx); err != nil {
			t.Errorf("Get: %v", err)
		}
	})
}
