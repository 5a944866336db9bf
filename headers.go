package sealed

import (
	"net/http"
	"slices"
	"strings"
)

// These are shared by all responses: an append to them makes a copy, as they have
// no room, and headers are replaced, never changed in place.
var (
	varyCookie   = []string{"Cookie"}
	cacheNoStore = []string{"no-store"}
)

// varyByCookie tells caches that the response is for the sender of these cookies.
func varyByCookie(h http.Header) {
	if vary := h["Vary"]; len(vary) == 0 {
		h["Vary"] = varyCookie
	} else if !hasToken(vary, "Cookie") && !hasToken(vary, "*") {
		h["Vary"] = append(vary, "Cookie")
	}
}

// replaceCookies sets Set-Cookie lines in the place of those for the same cookies, and
// keeps the response from others.
func replaceCookies(h http.Header, lines []string, owned func(string) bool) {
	varyByCookie(h)
	if existing := h["Set-Cookie"]; len(existing) > 0 {
		lines = append(slices.DeleteFunc(slices.Clone(existing), owned), lines...)
	}
	if len(lines) == 0 {
		delete(h, "Set-Cookie")
		return
	}
	h["Set-Cookie"] = lines
	noStore(h)
}

// noStore keeps caches from storing a response, unless the handler has seen to
// it. The headers that speak to certain caches only win over Cache-Control there
// (RFC 9213, section 2.2), so they go, unless they say the same.
func noStore(h http.Header) {
	closed := func(name string) bool { return hasToken(h[name], "private") || hasToken(h[name], "no-store") }
	if !closed("Cache-Control") {
		h["Cache-Control"] = cacheNoStore
	}
	for _, name := range []string{"Cdn-Cache-Control", "Surrogate-Control"} {
		if len(h[name]) > 0 && !closed(name) {
			delete(h, name)
		}
	}
}

// hasToken reports whether a header of comma-separated tokens holds one, in any
// case (RFC 9110, section 5.6.1).
func hasToken(lines []string, token string) bool {
	for _, line := range lines {
		for part := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(trimSpace(part), token) {
				return true
			}
		}
	}
	return false
}
