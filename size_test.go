package sealed_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/sealed"
)

// longPath is the cookie's path in one of the configurations, and the request's in all.
var longPath = "/" + strings.Repeat("p", 900)

// eachSize runs f for configurations whose cookies have room for different sizes.
// The longest session fills at most so many bytes of Set-Cookie lines.
func eachSize(t *testing.T, f func(t *testing.T, config sealed.Config[Session], longest int)) {
	for _, tt := range []struct {
		name    string
		config  sealed.Config[Session]
		longest int
	}{
		{"default", sealed.Config[Session]{}, 3072},
		{"the least", sealed.Config[Session]{Cookie: sealed.Cookie{MaxSize: 512}}, 512},
		{"the most", sealed.Config[Session]{Cookie: sealed.Cookie{MaxSize: 4093}}, 4093},
		{"persistent", sealed.Config[Session]{Persistent: true, Lifetime: 400 * 24 * time.Hour}, 3072},
		{"idle", sealed.Config[Session]{IdleTimeout: time.Hour}, 3072},
		{"long attributes", sealed.Config[Session]{Cookie: sealed.Cookie{Name: "__Secure-" + strings.Repeat("n", 200), Domain: "a.very.long.domain.example", Path: longPath, Partitioned: true, MaxSize: 4093}}, 4093},
		{"three chunks", sealed.Config[Session]{Cookie: sealed.Cookie{MaxChunks: 3}}, 3 * 4093},
		{"three small chunks", sealed.Config[Session]{Cookie: sealed.Cookie{MaxChunks: 3, MaxSize: 1000}}, 3 * 1000},
		{"sixteen chunks", sealed.Config[Session]{Cookie: sealed.Cookie{MaxChunks: 16}, Persistent: true}, 16 * 4093},
	} {
		t.Run(tt.name, func(t *testing.T) { f(t, tt.config, tt.longest) })
	}
}

// sized sends a new session with n bytes of text.
func sized(m *sealed.Manager[Session], n int) (res *http.Response, err error) {
	res = requestTo(longPath, m, func(_ http.ResponseWriter, r *http.Request) {
		err = m.Update(r.Context(), func(s *Session) { s.User, s.Flash = "alice", strings.Repeat("x", n) })
	})
	return res, err
}

// longestText returns how long the text of the longest session is, by bisection
// over what Update says.
func longestText(t *testing.T, m *sealed.Manager[Session]) int {
	t.Helper()
	low, high := 0, 1<<17
	for high-low > 1 {
		if _, err := sized(m, (low+high)/2); err == nil {
			low = (low + high) / 2
		} else {
			high = (low + high) / 2
		}
	}
	if low == 1<<17-1 {
		t.Fatal("nothing is too large")
	}
	return low
}

func TestLongestSessionFillsItsCookies(t *testing.T) {
	eachSize(t, func(t *testing.T, config sealed.Config[Session], longest int) {
		m := mustNew(t, mustRing(t), config)
		res, err := sized(m, longestText(t, m))
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
		if slack := longest - total; slack > 32*len(res.Header["Set-Cookie"]) {
			t.Errorf("the longest session needs %d bytes, which leaves %d", total, slack)
		}
	})
}

func TestTooLargeTellsTheNumbers(t *testing.T) {
	eachSize(t, func(t *testing.T, config sealed.Config[Session], longest int) {
		m := mustNew(t, mustRing(t), config)
		_, err := sized(m, longestText(t, m)+1)
		if !errors.Is(err, sealed.ErrTooLarge) || !strings.Contains(err.Error(), fmt.Sprint("more than ", longest)) {
			t.Errorf("one byte more: %v, want ErrTooLarge with the numbers", err)
		}
	})
}

func TestTooLargeLeavesTheSessionAsItWas(t *testing.T) {
	eachSize(t, func(t *testing.T, config sealed.Config[Session], _ int) {
		m := mustNew(t, mustRing(t), config)
		n := longestText(t, m)
		res, err := sized(m, n)
		if err != nil {
			t.Fatal(err)
		}
		res = request(m, func(_ http.ResponseWriter, r *http.Request) {
			if err := m.Update(r.Context(), func(s *Session) { s.Flash += "x" }); !errors.Is(err, sealed.ErrTooLarge) {
				t.Errorf("Update: %v, want ErrTooLarge", err)
			}
			if s, err := m.Get(r.Context()); err != nil || len(s.Flash) != n {
				t.Errorf("then %d bytes, %v; want the session as it was", len(s.Flash), err)
			}
		}, cookieOf(res))
		if setsCookie(res) {
			t.Error("a change that failed set a cookie")
		}
	})
}

func TestLongestSessionFitsWhenItsLastUseIsRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, mustRing(t), sealed.Config[Session]{Lifetime: 300 * 24 * time.Hour, IdleTimeout: 200 * 24 * time.Hour, Persistent: true})
		b := newBrowser(t)
		res, err := sized(m, longestText(t, m))
		if err != nil {
			t.Fatal(err)
		}
		b.jar.SetCookies(site, res.Cookies())
		for range 4 {
			time.Sleep(60 * 24 * time.Hour)
			if _, res, err := b.get(m); err != nil || !setsCookie(res) || len(res.Header["Set-Cookie"][0]) > 4093 {
				t.Fatalf("touching it: %v, %d bytes", err, len(strings.Join(res.Header["Set-Cookie"], "")))
			}
		}
	})
}

// The size is exact for every remainder of the token's length.
func TestTooLargeBeginsWithTheFirstSizeThatDoesNotFit(t *testing.T) {
	for l := range 4 {
		m := mustNew(t, mustRing(t), namedOfAnHour(l))
		n := longestText(t, m) + 1
		_, err := sized(m, n)
		var would int
		_, message, _ := strings.Cut(err.Error(), "would")
		if _, scan := fmt.Sscanf(message, " have %d bytes", &would); scan != nil || would <= 3072 || would > 3074 {
			t.Errorf("%d: %v; want the first size that does not fit", n, err)
		}
	}
}

func TestLongestSessionFillsItsCookieWhenTouched(t *testing.T) {
	for l := range 4 {
		synctest.Test(t, func(t *testing.T) {
			m := mustNew(t, mustRing(t), namedOfAnHour(l))
			n := longestText(t, m)
			res, err := sized(m, n)
			if err != nil {
				t.Fatal(err)
			}
			b := newBrowser(t)
			b.jar.SetCookies(site, res.Cookies())
			time.Sleep(59 * time.Minute)
			_, res, err = b.get(m)
			if got := len(res.Header.Get("Set-Cookie")); err != nil || got > 3072 || got < 3071 {
				t.Errorf("longest session (%d), touched: a line of %d bytes, %v", n, got, err)
			}
		})
	}
}

// namedOfAnHour has a cookie's name of one of four lengths, and sessions of an hour.
func namedOfAnHour(l int) sealed.Config[Session] {
	return sealed.Config[Session]{Lifetime: time.Hour, IdleTimeout: time.Hour,
		Cookie: sealed.Cookie{Name: "__Secure-" + strings.Repeat("n", l+1)}}
}

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
