package sealed_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/sealed"
)

// userCookie returns a cookie of a user's session, forged.
func userCookie(f forger, id byte, user string, created, lastUsed int64) string {
	return f.cookie(plaintext(f.t, [16]byte{id}, created, lastUsed, hourMs, Session{User: user}))
}

// wantUser sends cookies in all ways that a client may, and checks whose session
// they give.
func wantUser(t *testing.T, m *sealed.Manager[Session], what string, cookies []string, want string) {
	t.Helper()
	for how, header := range map[string][]string{"in one line": {strings.Join(cookies, "; ")}, "in several lines": cookies, "tight": {strings.Join(cookies, ";")}} {
		s, res, err := getWith(m, header...)
		if s.User != want {
			t.Errorf("%s, %s: got %q, %v, want %q", what, how, s.User, err, want)
		}
		if setsCookie(res) {
			t.Errorf("%s, %s: set %q", what, how, res.Header["Set-Cookie"])
		}
	}
}

func TestCookieUsedLastIsTheSession(t *testing.T) {
	m, f, _ := mustForge(t, sealed.Config[Session]{})
	now := time.Now().UnixMilli()
	newest := userCookie(f, 1, "newest", now-60_000, 59_000)
	newer := userCookie(f, 2, "newer", now-2_000, 0)
	old := userCookie(f, 3, "old", now-120_000, 100)
	wantUser(t, m, "one", []string{newest}, "newest")
	wantUser(t, m, "the newest first", []string{newest, newer, old}, "newest")
	wantUser(t, m, "the newest last", []string{old, newer, newest}, "newest")
	wantUser(t, m, "the same twice", []string{old, old}, "old")
}

func TestCookieThatIsNoSessionHidesNoneThatIs(t *testing.T) {
	m, f, _ := mustForge(t, sealed.Config[Session]{})
	now := time.Now().UnixMilli()
	newest := userCookie(f, 1, "newest", now-60_000, 59_000)
	old := userCookie(f, 3, "old", now-120_000, 100)
	expired := userCookie(f, 4, "expired", now-2*hourMs, 0)
	junk := name + "=junk"
	wantUser(t, m, "junk around it", []string{junk, newest, junk}, "newest")
	wantUser(t, m, "an expired one", []string{expired, old}, "old")
	wantUser(t, m, "other names", []string{name + "2=junk", "x" + name + "=junk", name + "x=" + old, newest, name}, "newest")
	wantUser(t, m, "other case", []string{strings.Replace(newest, "__Host", "__host", 1), old}, "old")
}

func TestOnlyFourCookiesOfTheNameAreTried(t *testing.T) {
	m, f, _ := mustForge(t, sealed.Config[Session]{})
	newest := userCookie(f, 1, "newest", time.Now().UnixMilli()-60_000, 59_000)
	junk := name + "=junk"
	wantUser(t, m, "the fourth", []string{junk, junk, junk, newest}, "newest")
	wantUser(t, m, "only four are tried", []string{junk, junk, junk, junk, newest}, "")
}

// A listedForge has cookies that a revocation list answers for by the session's ID.
type listedForge struct {
	m                                     *sealed.Manager[Session]
	f                                     forger
	list                                  *fakeList
	now                                   int64
	old, fresh, twin, revoked, unverified string
}

func newListedForge(t *testing.T) listedForge {
	t.Helper()
	x := listedForge{now: time.Now().UnixMilli(), list: &fakeList{check: func(_ context.Context, s sealed.Info) error {
		switch s.ID[0] {
		case 3:
			return sealed.ErrRevoked
		case 4:
			return sealed.ErrUnverified
		}
		return nil
	}}}
	x.m, x.f, _ = mustForge(t, sealed.Config[Session]{Revocations: x.list})
	x.old = userCookie(x.f, 1, "old", x.now-120_000, 100)
	x.fresh = userCookie(x.f, 2, "fresh", x.now-2_000, 0)
	x.revoked = userCookie(x.f, 3, "revoked", x.now-1_000, 0)
	x.unverified = userCookie(x.f, 4, "unverified", x.now-500, 0)
	x.twin = userCookie(x.f, 5, "twin", x.now-2_000, 0)
	return x
}

// want checks whose session two cookies give.
func (x listedForge) want(t *testing.T, what, first, second, user string, want error) {
	t.Helper()
	request(x.m, func(_ http.ResponseWriter, r *http.Request) {
		for range 2 { // the second from the record's bytes
			if s, err := x.m.Get(r.Context()); s.User != user || !errors.Is(err, want) {
				t.Errorf("%s: %q, %v, want %q, %v", what, s.User, err, user, want)
			}
		}
	}, first+"; "+second)
}

