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

func named(name string) sealed.Cookie { return sealed.Cookie{Name: name} }

// cookieNames returns the names that the browser has cookies of.
func (b *browser) cookieNames() string {
	var names []string
	for _, c := range b.jar.Cookies(site) {
		names = append(names, c.Name)
	}
	return strings.Join(names, " ")
}

// A renamed cookie, or purpose, or both: the session goes on, under its ID, and after one
// response as if it had always had the new name.
func TestRenamedCookieOrPurposeLogsNobodyOut(t *testing.T) {
	for _, tt := range []struct {
		what           string
		before, after  sealed.Cookie
		purpose, later string
	}{
		{"the name", named("__Host-a"), named("__Host-b"), "p", "p"},
		{"the purpose", named("__Host-a"), named("__Host-a"), "p", "q"},
		{"both", named("__Host-a"), named("__Host-b"), "p", "q"},
		{"the name, with a path", sealed.Cookie{Name: "__Secure-a", Path: "/"}, named("__Host-b"), "p", "p"},
		{"the default name", sealed.Cookie{}, named("__Host-b"), "p", "p"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			ring, list := mustRing(t), revoke.NewList()
			var events recorder
			config := sealed.Config[Session]{Cookie: tt.before, Purpose: tt.purpose, Subject: user, Revocations: list}
			before := mustNew(t, ring, config)
			config.Former = []sealed.Former{{Cookie: tt.before, Purpose: tt.purpose}}
			config.Cookie, config.Purpose, config.Observe = tt.after, tt.later, events.observe
			after := mustNew(t, ring, config)

			b := newBrowser(t)
			b.login(before, "alice")
			was := b.info(before)
			old := b.clone()
			if s, res, err := b.get(after); err != nil || s.User != "alice" || !setsCookie(res) {
				t.Fatalf("under the new: %+v, %v, %q", s, err, res.Header["Set-Cookie"])
			}
			events.want(t, "the first request", "opened", "sealed")
			if s, res, err := b.get(after); err != nil || s.User != "alice" || setsCookie(res) {
				t.Errorf("then: %+v, %v, %q", s, err, res.Header["Set-Cookie"])
			}
			events.want(t, "the second request", "opened")
			if names := b.cookieNames(); names != cmpName(tt.after) {
				t.Errorf("the browser has %q", names)
			}
			if is := b.info(after); is.ID != was.ID || !is.Created.Equal(was.Created) || !is.Expires.Equal(was.Expires) {
				t.Errorf("the session is %+v, was %+v", is, was)
			}
			b.visit(after, func(_ http.ResponseWriter, r *http.Request) { destroy(t, after, r) })
			if names := b.cookieNames(); names != "" {
				t.Errorf("after logout the browser has %q", names)
			}
			old.wantErr(after, sealed.ErrRevoked)
		})
	}
}

func cmpName(c sealed.Cookie) string {
	if c.Name == "" {
		return name
	}
	return c.Name
}

// While two versions of a program run, each reads what the other writes, and the visitor
// has one session.
func TestRenamedCookieInARollingDeployment(t *testing.T) {
	ring := mustRing(t)
	a, b := named("__Host-a"), named("__Host-b")
	old := mustNew(t, ring, sealed.Config[Session]{Cookie: a, Former: []sealed.Former{{Cookie: b, Purpose: "q"}}, Purpose: "p"})
	renamed := mustNew(t, ring, sealed.Config[Session]{Cookie: b, Former: []sealed.Former{{Cookie: a, Purpose: "p"}}, Purpose: "q"})
	v := newBrowser(t)
	v.login(old, "alice")
	for range 3 {
		v.update(renamed, func(s *Session) { s.Cart = append(s.Cart, "tea") })
		v.update(old, func(s *Session) { s.Cart = append(s.Cart, "milk") })
	}
	if s, _, err := v.get(renamed); err != nil || s.User != "alice" || len(s.Cart) != 6 {
		t.Errorf("at the end: %+v, %v", s, err)
	}
	if names := v.cookieNames(); names != "__Host-b" {
		t.Errorf("the browser has %q", names)
	}
}

