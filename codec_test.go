package sealed_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/sealed"
)

// Of several cookies of the name the one used last wins, in any order.
func TestCookieTossing(t *testing.T) {
	m, f, _ := mustForge(t, sealed.Config[Session]{})
	now, hour := time.Now().UnixMilli(), time.Hour.Milliseconds()
	cookie := func(user string, created, lastUsed int64) string {
		return name + "=" + f.token(plaintext(t, [16]byte{byte(created)}, created, lastUsed, hour, Session{User: user}), name, "")
	}
	newest := cookie("newest", now-60_000, 59_000)
	newer := cookie("newer", now-2_000, 0)
	old := cookie("old", now-120_000, 100)
	expired := cookie("expired", now-2*hour, 0)
	junk := name + "=junk"
	for _, tt := range []struct {
		what    string
		cookies []string
		want    string
	}{
		{"one", []string{newest}, "newest"},
		{"the newest first", []string{newest, newer, old}, "newest"},
		{"the newest last", []string{old, newer, newest}, "newest"},
		{"junk around it", []string{junk, newest, junk}, "newest"},
		{"an expired one", []string{expired, old}, "old"},
		{"the same twice", []string{old, old}, "old"},
		{"the fourth", []string{junk, junk, junk, newest}, "newest"},
		{"only four are tried", []string{junk, junk, junk, junk, newest}, ""},
		{"other names", []string{name + "2=junk", "x" + name + "=junk", name + "x=" + old, newest, name}, "newest"},
		{"other case", []string{strings.Replace(newest, "__Host", "__host", 1), old}, "old"},
	} {
		for how, header := range map[string][]string{"in one line": {strings.Join(tt.cookies, "; ")}, "in several lines": tt.cookies, "tight": {strings.Join(tt.cookies, ";")}} {
			s, res, err := getWith(m, header...)
			if s.User != tt.want {
				t.Errorf("%s, %s: got %q, %v, want %q", tt.what, how, s.User, err, tt.want)
			}
			if setsCookie(res) {
				t.Errorf("%s, %s: set %q", tt.what, how, res.Header["Set-Cookie"])
			}
		}
	}
}

// Logout ends all sessions that the request carries: one whose cookie has
// another path would be the visitor's session next.
func TestDestroyWithTossedCookies(t *testing.T) {
	ring, key := ringAndKey(t)
	list := &fakeList{}
	m := mustNew(t, ring, sealed.Config[Session]{Revocations: list})
	f := newForger(t, key)
	r := httptest.NewRequest("GET", "/", nil)
	for i := range 3 {
		p := plaintext(t, [16]byte{byte(i + 1)}, time.Now().UnixMilli(), int64(i), time.Hour.Milliseconds(), Session{User: "alice"})
		r.Header.Add("Cookie", name+"="+f.token(p, name, ""))
	}
	m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if err := m.Destroy(r.Context()); err != nil {
			t.Error(err)
		}
	})).ServeHTTP(httptest.NewRecorder(), r)
	ids := map[byte]bool{}
	for _, r := range list.revoked {
		ids[r.ID[0]] = true
	}
	if len(ids) != 3 {
		t.Errorf("revoked %v, want all three", list.revoked)
	}
}

// What a client can send costs a bounded amount of work, and never a panic.
func TestHostileHeaders(t *testing.T) {
	m, f, _ := mustForge(t, sealed.Config[Session]{})
	chunked := mustNew(t, mustRing(t), sealed.Config[Session]{Cookie: sealed.Cookie{MaxChunks: 16}})
	good := name + "=" + f.token(plaintext(t, [16]byte{1}, time.Now().UnixMilli(), 0, 3_600_000, Session{User: "alice"}), name, "")
	many := func(n int, pair string) string { return strings.Repeat(pair+"; ", n) }
	allChunks := ""
	for i := range 40 {
		allChunks += fmt.Sprintf("%s.%d=%s; ", name, i, strings.Repeat("A", 4000))
	}
	// What one request may allocate, in bytes, whatever its header. The most is
	// four tokens of as many chunks as are allowed.
	budget := map[*sealed.Manager[Session]]uint64{m: 64 << 10, chunked: 64<<10 + 4*2*16*4093}
	for what, header := range map[string]string{
		"3,000 other cookies":      many(3000, "other=value"),
		"100 of our name":          many(100, name+"="+strings.Repeat("A", 4000)),
		"one of a megabyte":        name + "=" + strings.Repeat("A", 1<<20),
		"a megabyte of semicolons": strings.Repeat(";", 1<<20),
		"a megabyte of our name":   strings.Repeat(name, 1<<16),
		"chunks for everyone":      many(50, name+"=16.AAAA") + allChunks + allChunks,
		"a huge count":             name + "=99999999999999999999.AAAA",
		"a negative count":         name + "=-1.AAAA",
		"a count of one":           name + "=1.AAAA",
		"zero":                     name + "=0.AAAA; " + name + ".0=AAAA",
		"chunk numbers":            name + ".=1; " + name + ".01=1; " + name + ".+1=1; " + name + ".1x=1; " + name + ".99999999999999999999=1",
		"dots":                     name + "=....",
		"no value":                 name + "; " + name + "=; =; ;=",
		"not UTF-8":                name + "=\xff\xfe; \xff=\xff",
	} {
		for _, m := range []*sealed.Manager[Session]{m, chunked} {
			const runs = 5
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			for range runs {
				if s, _, err := getWith(m, header); err == nil || s.User != "" {
					t.Errorf("%s: %+v, %v", what, s, err)
				}
			}
			took := time.Since(start) / runs
			runtime.ReadMemStats(&after)
			if got := (after.TotalAlloc - before.TotalAlloc) / runs; got > budget[m] {
				t.Errorf("%s: allocates %d bytes", what, got)
			}
			if took > 200*time.Millisecond {
				t.Errorf("%s: takes %v", what, took)
			}
		}
		if s, _, err := getWith(m, good+"; "+header); s.User != "alice" {
			t.Errorf("%s: hides the good cookie before it: %v", what, err)
		}
	}
}

