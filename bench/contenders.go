package bench

import (
	"context"
	"crypto/rand"
	"encoding/gob"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/alexedwards/scs/goredisstore"
	"github.com/alexedwards/scs/pgxstore"
	"github.com/alexedwards/scs/v2"
	"github.com/gorilla/sessions"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"example.com/sealed"
	"example.com/sealed/redisstore"
	"example.com/sealed/revoke"
)

// Session is what every contender keeps for a visitor.
type Session struct {
	UserID int64  `cbor:"1,keyasint,omitempty"`
	Role   string `cbor:"2,keyasint,omitempty"`
	Theme  string `cbor:"3,keyasint,omitempty"`
	Cart   []Item `cbor:"4,keyasint,omitempty"`
}

// Item is one line of the cart.
type Item struct {
	SKU string `cbor:"1,keyasint"`
	Qty int    `cbor:"2,keyasint"`
}

func reference() Session {
	return Session{UserID: 1042, Role: "user", Theme: "dark", Cart: []Item{{"mug", 1}, {"tee", 2}}}
}

func init() { gob.Register(Session{}) } // for scs and gorilla/sessions

// Sessions is what the handlers need of a contender, whose own public API does it.
type Sessions interface {
	Wrap(http.Handler) http.Handler
	Get(r *http.Request) (Session, bool)
	Set(w http.ResponseWriter, r *http.Request, s Session) error   // also a login
	Login(w http.ResponseWriter, r *http.Request, s Session) error // with a new ID or token
	Logout(w http.ResponseWriter, r *http.Request) error
}

// Promise is what a contender's design says of a cookie that was copied.
type Promise struct {
	CopyDiesAtLogout bool // a copy is refused after logout
	NoSession        bool // it keeps nothing at all: the zero line
}

// A Contender is one way to keep sessions.
type Contender struct {
	Name string
	Promise
	Open func(ctx context.Context, s Servers) (Sessions, func(), error)
}

// Servers are the stores that contenders use.
type Servers struct {
	Redis    string // address
	Postgres string // URL
}

// Contenders are all that are measured.
var Contenders = []Contender{
	{"no sessions", Promise{NoSession: true}, func(context.Context, Servers) (Sessions, func(), error) { return none{}, func() {}, nil }},
	{"sealed", Promise{}, func(context.Context, Servers) (Sessions, func(), error) { return openSealed(nil) }},
	{"sealed, list in memory", Promise{CopyDiesAtLogout: true}, func(context.Context, Servers) (Sessions, func(), error) {
		return openSealed(revoke.NewList())
	}},
	{"sealed, list on Redis", Promise{CopyDiesAtLogout: true}, openSealedRedis},
	{"map and mutex", Promise{CopyDiesAtLogout: true}, func(context.Context, Servers) (Sessions, func(), error) {
		return &plain{sessions: map[string]Session{}}, func() {}, nil
	}},
	{"scs, in memory", Promise{CopyDiesAtLogout: true}, func(context.Context, Servers) (Sessions, func(), error) {
		return &scsSessions{newSCS()}, func() {}, nil
	}},
	{"scs, Redis", Promise{CopyDiesAtLogout: true}, openSCSRedis},
	{"scs, PostgreSQL", Promise{CopyDiesAtLogout: true}, openSCSPostgres},
	{"gorilla CookieStore", Promise{}, func(context.Context, Servers) (Sessions, func(), error) { return openGorilla() }},
}

// none is the zero line: handlers without sessions.
type none struct{}

func (none) Wrap(h http.Handler) http.Handler                              { return h }
func (none) Get(*http.Request) (Session, bool)                             { return Session{}, false }
func (none) Set(http.ResponseWriter, *http.Request, Session) error         { return nil }
func (none) Login(w http.ResponseWriter, r *http.Request, _ Session) error { return nil }
func (none) Logout(w http.ResponseWriter, r *http.Request) error           { return nil }

// sealedSessions is this library.
type sealedSessions struct{ m *sealed.Manager[Session] }

func openSealed(list sealed.RevocationList) (Sessions, func(), error) {
	keys, err := sealed.NewKeyring(sealed.GenerateKey())
	if err != nil {
		return nil, nil, err
	}
	m, err := sealed.New(keys, sealed.Config[Session]{Revocations: list})
	return sealedSessions{m}, func() {}, err
}

func openSealedRedis(ctx context.Context, s Servers) (Sessions, func(), error) {
	client := redis.NewClient(&redis.Options{Addr: s.Redis})
	store, err := redisstore.New(client, redisstore.Config{Prefix: "bench-" + rand.Text()})
	if err != nil {
		return nil, nil, err
	}
	list, err := revoke.Follow(store, revoke.Policy{})
	if err != nil {
		return nil, nil, err
	}
	if err := list.Ready(ctx); err != nil {
		return nil, nil, err
	}
	x, _, err := openSealed(list)
	return x, func() { list.Close(); client.Close() }, err
}

func (x sealedSessions) Wrap(h http.Handler) http.Handler { return x.m.Handler(h) }

func (x sealedSessions) Get(r *http.Request) (Session, bool) {
	s, err := x.m.Get(r.Context())
	return s, err == nil
}

func (x sealedSessions) Set(_ http.ResponseWriter, r *http.Request, s Session) error {
	return x.m.Update(r.Context(), func(v *Session) { *v = s })
}

func (x sealedSessions) Login(w http.ResponseWriter, r *http.Request, s Session) error {
	if err := x.Set(w, r, s); err != nil {
		return err
	}
	return x.m.Renew(r.Context())
}