// Both cookies may be there, as when a deployment was rolled back: the session used last
// counts, and logout ends both.
func TestCookiesOfBothNames(t *testing.T) {
	ring, list := mustRing(t), revoke.NewList()
	config := sealed.Config[Session]{Cookie: named("__Host-a"), Subject: user, Revocations: list}
	old := mustNew(t, ring, config)
	config.Cookie, config.Former = named("__Host-b"), []sealed.Former{{Cookie: named("__Host-a"), Purpose: purpose}}
	renamed := mustNew(t, ring, config)
	synctest.Test(t, func(t *testing.T) {
		b := newBrowser(t)
		b.login(old, "alice")
		first := b.cookie()
		b.get(renamed)
		time.Sleep(time.Minute)
		second := newBrowser(t)
		second.login(old, "bob")
		both := b.cookie() + "; " + second.cookie()
		if s, _, err := getWith(renamed, both); err != nil || s.User != "bob" {
			t.Errorf("with both: %+v, %v, want the session used last", s, err)
		}
		res := request(renamed, func(_ http.ResponseWriter, r *http.Request) { destroy(t, renamed, r) }, both)
		if c := res.Cookies(); len(c) != 2 || c[0].MaxAge >= 0 || c[1].MaxAge >= 0 {
			t.Errorf("logout sets %q, want two deletions", res.Header["Set-Cookie"])
		}
		for _, cookie := range []string{first, b.cookie(), second.cookie()} {
			if _, _, err := getWith(renamed, cookie); !errors.Is(err, sealed.ErrRevoked) {
				t.Errorf("after logout: %v, want ErrRevoked", err)
			}
		}
	})
}

// As with a new key, a response that only reads renames the cookie only soon after it read.
func TestSlowReadRenamesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring := mustRing(t)
		if _, err := ring.Rotate(0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(48 * time.Hour) // when a slow response would re-encrypt under a newer key
		old := mustNew(t, ring, sealed.Config[Session]{Cookie: named("__Host-a")})
		renamed := mustNew(t, ring, sealed.Config[Session]{Cookie: named("__Host-b"), Former: []sealed.Former{{Cookie: named("__Host-a"), Purpose: purpose}}})
		b := newBrowser(t)
		b.login(old, "alice")
		res := b.visit(renamed, func(_ http.ResponseWriter, r *http.Request) {
			renamed.Get(r.Context())
			time.Sleep(3 * time.Second)
		})
		if setsCookie(res) {
			t.Errorf("a response after 3 s sets %q", res.Header["Set-Cookie"])
		}
	})
}

// Each is deleted once, however often the headers are completed.
func TestRenamedCookieIsDeletedOnce(t *testing.T) {
	ring := mustRing(t)
	old := mustNew(t, ring, sealed.Config[Session]{Cookie: named("__Host-a")})
	renamed := mustNew(t, ring, sealed.Config[Session]{Cookie: named("__Host-b"), Former: []sealed.Former{{Cookie: named("__Host-a"), Purpose: purpose}}})
	b := newBrowser(t)
	b.login(old, "alice")
	res := requestPast(renamed, func(w http.ResponseWriter, r *http.Request) {
		renamed.Update(r.Context(), func(s *Session) { s.Flash = "x" })
		renamed.Update(r.Context(), func(s *Session) { s.Flash = "y" })
		w.WriteHeader(http.StatusNoContent)
	}, b.cookie())
	if n := len(res.Cookies()); n != 2 {
		t.Errorf("%d lines, want one for each name: %q", n, res.Header["Set-Cookie"])
	}
}