func TestFirstOfCookiesUsedAtOneTimeIsTheSession(t *testing.T) {
	x := newListedForge(t)
	x.want(t, "newer", x.old, x.fresh, "fresh", nil)
	x.want(t, "newer first", x.fresh, x.old, "fresh", nil)
	x.want(t, "the first of equals", x.fresh, x.twin, "fresh", nil)
	x.want(t, "the first of equals", x.twin, x.fresh, "twin", nil)
}

func TestRevokedCookieHidesNoOther(t *testing.T) {
	x := newListedForge(t)
	x.want(t, "a revoked one after", x.old, x.revoked, "old", nil)
	x.want(t, "a revoked one before", x.revoked, x.old, "old", nil)
}

// It may be the session, so that an older one must not stand in for it.
func TestUnverifiedCookieUsedLastHidesTheOther(t *testing.T) {
	x := newListedForge(t)
	x.want(t, "unverified after", x.old, x.unverified, "", sealed.ErrUnverified)
	x.want(t, "unverified before", x.unverified, x.old, "", sealed.ErrUnverified)
}

// revokedBy returns what Destroy revokes for a request with these cookies, by the
// first bytes of the IDs.
func (x listedForge) revokedBy(t *testing.T, cookies ...string) (ids []byte) {
	t.Helper()
	x.list.revoked = nil
	request(x.m, func(_ http.ResponseWriter, r *http.Request) { destroy(t, x.m, r) }, cookies...)
	for _, r := range x.list.revoked {
		ids = append(ids, r.ID[0])
	}
	slices.Sort(ids) // Destroy revokes them at once
	return ids
}

// One whose cookie has another path would be the visitor's session next.
func TestDestroyRevokesAllCookiesOfTheName(t *testing.T) {
	x := newListedForge(t)
	ids := x.revokedBy(t, userCookie(x.f, 7, "alice", x.now, 0), userCookie(x.f, 8, "alice", x.now, 1), userCookie(x.f, 9, "alice", x.now, 2))
	if diff := cmp.Diff([]byte{7, 8, 9}, ids); diff != "" {
		t.Errorf("revoked (-want +got):\n%s", diff)
	}
}

func TestDestroyRevokesWhatCannotBeVerified(t *testing.T) {
	x := newListedForge(t)
	for _, tt := range []struct {
		what    string
		cookies string
		want    []byte
	}{
		{"with another", x.old + "; " + x.unverified, []byte{1, 4}},
		{"alone", x.unverified, []byte{4}},
	} {
		if diff := cmp.Diff(tt.want, x.revokedBy(t, tt.cookies)); diff != "" {
			t.Errorf("%s: revoked (-want +got):\n%s", tt.what, diff)
		}
	}
	older := userCookie(x.f, 4, "unverified", x.now-600_000, 0)
	if ids := x.revokedBy(t, x.fresh+"; "+older); len(ids) != 2 {
		t.Errorf("one that is not the session: revoked %v, want both", ids)
	}
}

// What Destroy deletes are the names that a session's cookies can have, whatever
// the manager's MaxChunks: it may have been higher.
func TestDestroyDeletesCookiesOfChunkNames(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	for header, want := range map[string]string{
		name + ".2=x":                  name + " " + name + ".2 ",
		name + "=x; " + name + ".31=x": name + " " + name + ".31 ",
		name + ".0=x":                  "",
		name + ".32=x":                 "",
		name + ".01=x":                 "",
		name + "2=x":                   "",
	} {
		res := request(m, func(_ http.ResponseWriter, r *http.Request) { destroy(t, m, r) }, header)
		got := ""
		for _, c := range res.Cookies() {
			got += c.Name + " "
		}
		if got != want {
			t.Errorf("Destroy with %s deletes %q, want %q", header, got, want)
		}
	}
}

func TestBlanksAroundCookieArePassedOver(t *testing.T) {
	m, f, _ := mustForge(t, sealed.Config[Session]{})
	token := f.token(plaintext(t, [16]byte{1}, time.Now().UnixMilli(), 0, hourMs, Session{User: "alice"}), name, purpose)
	for _, tt := range []struct {
		what   string
		header string
		want   error
	}{
		{"semicolons before", ";; ;" + name + "=" + token, nil},
		{"tabs and spaces around", "a=b;\t " + name + "=" + token + " \t; c=d", nil},
		{"tab at the end", name + "=" + token + "\t", nil},
		{"space after the =", name + "= " + token, sealed.ErrInvalid},
	} {
		if s, _, err := getWith(m, tt.header); !errors.Is(err, tt.want) || (err == nil) != (s.User == "alice") {
			t.Errorf("%s: %v, want %v", tt.what, err, tt.want)
		}
	}
}

// And never a panic.
func TestAnyCookieHeaderCostsABoundedAmountOfWork(t *testing.T) {
	m, f, _ := mustForge(t, sealed.Config[Session]{})
	chunked := mustNew(t, mustRing(t), sealed.Config[Session]{Cookie: sealed.Cookie{MaxChunks: 16}})
	good := userCookie(f, 1, "alice", time.Now().UnixMilli(), 0)
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
