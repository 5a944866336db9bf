package app

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"example.com/sealed"
)

// cookieBudget is what one cookie may take in the strictest browser, in bytes.
const cookieBudget = 4093

// anatomyView lays a session and its cookie open.
type anatomyView struct {
	ID          sealed.ID `json:"id"`
	Subject     string    `json:"subject"`
	Created     time.Time `json:"created"`
	LastUsed    time.Time `json:"lastUsed"`
	Expires     time.Time `json:"expires"`
	KeyID       string    `json:"keyID"`
	CookieBytes int       `json:"cookieBytes"`
	Bound       bool      `json:"bound"`
	Proven      time.Time `json:"proven,omitzero"`
	Data        session   `json:"data"`

	KeyState sealed.KeyState `json:"-"`
	Parts    []part          `json:"-"`
	Total    int             `json:"-"` // bytes of the token
	JSON     string          `json:"-"`
	Now      time.Time       `json:"-"`
}

// A part is a stretch of the token: FORMAT.md has the table.
type part struct {
	Name, Class, Text string
	Size, Offset      int
	Hex               string
}

func (v anatomyView) Budget() int { return cookieBudget }

// Left says how far t is away.
func (v anatomyView) Left(t time.Time) string { return left(t, v.Now) }

// Ago says how long t has been.
func (v anatomyView) Ago(t time.Time) string {
	return fmt.Sprintf("%d seconds ago", max(0, int(v.Now.Sub(t).Seconds())))
}

func left(t, now time.Time) string {
	switch d := t.Sub(now); {
	case d > 48*time.Hour:
		return fmt.Sprintf("in %d days", int(d.Hours()/24+.5))
	case d > 2*time.Hour:
		return fmt.Sprintf("in %d hours", int(d.Hours()+.5))
	case d > 2*time.Minute:
		return fmt.Sprintf("in %d minutes", int(d.Minutes()+.5))
	default:
		return fmt.Sprintf("in %d seconds", max(0, int(d.Seconds()+.5)))
	}
}

func (s *shop) anatomy(w http.ResponseWriter, r *http.Request) {
	info, err := s.sessions.Info(r.Context())
	data, _ := s.sessions.Get(r.Context())
	if err != nil && wantsJSON(r) {
		status := http.StatusNotFound
		switch {
		case errors.Is(err, sealed.ErrUnverified):
			status = http.StatusServiceUnavailable
		case errors.Is(err, sealed.ErrUnproven):
			status = http.StatusUnauthorized
		}
		writeJSON(w, status, map[string]string{"error": err.Error()})
		return
	}
	if err != nil {
		s.render(w, r, http.StatusOK, "nosession.html", "Your cookie", nil)
		return
	}
	v := anatomyView{
		ID: info.ID, Subject: info.Subject, Created: info.Created, LastUsed: info.LastUsed, Expires: info.Expires,
		KeyID: info.KeyID, Data: data, Now: time.Now(), Bound: info.Bound, Proven: info.Proven,
	}
	v.takeApart(s.cookie, r)
	if wantsJSON(r) {
		writeJSON(w, http.StatusOK, v)
		return
	}
	for _, k := range s.Keys.Status().Keys {
		if k.ID == v.KeyID {
			v.KeyState = k.State
		}
	}
	text, err := json.MarshalIndent(data, "", "  ")
	if err != nil {
		s.Log.Error("encoding", "error", err)
	}
	v.JSON = string(text)
	s.render(w, r, http.StatusOK, "session.html", "Your cookie", v)
}

// takeApart describes the bytes of the request's cookie. It needs no key.
func (v *anatomyView) takeApart(name string, r *http.Request) {
	cookie, err := r.Cookie(name)
	if err != nil {
		return
	}
	v.CookieBytes = len(name) + 1 + len(cookie.Value)
	token, err := base64.RawURLEncoding.DecodeString(cookie.Value)
	if err != nil || len(token) < 45 {
		return
	}
	v.Total = len(token)
	rest := token
	for _, p := range []part{
		{Name: "Version", Class: "version", Size: 1, Text: "of the format"},
		{Name: "Key ID", Class: "keyid", Size: 4, Text: "which key of the ring opens it"},
		{Name: "Nonce", Class: "nonce", Size: 24, Text: "random, new for every cookie"},
		{Name: "Ciphertext", Class: "ciphertext", Size: len(token) - 45, Text: "ID, times and your data, unreadable without the key"},
		{Name: "Tag", Class: "tag", Size: 16, Text: "fails if a single bit was changed"},
	} {
		p.Offset = len(token) - len(rest)
		p.Hex = spacedHex(rest[:p.Size])
		rest = rest[p.Size:]
		v.Parts = append(v.Parts, p)
	}
}

// spacedHex writes bytes in groups of four that a line can break between.
func spacedHex(b []byte) string {
	const digits = "0123456789abcdef"
	var s strings.Builder
	for i, c := range b {
		if i > 0 && i%4 == 0 {
			s.WriteByte(' ')
		}
		s.WriteByte(digits[c>>4])
		s.WriteByte(digits[c&15])
	}
	return s.String()
}