// The parts of a split cookie go with it.
func TestRenamedSplitCookie(t *testing.T) {
	ring := mustRing(t)
	config := sealed.Config[Session]{Cookie: sealed.Cookie{Name: "__Host-a", MaxChunks: 4}}
	old := mustNew(t, ring, config)
	config.Cookie.Name, config.Former = "__Host-b", []sealed.Former{{Cookie: named("__Host-a"), Purpose: purpose}}
	renamed := mustNew(t, ring, config)
	b := newBrowser(t)
	b.update(old, func(s *Session) { s.Flash = strings.Repeat("x", 9000) })
	if s, _, err := b.get(renamed); err != nil || len(s.Flash) != 9000 {
		t.Fatalf("%d characters, %v", len(s.Flash), err)
	}
	if names := b.cookieNames(); names != "__Host-b __Host-b.1 __Host-b.2" && names != "__Host-b __Host-b.1 __Host-b.2 __Host-b.3" {
		t.Errorf("the browser has %q", names)
	}
}

// Neither a cookie that is no session, nor one that cannot be verified, costs the visitor
// the one of the other name.
func TestFormerCookieThatCannotBeVerifiedIsNotDeleted(t *testing.T) {
	ring, list := mustRing(t), &fakeList{}
	old := mustNew(t, ring, sealed.Config[Session]{Cookie: named("__Host-a"), Revocations: list})
	renamed := mustNew(t, ring, sealed.Config[Session]{
		Cookie: named("__Host-b"), Revocations: list, DeleteDead: true,
		Former: []sealed.Former{{Cookie: named("__Host-a"), Purpose: purpose}},
	})
	b := newBrowser(t)
	b.login(old, "alice")
	list.checks(sealed.ErrUnverified)
	if _, res, err := getWith(renamed, "__Host-b=!; "+b.cookie()); !errors.Is(err, sealed.ErrUnverified) || setsCookie(res) {
		t.Errorf("%v, %q, want ErrUnverified and nothing set", err, res.Header["Set-Cookie"])
	}
}

func TestFormerPurposeOfTokensOutsideCookies(t *testing.T) {
	ring := mustRing(t)
	old := mustNew(t, ring, sealed.Config[Session]{Purpose: "p"})
	other := mustNew(t, ring, sealed.Config[Session]{Purpose: "other"})
	renamed := mustNew(t, ring, sealed.Config[Session]{Purpose: "q", Former: []sealed.Former{{Cookie: named("__Host-x"), Purpose: "p"}}})
	token, err := old.Seal(Session{User: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	if s, _, err := renamed.Open(t.Context(), token); err != nil || s.User != "alice" {
		t.Errorf("Open: %+v, %v", s, err)
	}
	if token, err = other.Seal(Session{User: "mallory"}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := renamed.Open(t.Context(), token); !errors.Is(err, sealed.ErrInvalid) {
		t.Errorf("Open of another purpose: %v, want ErrInvalid", err)
	}
}

func TestFormerIsChecked(t *testing.T) {
	for what, tt := range map[string]struct {
		former sealed.Former
		want   string
	}{
		"today's":              {sealed.Former{Purpose: "p"}, "today's"},
		"another path":         {sealed.Former{Cookie: sealed.Cookie{Name: "s", Path: "/x"}}, "another name as well"},
		"an impossible cookie": {sealed.Former{Cookie: sealed.Cookie{Name: "a b"}}, "Former 0"},
		"a long purpose":       {sealed.Former{Purpose: strings.Repeat("x", 256)}, "256 bytes"},
	} {
		config := sealed.Config[Session]{Purpose: "p", Former: []sealed.Former{tt.former}}
		if tt.former.Cookie.Name == "s" {
			config.Cookie.Name = "s"
		}
		if _, err := sealed.New(mustRing(t), config); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want an error with %q", what, err, tt.want)
		}
	}
	if _, err := sealed.New(mustRing(t), sealed.Config[Session]{Former: make([]sealed.Former, 5)}); err == nil {
		t.Error("five are no error")
	}
}
