package sealed

import (
	"net/http"
	"slices"
	"strings"
)

// shieldResponse keeps caches from giving a response that depends on the session to
// others: "Vary" for those that heed it, "private" for those that do not, unless the
// handler has chosen otherwise. One that sets the cookie is not to be stored. The values
// lie in memory of the response's own: whoever edits a header in place must not edit
// another response's.
func shieldResponse(h http.Header, sets bool, values *[2]string) {
	if vary := h["Vary"]; len(vary) == 0 {
		values[0] = "Cookie"
		h["Vary"] = values[0:1:1]
	} else if !hasToken(vary, "Cookie") && !hasToken(vary, "*") {
		// In one line: nginx up to 1.22 heeds the last one only.
		h["Vary"] = []string{strings.Join(vary, ", ") + ", Cookie"}
	}
	cache := h["Cache-Control"]
	if len(cache) == 1 && &cache[0] == &values[1] {
		cache = nil // not the handler's: set before, see publish
	}
	switch {
	case sets && !closed(cache):
		values[1] = "no-store"
		h["Cache-Control"] = values[1:2:2]
	case len(cache) == 0:
		values[1] = "private"
		h["Cache-Control"] = values[1:2:2]
	}
}

// setCookieHeaders sets Set-Cookie lines in the place of those for the same cookies, and
// shields the response.
func setCookieHeaders(h http.Header, lines []string, owned func(string) bool, values *[2]string) {
	if len(lines) > 0 {
		deleteTargeted(h)
	}
	shieldResponse(h, len(lines) > 0, values)
	if existing := h["Set-Cookie"]; len(existing) > 0 {
		lines = append(slices.DeleteFunc(slices.Clone(existing), owned), lines...)
	}
	if len(lines) == 0 {
		delete(h, "Set-Cookie")
		return
	}
	h["Set-Cookie"] = lines
}

// deleteTargeted deletes the headers that speak to certain caches only, which win over
// Cache-Control there (RFC 9213, section 2.2), unless they say that nothing is stored.
func deleteTargeted(h http.Header) {
	for name, values := range h {
		switch {
		case name == "X-Accel-Expires" && len(values) == 1 && trimSpace(values[0]) == "0":
		case name == "X-Accel-Expires":
			delete(h, name)
		case name == "Surrogate-Control", name == "Edge-Control", strings.HasSuffix(name, "Cdn-Cache-Control"):
			if !closed(values) {
				delete(h, name)
			}
		}
	}
}

// closed reports whether a cache that obeys the lines stores nothing for others.
func closed(lines []string) bool { return hasToken(lines, "private") || hasToken(lines, "no-store") }

// hasToken reports whether a header of comma-separated members holds one, in any
// case (RFC 9110, section 5.6.1). A comma in a quoted string splits nothing.
func hasToken(lines []string, token string) bool {
	for _, line := range lines {
		for line != "" {
			end := memberEnd(line)
			if strings.EqualFold(trimSpace(line[:end]), token) {
				return true
			}
			line = line[min(end+1, len(line)):]
		}
	}
	return false
}

// memberEnd returns where the first member of a list ends: at a comma, or the end.
func memberEnd(line string) int {
	quoted := false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case quoted && c == '\\':
			i++ // a quoted pair
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			return i
		}
	}
	return len(line)
}
