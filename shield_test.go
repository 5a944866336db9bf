package sealed_test

import (
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/sealed"
	"example.com/sealed/revoke"
)

// Headers that speak to one cache only win over Cache-Control there.
func TestTargetedHeadersThatAreNotClosedGoWithACookie(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	for _, tt := range []struct {
		name, value string
		stays       bool
	}{
		{"CDN-Cache-Control", "max-age=600", false},
		{"Cloudflare-CDN-Cache-Control", "public, max-age=600", false},
		{"Vercel-CDN-Cache-Control", "max-age=600", false},
		{"Netlify-CDN-Cache-Control", "public", false},
		{"Somebodys-CDN-Cache-Control", "max-age=1", false},
		{"Somebodys-CDN-Cache-Control", "no-store", true},
		{"Edge-Control", "max-age=600", false},
		{"Edge-Control", "no-store", true},
		{"Surrogate-Control", "max-age=600", false},
		{"Surrogate-Control", "private", true},
		{"X-Accel-Expires", "600", false},
		{"X-Accel-Expires", "@1735689600", false},
		{"X-Accel-Expires", "0", true},
		{"X-Other", "max-age=600", true},
		{"CDN-Cache-Control", `max-age=600, no-cache="X, no-store"`, false},
		{"CDN-Cache-Control", `max-age=600, no-cache="a\", private, "`, false},
		{"CDN-Cache-Control", `no-cache="X, Y", no-store`, true},
	} {
		for _, sets := range []bool{true, false} {
			res := request(m, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set(tt.name, tt.value)
				m.Get(r.Context())
				if sets {
					set(t, m, r)
				}
			})
			if got := res.Header.Get(tt.name) == tt.value; got != (tt.stays || !sets) {
				t.Errorf("%s: %s with a cookie %v: stays %v", tt.name, tt.value, sets, got)
			}
		}
	}
}

func TestCommaInQuotesSplitsNoCacheControl(t *testing.T) {
	wantHeaders(t, "set, quoted", `public, no-cache="X-A, private, X-B"`, "", true, "no-store", "Cookie")
	wantHeaders(t, "set, quoted, and private", `no-cache="X-A, X-B", private`, "", true, `no-cache="X-A, X-B", private`, "Cookie")
}

// nginx up to 1.22 heeds the last line only.
func TestVaryIsOneLine(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	res := request(m, func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Vary"] = []string{"Accept", "Origin, Accept-Encoding"}
		m.Get(r.Context())
	})
	if got := res.Header["Vary"]; len(got) != 1 || got[0] != "Accept, Origin, Accept-Encoding, Cookie" {
		t.Errorf("Vary %q", got)
	}
}

// A proxy that edits header values in place edits those of one response.
func TestHeaderValuesAreTheResponsesOwn(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	for _, sets := range []bool{true, false} {
		serve := func() http.Header {
			w := httptest.NewRecorder()
			serveTo(w, m, func(_ http.ResponseWriter, r *http.Request) {
				m.Get(r.Context())
				if sets {
					set(t, m, r)
				}
			})
			return w.Header()
		}
		first := serve()
		for _, values := range first {
			for i := range values {
				values[i] = "edited"
			}
		}
		for name, values := range serve() {
			if strings.Join(values, "") == "edited" {
				t.Errorf("%s of another response was edited", name)
			}
		}
	}
}

func TestPrefetchIsNoUseByWhateverHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, mustRing(t), sealed.Config[Session]{IdleTimeout: time.Hour})
		for _, header := range [][2]string{
			{"Sec-Purpose", "prefetch"}, {"Sec-Purpose", "prefetch;prerender"}, {"Purpose", "prefetch"}, {"Purpose", "Prefetch"},
			{"X-Purpose", "preview"}, {"X-Purpose", "prefetch"}, {"X-Moz", "prefetch"},
		} {
			b := newBrowser(t)
			b.login(m, "alice")
			time.Sleep(20 * time.Minute)
			res := b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
				if !sealed.IsPrefetch(r) {
					t.Errorf("%v is no prefetch", header)
				}
				m.Get(r.Context())
			}, header[0], header[1])
			if setsCookie(res) {
				t.Errorf("%v moved the last use", header)
			}
		}
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Purpose", "preview")
		if sealed.IsPrefetch(r) || sealed.IsPrefetch(httptest.NewRequest("GET", "/", nil)) {
			t.Error("a usual request is a prefetch")
		}
	})
}

