package app

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"
)

// A theft is a copy of a visitor's cookies, and what it is worth now.
type theft struct {
	Cookies string // as in a Cookie header
	Copied  time.Time
	Tries   []attempt
	Bound   bool // the visitor's session is
}

// An attempt is a visit with copied cookies.
type attempt struct {
	What   string
	Status int
	Says   string
}

// theftPage has the visitor's cookies copied, and tries the copy: now, and again later. A real
// site never shows cookies to a page.
func (s *shop) theftPage(w http.ResponseWriter, r *http.Request) {
	var page theft
	if info, err := s.sessions.Info(r.Context()); err == nil {
		page.Bound = info.Bound
	}
	if r.Method == http.MethodPost {
		page.Cookies, page.Copied = r.PostFormValue("cookies"), time.Now()
		if at, err := time.Parse(time.RFC3339, r.PostFormValue("copied")); err == nil && page.Cookies != "" {
			page.Copied = at
		} else {
			page.Cookies = r.Header.Get("Cookie")
		}
		page.Tries = []attempt{s.try("All of the cookies", page.Cookies), s.try("The session's cookie alone", s.without(page.Cookies))}
	}
	s.render(w, r, http.StatusOK, "theft.html", "A stolen cookie", page)
}

// without returns a Cookie header's session, without its proof.
func (s *shop) without(cookies string) string {
	for pair := range strings.SplitSeq(cookies, "; ") {
		if strings.HasPrefix(pair, s.cookie+"=") {
			return pair
		}
	}
	return ""
}

// try visits the shop with cookies, as a thief does from elsewhere.
func (s *shop) try(what, cookies string) attempt {
	r := httptest.NewRequest(http.MethodGet, "/session", nil)
	r.Header.Set("Accept", "application/json")
	r.Header["Cookie"] = []string{cookies}
	w := httptest.NewRecorder()
	s.site.ServeHTTP(w, r)
	var answer struct{ Subject, Error string }
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		answer.Error = "it does not answer"
	}
	says := strings.TrimPrefix(answer.Error, "sealed: ")
	if says == "" {
		says = "Welcome, " + answer.Subject + "."
		if answer.Subject == "" {
			says = "Nobody is logged in."
		}
	}
	return attempt{what, w.Code, says}
}