func (x sealedSessions) Logout(_ http.ResponseWriter, r *http.Request) error {
	return x.m.Destroy(r.Context())
}

// plain is the best case of sessions on the server: one process, a map, no
// encoding, no expiry.
type plain struct {
	mu       sync.RWMutex
	sessions map[string]Session
}

func (p *plain) Wrap(h http.Handler) http.Handler { return h }

func (p *plain) Get(r *http.Request) (Session, bool) {
	c, err := r.Cookie("sid")
	if err != nil {
		return Session{}, false
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	s, ok := p.sessions[c.Value]
	return s, ok
}

func (p *plain) Set(w http.ResponseWriter, r *http.Request, s Session) error {
	id := rand.Text()
	if c, err := r.Cookie("sid"); err == nil {
		id = c.Value
	} else {
		p.send(w, id, 0)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sessions[id] = s
	return nil
}

func (p *plain) send(w http.ResponseWriter, id string, age int) {
	http.SetCookie(w, &http.Cookie{Name: "sid", Value: id, Path: "/", HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode, MaxAge: age})
}

func (p *plain) Login(w http.ResponseWriter, r *http.Request, s Session) error {
	id := rand.Text()
	p.send(w, id, 0)
	p.mu.Lock()
	defer p.mu.Unlock()
	if c, err := r.Cookie("sid"); err == nil {
		delete(p.sessions, c.Value)
	}
	p.sessions[id] = s
	return nil
}

func (p *plain) Logout(w http.ResponseWriter, r *http.Request) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c, err := r.Cookie("sid"); err == nil {
		delete(p.sessions, c.Value)
	}
	p.send(w, "", -1)
	return nil
}

// scsSessions is github.com/alexedwards/scs.
type scsSessions struct{ m *scs.SessionManager }

func newSCS() *scs.SessionManager {
	m := scs.New() // with its store in memory
	m.Cookie.Secure = true
	return m
}

func openSCSRedis(_ context.Context, s Servers) (Sessions, func(), error) {
	client := redis.NewClient(&redis.Options{Addr: s.Redis})
	m := newSCS()
	m.Store = goredisstore.New(client)
	return &scsSessions{m}, func() { client.Close() }, nil
}

func openSCSPostgres(ctx context.Context, s Servers) (Sessions, func(), error) {
	pool, err := pgxpool.New(ctx, s.Postgres)
	if err != nil {
		return nil, nil, err
	}
	_, err = pool.Exec(ctx, `CREATE TABLE IF NOT EXISTS sessions (token text PRIMARY KEY, data bytea NOT NULL, expiry timestamptz NOT NULL);
		CREATE INDEX IF NOT EXISTS sessions_expiry_idx ON sessions (expiry)`) // as its documentation has it
	if err != nil {
		return nil, nil, err
	}
	m := newSCS()
	store := pgxstore.NewWithCleanupInterval(pool, 0) // whose StopCleanup races with its start
	m.Store = store
	return &scsSessions{m}, pool.Close, nil
}

func (x *scsSessions) Wrap(h http.Handler) http.Handler { return x.m.LoadAndSave(h) }

func (x *scsSessions) Get(r *http.Request) (Session, bool) {
	s, ok := x.m.Get(r.Context(), "session").(Session)
	return s, ok
}

func (x *scsSessions) Set(_ http.ResponseWriter, r *http.Request, s Session) error {
	x.m.Put(r.Context(), "session", s)
	return nil
}

func (x *scsSessions) Login(w http.ResponseWriter, r *http.Request, s Session) error {
	if err := x.m.RenewToken(r.Context()); err != nil {
		return err
	}
	return x.Set(w, r, s)
}

func (x *scsSessions) Logout(_ http.ResponseWriter, r *http.Request) error {
	return x.m.Destroy(r.Context())
}

// gorilla is github.com/gorilla/sessions with its encrypted cookies.
type gorilla struct{ store *sessions.CookieStore }

func openGorilla() (Sessions, func(), error) {
	hash, block := make([]byte, 64), make([]byte, 32)
	rand.Read(hash)
	rand.Read(block)
	g := gorilla{sessions.NewCookieStore(hash, block)}
	g.store.Options = &sessions.Options{Path: "/", MaxAge: int(24 * time.Hour / time.Second), Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	return g, func() {}, nil
}

func (g gorilla) Wrap(h http.Handler) http.Handler { return h }

func (g gorilla) Get(r *http.Request) (Session, bool) {
	x, err := g.store.Get(r, "session")
	if err != nil {
		return Session{}, false
	}
	s, ok := x.Values["session"].(Session)
	return s, ok
}

func (g gorilla) Set(w http.ResponseWriter, r *http.Request, s Session) error {
	x, err := g.store.Get(r, "session")
	if err != nil && x == nil {
		return fmt.Errorf("gorilla: %w", err)
	}
	x.Values["session"] = s
	return x.Save(r, w)
}

func (g gorilla) Login(w http.ResponseWriter, r *http.Request, s Session) error {
	return g.Set(w, r, s)
}

func (g gorilla) Logout(w http.ResponseWriter, r *http.Request) error {
	x, err := g.store.Get(r, "session")
	if err != nil && x == nil {
		return fmt.Errorf("gorilla: %w", err)
	}
	x.Options = &sessions.Options{Path: "/", MaxAge: -1}
	clear(x.Values)
	return x.Save(r, w)
}