// The largest session fits, one byte more is ErrTooLarge with the numbers, and
// the session stays as it was.
func TestTooLarge(t *testing.T) {
	for _, tt := range []struct {
		name    string
		config  sealed.Config[Session]
		longest int // bytes of the Set-Cookie lines
	}{
		{"default", sealed.Config[Session]{}, 4093},
		{"persistent", sealed.Config[Session]{Persistent: true, Lifetime: 400 * 24 * time.Hour}, 4093},
		{"idle", sealed.Config[Session]{IdleTimeout: time.Hour}, 4093},
		{"long attributes", sealed.Config[Session]{Cookie: sealed.Cookie{Name: "__Secure-" + strings.Repeat("n", 200), Domain: "a.very.long.domain.example", Path: "/" + strings.Repeat("p", 900), Partitioned: true}}, 4093},
		{"three chunks", sealed.Config[Session]{Cookie: sealed.Cookie{MaxChunks: 3}}, 3 * 4093},
		{"sixteen chunks", sealed.Config[Session]{Cookie: sealed.Cookie{MaxChunks: 16}, Persistent: true}, 16 * 4093},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := mustNew(t, mustRing(t), tt.config)
			// The longest session, by bisection over what Update says.
			low, high := 0, 1<<17
			try := func(n int) (res *http.Response, err error) {
				res = newBrowser(t).visit(m, func(_ http.ResponseWriter, r *http.Request) {
					err = m.Update(r.Context(), func(s *Session) { s.User, s.Flash = "alice", strings.Repeat("x", n) })
				})
				return res, err
			}
			for high-low > 1 {
				if _, err := try((low + high) / 2); err == nil {
					low = (low + high) / 2
				} else {
					high = (low + high) / 2
				}
			}
			res, err := try(low)
			if err != nil {
				t.Fatal(err)
			}
			total := 0
			for _, line := range res.Header["Set-Cookie"] {
				if len(line) > 4093 {
					t.Errorf("a line of %d bytes", len(line))
				}
				total += len(line)
			}
			// Some bytes stay free for the last use to grow.
			if slack := tt.longest - total; slack > 32*len(res.Header["Set-Cookie"]) {
				t.Errorf("the longest session needs %d bytes, which leaves %d", total, slack)
			}
			_, err = try(high)
			if !errors.Is(err, sealed.ErrTooLarge) || !strings.Contains(err.Error(), fmt.Sprint("more than ", tt.longest)) {
				t.Errorf("one byte more: %v, want ErrTooLarge with the numbers", err)
			}
			if tt.config.Cookie.Path != "" {
				return // the browser visits / only
			}
			b := newBrowser(t)
			b.jar.SetCookies(site, res.Cookies())
			res = b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
				if err := m.Update(r.Context(), func(s *Session) { s.Flash += "x" }); !errors.Is(err, sealed.ErrTooLarge) {
					t.Errorf("Update: %v, want ErrTooLarge", err)
				}
				if s, err := m.Get(r.Context()); err != nil || len(s.Flash) != low {
					t.Errorf("then %d bytes, %v; want the session as it was", len(s.Flash), err)
				}
			})
			if setsCookie(res) {
				t.Error("a change that failed set a cookie")
			}
		})
	}
}

