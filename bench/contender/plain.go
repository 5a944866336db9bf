package contender

import (
	"context"
	"crypto/rand"
	"net/http"
	"slices"
	"sync"
)

// none is the zero line: an application without sessions.
type none struct{}

func openNone(context.Context, Environment) (Sessions, func(), error) { return none{}, func() {}, nil }

func (none) Wrap(h http.Handler) http.Handler                                { return h }
func (none) Get(*http.Request) (Session, error)                              { return Session{}, nil }
func (none) Change(http.ResponseWriter, *http.Request, func(*Session)) error { return nil }
func (none) Login(http.ResponseWriter, *http.Request, Session) error         { return nil }
func (none) Logout(http.ResponseWriter, *http.Request) error                 { return nil }

// plain is the best case of sessions on the server: one process, a map, no
// encoding, no expiry.
type plain struct {
	mu       sync.RWMutex
	sessions map[string]Session
}

func openMap(context.Context, Environment) (Sessions, func(), error) {
	return &plain{sessions: map[string]Session{}}, func() {}, nil
}

const plainName = "sid"

func (p *plain) Wrap(h http.Handler) http.Handler { return h }

func (p *plain) Get(r *http.Request) (Session, error) {
	c, err := r.Cookie(plainName)
	if err != nil {
		return Session{}, nil
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.sessions[c.Value], nil
}

func (p *plain) Change(w http.ResponseWriter, r *http.Request, change func(*Session)) error {
	c, err := r.Cookie(plainName)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		if s, ok := p.sessions[c.Value]; ok {
			s.Cart = slices.Clone(s.Cart) // other requests read it
			change(&s)
			p.sessions[c.Value] = s
			return nil
		}
	}
	var s Session
	change(&s)
	p.begin(w, s)
	return nil
}

// begin keeps a new session. The caller has the lock.
func (p *plain) begin(w http.ResponseWriter, s Session) {
	id := rand.Text()
	p.sessions[id] = s
	p.send(w, id, 0)
}

func (p *plain) send(w http.ResponseWriter, id string, age int) {
	http.SetCookie(w, &http.Cookie{Name: plainName, Value: id, Path: "/", HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode, MaxAge: age})
}

func (p *plain) Login(w http.ResponseWriter, r *http.Request, s Session) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget(r)
	s.Cart = slices.Clone(s.Cart) // each session has its own
	p.begin(w, s)
	return nil
}

func (p *plain) Logout(w http.ResponseWriter, r *http.Request) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget(r)
	p.send(w, "", -1)
	return nil
}

func (p *plain) forget(r *http.Request) {
	if c, err := r.Cookie(plainName); err == nil {
		delete(p.sessions, c.Value)
	}
}
