package sealed_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/sealed"
)

// A chunkTest is a browser whose session has up to four chunks.
type chunkTest struct {
	t    *testing.T
	ring *sealed.Keyring
	m    *sealed.Manager[Session]
	b    *browser
}

func newChunkTest(t *testing.T) chunkTest {
	t.Helper()
	ring := mustRing(t)
	return chunkTest{t, ring, mustNew(t, ring, sealed.Config[Session]{Cookie: sealed.Cookie{MaxChunks: 4}}), newBrowser(t)}
}

// set has the session hold n bytes, and returns the browser's cookies by name.
func (x chunkTest) set(n int) map[string]*http.Cookie {
	x.t.Helper()
	x.b.update(x.m, func(s *Session) { s.User, s.Flash = "alice", strings.Repeat("x", n) })
	cookies := map[string]*http.Cookie{}
	for _, c := range x.b.jar.Cookies(site) {
		cookies[c.Name] = c
	}
	return cookies
}

// want checks how much the session holds, and in which cookies.
func (x chunkTest) want(n int, names ...string) {
	x.t.Helper()
	if s, _, err := x.b.get(x.m); err != nil || len(s.Flash) != n {
		x.t.Errorf("got %d bytes, %v, want %d", len(s.Flash), err, n)
	}
	var got []string
	for _, c := range x.b.jar.Cookies(site) {
		got = append(got, c.Name)
	}
	slices.Sort(got)
	if diff := cmp.Diff(names, got); diff != "" {
		x.t.Errorf("cookies (-want +got):\n%s", diff)
	}
}

func TestLongSessionIsSplitAndShrinksWithoutLeftovers(t *testing.T) {
	x := newChunkTest(t)
	x.set(9000)
	x.want(9000, name, name+".1", name+".2", name+".3")
	x.set(5000)
	x.want(5000, name, name+".1")
	x.set(10)
	x.want(10, name)
}

func TestPartsOfTwoSessionsOrTooFewAreNone(t *testing.T) {
	x := newChunkTest(t)
	first, second := x.set(9000), x.set(5000)
	for what, cookies := range map[string]string{
		"mixed":          cookieLine(second[name], first[name+".1"]),
		"one missing":    cookieLine(first[name], first[name+".1"], first[name+".3"]),
		"all missing":    cookieLine(first[name]),
		"no first":       cookieLine(first[name+".1"], first[name+".2"]),
		"another number": strings.Replace(cookieLine(second[name], second[name+".1"]), "=2.", "=3.", 1),
	} {
		if s, res, err := getWith(x.m, cookies); err == nil || s.User != "" || setsCookie(res) {
			t.Errorf("%s: %+v, %v", what, s, err)
		}
	}
}

// They are of two paths.
func TestTwoSplitCookiesAreEachPutTogetherFromTheirOwn(t *testing.T) {
	x := newChunkTest(t)
	first, second := x.set(9000), x.set(5000)
	both := cookieLine(first[name], first[name+".1"], first[name+".2"], first[name+".3"], second[name], second[name+".1"])
	if s, _, err := getWith(x.m, both); err != nil || s.User != "alice" {
		t.Errorf("two split cookies: %v", err)
	}
}

func TestMoreChunksThanAllowedAreNotRead(t *testing.T) {
	x := newChunkTest(t)
	second := x.set(5000)
	one := mustNew(t, x.ring, sealed.Config[Session]{})
	if _, _, err := getWith(one, cookieLine(second[name], second[name+".1"])); !errors.Is(err, sealed.ErrInvalid) {
		t.Errorf("two chunks where one is allowed: %v", err)
	}
}

func TestDestroyDeletesAllChunks(t *testing.T) {
	x := newChunkTest(t)
	x.set(5000)
	x.b.visit(x.m, func(_ http.ResponseWriter, r *http.Request) { destroy(t, x.m, r) })
	if left := x.b.jar.Cookies(site); len(left) > 0 {
		t.Errorf("Destroy left %v", left)
	}
}

func TestLeftoverChunksAreDeletedByTheNextSession(t *testing.T) {
	x := newChunkTest(t)
	x.b.jar.SetCookies(site, withSecure([]*http.Cookie{{Name: name + ".2", Value: "x"}}))
	x.set(10)
	x.want(10, name)
}

func TestChunksInAnotherFormAreRefused(t *testing.T) {
	ring, key := ringAndKey(t)
	two := mustNew(t, ring, sealed.Config[Session]{Cookie: sealed.Cookie{MaxChunks: 2}})
	four := mustNew(t, ring, sealed.Config[Session]{Cookie: sealed.Cookie{MaxChunks: 4}})
	f := newForger(t, key)
	sealWith := func(flash int) string {
		return f.token(plaintext(t, [16]byte{1}, time.Now().UnixMilli(), 0, hourMs, Session{User: "alice", Flash: strings.Repeat("x", flash)}), name, purpose)
	}
	small, big := sealWith(0), sealWith(3500)
	for _, tt := range []struct {
		what   string
		m      *sealed.Manager[Session]
		header string
		want   error
	}{
		{"two chunks", two, name + "=2." + big[:2000] + "; " + name + ".1=" + big[2000:], nil},
		{"one chunk", four, name + "=1." + small + "; " + name + ".1=x", sealed.ErrInvalid},
		{"more chunks than allowed", two, name + "=5." + small + "; " + name + ".1=x; " + name + ".2=x", sealed.ErrInvalid},
		{"a chunk longer than any cookie", two, name + "=2." + big[:200] + "; " + name + ".1=" + big[200:], sealed.ErrInvalid},
		{"a chunk without its dot", two, name + "=2." + big[:2000] + "; " + name + "1=" + big[2000:], sealed.ErrInvalid},
		{"a chunk with a leading zero", two, name + "=2." + big[:2000] + "; " + name + ".01=" + big[2000:], sealed.ErrInvalid},
	} {
		if s, _, err := getWith(tt.m, tt.header); !errors.Is(err, tt.want) || (err == nil) != (s.User == "alice") {
			t.Errorf("%s: %v, want %v", tt.what, err, tt.want)
		}
	}
}

func TestEveryLengthAroundAFullChunkComesBack(t *testing.T) {
	for l := range 4 {
		m := mustNew(t, mustRing(t), sealed.Config[Session]{Cookie: sealed.Cookie{MaxChunks: 3, Name: "__Secure-" + strings.Repeat("n", l+1)}})
		lost := 0
		for n := 5800; n < 6150; n++ {
			res := request(m, func(_ http.ResponseWriter, r *http.Request) {
				if err := m.Update(r.Context(), func(s *Session) { s.Flash = strings.Repeat("x", n) }); err != nil {
					t.Error(err)
				}
			})
			if s, _, err := getWith(m, cookieOf(res)); err != nil || len(s.Flash) != n {
				lost++
			}
		}
		if lost > 0 {
			t.Errorf("%d lengths do not come back", lost)
		}
	}
}