// The longest session still fits when its last use is recorded.
func TestLargestSessionIsTouched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, mustRing(t), sealed.Config[Session]{Lifetime: 300 * 24 * time.Hour, IdleTimeout: 200 * 24 * time.Hour, Persistent: true})
		var b *browser
		for n := 4000; ; n-- {
			b = newBrowser(t)
			var err error
			b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
				err = m.Update(r.Context(), func(s *Session) { s.Flash = strings.Repeat("x", n) })
			})
			if err == nil {
				break
			}
		}
		for range 4 {
			time.Sleep(60 * 24 * time.Hour)
			if _, res, err := b.get(m); err != nil || !setsCookie(res) || len(res.Header["Set-Cookie"][0]) > 4093 {
				t.Fatalf("touching it: %v, %d bytes", err, len(strings.Join(res.Header["Set-Cookie"], "")))
			}
		}
	})
}

// Long sessions are split, shrink without leftovers, and never mix.
func TestChunks(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Cookie: sealed.Cookie{MaxChunks: 4}})
	b := newBrowser(t)
	set := func(n int) *http.Response {
		return b.update(m, func(s *Session) { s.User, s.Flash = "alice", strings.Repeat("x", n) })
	}
	want := func(n int, names ...string) {
		t.Helper()
		if s, _, err := b.get(m); err != nil || len(s.Flash) != n {
			t.Errorf("got %d bytes, %v, want %d", len(s.Flash), err, n)
		}
		got := map[string]bool{}
		for _, c := range b.jar.Cookies(site) {
			got[c.Name] = true
		}
		if len(got) != len(names) {
			t.Errorf("cookies %v, want %v", got, names)
		}
		for _, n := range names {
			if !got[n] {
				t.Errorf("cookies %v, want %v", got, names)
			}
		}
	}
	set(9000)
	want(9000, name, name+".1", name+".2", name+".3")
	first := b.jar.Cookies(site)
	set(5000)
	want(5000, name, name+".1")
	second := b.jar.Cookies(site)

	// Parts of two tokens, or too few of them, are no token.
	header := func(cookies ...*http.Cookie) string {
		var s []string
		for _, c := range cookies {
			s = append(s, c.Name+"="+c.Value)
		}
		return strings.Join(s, "; ")
	}
	byName := func(cookies []*http.Cookie, name string) *http.Cookie {
		for _, c := range cookies {
			if c.Name == name {
				return c
			}
		}
		t.Fatalf("no cookie %s", name)
		return nil
	}
	for what, cookies := range map[string]string{
		"mixed":          header(byName(second, name), byName(first, name+".1")),
		"one missing":    header(byName(first, name), byName(first, name+".1"), byName(first, name+".3")),
		"all missing":    header(byName(first, name)),
		"no first":       header(byName(first, name+".1"), byName(first, name+".2")),
		"another number": strings.Replace(header(second...), "=2.", "=3.", 1),
	} {
		if s, res, err := getWith(m, cookies); err == nil || s.User != "" || setsCookie(res) {
			t.Errorf("%s: %+v, %v", what, s, err)
		}
	}
	// Two split cookies, of two paths: each is put together from its own.
	both := header(byName(first, name), byName(first, name+".1"), byName(first, name+".2"), byName(first, name+".3"), byName(second, name), byName(second, name+".1"))
	if s, _, err := getWith(m, both); err != nil || s.User != "alice" {
		t.Errorf("two split cookies: %v", err)
	}
	// A manager that allows fewer does not read more.
	if _, _, err := getWith(mustNew(t, mustRing(t), sealed.Config[Session]{}), header(second...)); !errors.Is(err, sealed.ErrInvalid) {
		t.Errorf("two chunks where one is allowed: %v", err)
	}

	set(10)
	want(10, name)
	set(5000)
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) { m.Destroy(r.Context()) })
	if left := b.jar.Cookies(site); len(left) > 0 {
		t.Errorf("Destroy left %v", left)
	}
	// Leftovers without the first are deleted by the next session.
	b.jar.SetCookies(site, withSecure([]*http.Cookie{{Name: name + ".2", Value: "x"}}))
	set(10)
	want(10, name)
}

// The cookie of the reference session stays small.
func TestReferenceCookieIsSmall(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[reference]{})
	res := newBrowser(t).visit(m, func(_ http.ResponseWriter, r *http.Request) {
		if err := m.Update(r.Context(), func(s *reference) { *s = referenceSession() }); err != nil {
			t.Error(err)
		}
	})
	if n := len(res.Cookies()[0].Value); n > 160 {
		t.Errorf("the value has %d characters, more than 160", n)
	} else {
		t.Logf("the value has %d characters", n)
	}
}
