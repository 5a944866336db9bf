package sealed_test

import (
	"net/http"
	"strings"
	"testing"

	"example.com/sealed"
)

// Caches never keep one visitor's response for another.
func TestCacheHeaders(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	header := func(cache, vary string) string { return "Cache-Control: " + cache + ", Vary: " + vary }
	for _, tt := range []struct {
		name        string
		cache, vary string // by the handler
		set         bool   // a cookie
		want        string
	}{
		{"read", "", "", false, header("", "Cookie")},
		{"read, cacheable", "public, max-age=60", "", false, header("public, max-age=60", "Cookie")},
		{"read, varies", "", "Accept", false, header("", "Accept|Cookie")},
		{"read, varies on cookies", "", "accept , COOKIE", false, header("", "accept , COOKIE")},
		{"read, varies on all", "", "*", false, header("", "*")},
		{"set", "", "", true, header("no-store", "Cookie")},
		{"set, public", "public, max-age=60", "", true, header("no-store", "Cookie")},
		{"set, private", "max-age=60, Private", "", true, header("max-age=60, Private", "Cookie")},
		{"set, no-store", "no-store", "", true, header("no-store", "Cookie")},
		{"set, no-cache", "no-cache", "", true, header("no-store", "Cookie")},
		{"set, private fields only", `private="X-Name"`, "", true, header("no-store", "Cookie")},
	} {
		res := newBrowser(t).visit(m, func(w http.ResponseWriter, r *http.Request) {
			for k, v := range map[string]string{"Cache-Control": tt.cache, "Vary": tt.vary} {
				if v != "" {
					w.Header().Set(k, v)
				}
			}
			m.Get(r.Context())
			if tt.set {
				set(t, m, r)
			}
		})
		if got := header(res.Header.Get("Cache-Control"), strings.Join(res.Header["Vary"], "|")); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	res := newBrowser(t).visit(m, func(http.ResponseWriter, *http.Request) {})
	if len(res.Header) > 0 {
		t.Errorf("an untouched response got %v", res.Header)
	}
}

// A Set-Cookie of our name is replaced, others stay.
func TestSetCookieIsReplaced(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	own := []string{name + "=planted; Path=/", name + ".1=planted"}
	others := []string{"a=1", name + "x=1", name + ".x=1", name + "1=1"}
	res := newBrowser(t).visit(m, func(w http.ResponseWriter, r *http.Request) {
		set(t, m, r)
		w.Header()["Set-Cookie"] = append(append([]string(nil), own...), others...)
	})
	got := res.Header["Set-Cookie"]
	if len(got) != len(others)+1 || strings.Join(got[:len(others)], "|") != strings.Join(others, "|") || strings.Contains(got[len(others)], "planted") {
		t.Errorf("Set-Cookie %q", got)
	}
}
