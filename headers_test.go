package sealed_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/sealed"
)

// wantHeaders runs a handler that asks for the session with headers of its own,
// and checks what becomes of them.
func wantHeaders(t *testing.T, what, cache, vary string, sets bool, wantCache, wantVary string) {
	t.Helper()
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	res := request(m, func(w http.ResponseWriter, r *http.Request) {
		for k, v := range map[string]string{"Cache-Control": cache, "Vary": vary} {
			if v != "" {
				w.Header()[k] = []string{v}
			}
		}
		m.Get(r.Context())
		if sets {
			set(t, m, r)
		}
	})
	if got := strings.Join(res.Header["Cache-Control"], "|"); got != wantCache {
		t.Errorf("%s: Cache-Control %q, want %q", what, got, wantCache)
	}
	if got := strings.Join(res.Header["Vary"], "|"); got != wantVary {
		t.Errorf("%s: Vary %q, want %q", what, got, wantVary)
	}
}

func TestReadResponseVariesOnCookies(t *testing.T) {
	wantHeaders(t, "read", "", "", false, "private", "Cookie")
	wantHeaders(t, "read, varies", "", "Accept", false, "private", "Accept, Cookie")
	wantHeaders(t, "read, varies on cookies", "", "accept , COOKIE", false, "private", "accept , COOKIE")
	wantHeaders(t, "read, varies on all", "", "*", false, "private", "*")
}

func TestReadResponseMayBeCached(t *testing.T) {
	wantHeaders(t, "read, cacheable", "public, max-age=60", "", false, "public, max-age=60", "Cookie")
}

func TestResponseWithACookieIsNotStored(t *testing.T) {
	wantHeaders(t, "set", "", "", true, "no-store", "Cookie")
	wantHeaders(t, "set, public", "public, max-age=60", "", true, "no-store", "Cookie")
	wantHeaders(t, "set, no-cache", "no-cache", "", true, "no-store", "Cookie")
	wantHeaders(t, "set, private fields only", `private="X-Name"`, "", true, "no-store", "Cookie")
}

func TestPrivateOrNoStoreOfTheHandlerIsLeft(t *testing.T) {
	wantHeaders(t, "set, private", "max-age=60, Private", "", true, "max-age=60, Private", "Cookie")
	wantHeaders(t, "set, no-store", "no-store", "", true, "no-store", "Cookie")
	wantHeaders(t, "set, no-store first", "no-store, max-age=0", "", true, "no-store, max-age=0", "Cookie")
	wantHeaders(t, "set, private between tabs", "max-age=0,\tprivate\t", "", true, "max-age=0,\tprivate\t", "Cookie")
}

// Some caches have headers of their own.
func TestTargetedCacheHeadersDoNotStoreACookie(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	res := request(m, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("CDN-Cache-Control", "max-age=600")
		w.Header().Set("Surrogate-Control", "no-store")
		set(t, m, r)
	})
	if res.Header.Get("CDN-Cache-Control") != "" || res.Header.Get("Surrogate-Control") != "no-store" {
		t.Errorf("headers %v", res.Header)
	}
}

func TestUntouchedResponseGetsNoHeaders(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	res := request(m, func(http.ResponseWriter, *http.Request) {})
	if len(res.Header) > 0 {
		t.Errorf("an untouched response got %v", res.Header)
	}
}

// wantReplaced has a handler set Set-Cookie lines, and checks which of them are
// left beside the session's own.
func wantReplaced(t *testing.T, lines, want []string) {
	t.Helper()
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	res := request(m, func(w http.ResponseWriter, r *http.Request) {
		set(t, m, r)
		w.Header()["Set-Cookie"] = lines
	})
	got := res.Header["Set-Cookie"]
	if len(got) == 0 {
		t.Fatal("no cookie was set")
	}
	if own := got[len(got)-1]; !strings.HasPrefix(own, name+"=") || strings.Contains(own, "planted") {
		t.Errorf("the last Set-Cookie is %q, want the session's", own)
	}
	if diff := cmp.Diff(want, got[:len(got)-1]); diff != "" {
		t.Errorf("other Set-Cookie lines (-want +got):\n%s", diff)
	}
}

func TestSetCookieOfOurNamesIsReplacedAndOthersStay(t *testing.T) {
	own := []string{name + "=planted; Path=/", name + ".1=planted"}
	others := []string{"a=1", name + "x=1", name + ".x=1", name + "1=1"}
	wantReplaced(t, append(own, others...), others)
}

// Spaces before it do not hide a name, nor is any number one of a chunk.
func TestSetCookieIsReplacedOnlyIfItsNameIsExactlyOurs(t *testing.T) {
	others := []string{"a=1", name + ".0=1", name + ".01=1", name + ".+1=1", name + ".32=1", name + ".99=1"}
	wantReplaced(t, append([]string{" " + name + "=planted", name + ".31=planted"}, others...), others)
}

func TestHandlersSliceOfSetCookieLinesIsLeftAlone(t *testing.T) {
	lines := []string{" " + name + "=planted", name + ".31=planted", "a=1"}
	kept := slices.Clone(lines)
	wantReplaced(t, lines, []string{"a=1"})
	if diff := cmp.Diff(kept, lines); diff != "" {
		t.Errorf("the handler's slice was changed:\n%s", diff)
	}
}
