// Package contender has the ways to keep sessions that are compared, each through its
// own public API behind one interface, and the application that all of them serve.
package contender

import (
	"context"
	"encoding/gob"
	"errors"
	"net/http"
	"slices"
	"strings"
)

// Session is what every contender keeps for a visitor.
type Session struct {
	UserID int64  `cbor:"1,keyasint,omitempty"`
	Role   string `cbor:"2,keyasint,omitempty"`
	Theme  string `cbor:"3,keyasint,omitempty"`
	Cart   []Item `cbor:"4,keyasint,omitempty"`
	Notes  string `cbor:"5,keyasint,omitempty"` // to make it larger, for what depends on size
}

// Item is one line of the cart.
type Item struct {
	SKU string `cbor:"1,keyasint"`
	Qty int    `cbor:"2,keyasint"`
}

// User is the user ID of who is logged in.
const User = 1042

// Reference returns the session that all figures are measured with, and with notes of
// so many bytes.
func Reference(notes int) Session {
	return Session{
		UserID: User, Role: "user", Theme: "dark", Cart: []Item{{"mug", 1}, {"tee", 2}},
		Notes: strings.Repeat("0123456789abcdef", notes/16+1)[:notes],
	}
}

func init() { gob.Register(Session{}) } // for scs and gorilla/sessions

// Sessions is what the application needs of a contender.
type Sessions interface {
	Wrap(http.Handler) http.Handler

	// Get returns the visitor's session, or the zero one for a stranger. An error
	// means that nobody can tell now.
	Get(r *http.Request) (Session, error)

	// Change reads the session, changes it and keeps the result.
	Change(w http.ResponseWriter, r *http.Request, change func(*Session)) error

	// Login keeps s as a session that whoever had the visitor's cookie before does
	// not get.
	Login(w http.ResponseWriter, r *http.Request, s Session) error

	// Logout ends the visitor's session.
	Logout(w http.ResponseWriter, r *http.Request) error
}

// Prepared is a contender whose requests, in process, have cookies that no login sets.
type Prepared interface {
	Cookies() ([]*http.Cookie, error)
}

// Names of the contenders.
const (
	None         = "no sessions"
	Sealed       = "sealed"
	SealedMemory = "sealed, list in memory"
	SealedRedis  = "sealed, list on Redis"
	SealedStale  = "sealed, list on Redis, AcceptStale"
	Map          = "map and mutex"
	SCSMemory    = "scs, in memory"
	SCSCBOR      = "scs, in memory, CBOR"
	SCSRedis     = "scs, Redis"
	SCSPostgres  = "scs, PostgreSQL"
	Gorilla      = "gorilla CookieStore"

	NodeNone        = "Node, no sessions"
	ExpressMemory   = "express-session, in memory"
	ExpressRedis    = "express-session, Redis"
	ExpressPostgres = "express-session, PostgreSQL"
	CookieSession   = "cookie-session"
	IronSession     = "iron-session"
)

// Where a contender keeps what it knows of sessions, apart from cookies.
const (
	InProcess  = "process"
	OnRedis    = "Redis"
	OnPostgres = "PostgreSQL"
)

// A Contender is one way to keep sessions.
type Contender struct {
	Name  string
	Store string // InProcess and so on; "" if it keeps nothing

	// Node has its process be one of Node: see the folder node. Open is nil.
	Node bool

	// CopyDies is what its design says of a copied cookie after logout.
	CopyDies bool

	// Open starts it. The function that it returns ends it.
	Open func(context.Context, Environment) (Sessions, func(), error)
}

// Environment is where a contender runs.
type Environment struct {
	Redis    string // address
	Postgres string // URL
	Key      string // a key of sealed as text, so that a restart has the same one
	Cookies  int    // how many cookies a session may be split over; 0 for the default
}

// All are the contenders that are measured everywhere, in the order of the tables.
var All = []Contender{
	{Name: None, Open: openNone},
	{Name: Sealed, Open: openSealed},
	{Name: SealedMemory, Store: InProcess, CopyDies: true, Open: openSealedMemory},
	{Name: SealedRedis, Store: OnRedis, CopyDies: true, Open: openSealedRedis},
	{Name: Map, Store: InProcess, CopyDies: true, Open: openMap},
	{Name: SCSMemory, Store: InProcess, CopyDies: true, Open: openSCSMemory},
	{Name: SCSCBOR, Store: InProcess, CopyDies: true, Open: openSCSMemoryCBOR},
	{Name: SCSRedis, Store: OnRedis, CopyDies: true, Open: openSCSRedis},
	{Name: SCSPostgres, Store: OnPostgres, CopyDies: true, Open: openSCSPostgres},
	{Name: Gorilla, Open: openGorilla},
}

// OnNode are those of Node, the first of which keeps nothing: each is compared with that.
var OnNode = []Contender{
	{Name: NodeNone, Node: true},
	{Name: ExpressMemory, Store: InProcess, Node: true, CopyDies: true},
	{Name: ExpressRedis, Store: OnRedis, Node: true, CopyDies: true},
	{Name: ExpressPostgres, Store: OnPostgres, Node: true, CopyDies: true},
	{Name: CookieSession, Node: true},
	{Name: IronSession, Node: true},
}

// Limits are those that sealed is held against in process: what it cannot do without, and
// what device binding adds.
var Limits = []Contender{
	{Name: Steps, Open: openSteps},
	{Name: Line, Open: openLine},
	{Name: Unbound, Open: openBindable},
	{Name: Bound, Open: openBound},
}

// Stale is one more where stores fail: it prefers to take a session for valid that
// may have been logged out elsewhere.
var Stale = Contender{Name: SealedStale, Store: OnRedis, CopyDies: true, Open: openSealedStale}

// ErrUnknown is the error for a name that no contender has.
var ErrUnknown = errors.New("no such contender")

// Find returns the contender of a name.
func Find(name string) (Contender, error) {
	all := slices.Concat(All, []Contender{Stale}, OnNode, Limits)
	i := slices.IndexFunc(all, func(c Contender) bool { return c.Name == name })
	if i < 0 {
		return Contender{}, ErrUnknown
	}
	return all[i], nil
}

// Select returns the contenders of some names, in that order.
func Select(names ...string) []Contender {
	chosen := make([]Contender, len(names))
	for i, name := range names {
		var err error
		if chosen[i], err = Find(name); err != nil {
			panic(name) // they are constants
		}
	}
	return chosen
}