func TestCookieThatCanNeverOpenIsDeletedIfAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, asked := range []bool{true, false} {
			list := revoke.NewList()
			m, f, ring := mustForge(t, sealed.Config[Session]{Subject: user, Revocations: list, DeleteDead: asked, IdleTimeout: 30 * time.Minute, Lifetime: time.Hour})
			now := time.Now().UnixMilli()
			cookie := func(id byte, created int64, expires int64) string {
				return f.cookie(plaintext(t, [16]byte{id}, created, 0, expires, Session{User: "alice"}))
			}
			if err := list.Revoke(t.Context(), sealed.Revocation{ID: sealed.ID{9}, Until: time.Now().Add(time.Hour)}); err != nil {
				t.Fatal(err)
			}
			good := cookie(1, now, hourMs)
			strange, _ := stranger(t)
			newVersion := name + "=" + "Ag" + strings.Repeat("A", 100)
			for what, tt := range map[string]struct {
				cookie string
				dead   bool
			}{
				"good":                      {good, false},
				"malformed":                 {name + "=junk!", true},
				"tampered":                  {good[:len(good)-6] + "AAAAAA", true},
				"expired for good":          {cookie(2, now-2*hourMs, hourMs), true},
				"expired by today's terms":  {cookie(3, now-2*hourMs, 48*hourMs), false},
				"idle":                      {cookie(4, now-hourMs/2, hourMs), false},
				"revoked":                   {cookie(9, now, hourMs), true},
				"from the future":           {cookie(5, now+hourMs, hourMs), false},
				"an unknown key":            {strange.cookie(), false},
				"a newer version":           {newVersion, false},
				"a newer type":              {f.cookie(plaintext(t, [16]byte{6}, now, 0, hourMs, "text")), false},
				"dead, beside a good one":   {name + "=junk!; " + good, false},
				"dead, beside one that may": {name + "=junk!; " + strange.cookie(), false},
				"two dead ones":             {name + "=junk!; " + name + "=x", true},
				"more than are tried":       {strings.Repeat(name+"=junk!; ", 5), false},
			} {
				for _, read := range []bool{true, false} {
					res := request(m, func(_ http.ResponseWriter, r *http.Request) {
						if read {
							m.Get(r.Context())
						}
					}, tt.cookie)
					c := res.Cookies()
					if want := asked && read && tt.dead; (len(c) == 1 && c[0].MaxAge < 0) != want || len(c) > 1 {
						t.Errorf("%s, asked for %v, read %v: set %q, want a deletion: %v", what, asked, read, res.Header["Set-Cookie"], want)
					}
				}
			}
			// A change begins a new session in its place.
			res := request(m, func(_ http.ResponseWriter, r *http.Request) { set(t, m, r) }, name+"=junk!")
			if c := res.Cookies(); len(c) != 1 || c[0].MaxAge < 0 {
				t.Errorf("a new session: %q", res.Header["Set-Cookie"])
			}
			if _, err := ring.Rotate(0); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestCookieThatCannotBeVerifiedIsNotDeleted(t *testing.T) {
	list := &fakeList{}
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Revocations: list, DeleteDead: true})
	b := newBrowser(t)
	b.login(m, "alice")
	list.checks(sealed.ErrUnverified)
	if _, res, _ := b.get(m); setsCookie(res) {
		t.Errorf("set %q", res.Header["Set-Cookie"])
	}
}

// A deep dump of a request, as of a debugger's or an error reporter's, must not show a
// key, whatever path it takes.
func TestNoPathFromARequestLeadsToAKey(t *testing.T) {
	ring, key := ringAndKey(t)
	f := newForger(t, key)
	secrets := map[string][]byte{"secret": f.secret, "AEAD key": f.derive("sealed/v1 aead", 32)}
	m := mustNew(t, ring, sealed.Config[Session]{Revocations: revoke.NewList()})
	b := newBrowser(t)
	b.login(m, "alice")
	b.visit(m, func(w http.ResponseWriter, r *http.Request) {
		m.Get(r.Context())
		for what, v := range map[string]any{"request": r, "context": r.Context(), "writer": w, "manager": m, "ring": ring, "key": key} {
			d := dumper{seen: map[any]bool{}}
			d.walk(reflect.ValueOf(v), 0)
			for name, secret := range secrets {
				if strings.Contains(d.bytes.String(), string(secret)) {
					t.Errorf("the %s leads to the %s", what, name)
				}
			}
			if what == "request" && !strings.Contains(d.bytes.String(), "alice") {
				t.Error("the dump does not even find the session")
			}
		}
	})
}

// A dumper collects all bytes that reflection can reach.
type dumper struct {
	bytes strings.Builder
	seen  map[any]bool
}

func (d *dumper) walk(v reflect.Value, depth int) {
	if depth > 60 || !v.IsValid() {
		return
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice:
		if v.IsNil() {
			return
		}
		key := [2]any{v.Pointer(), v.Type()}
		if v.Kind() != reflect.Slice && d.seen[key] {
			return
		}
		d.seen[key] = true
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		d.walk(v.Elem(), depth+1)
	case reflect.Struct:
		for i := range v.NumField() {
			d.walk(v.Field(i), depth+1)
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			d.walk(it.Key(), depth+1)
			d.walk(it.Value(), depth+1)
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			d.walk(v.Index(i), depth+1)
		}
	case reflect.String:
		d.bytes.WriteString(v.String())
	case reflect.Uint8:
		d.bytes.WriteByte(byte(v.Uint()))
	case reflect.Uint32:
		n := v.Uint()
		d.bytes.Write([]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)})
	}
}
