package app

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"example.com/sealed"
)

// session is what the shop knows of a visitor. All of it is in the cookie.
type session struct {
	User     string `cbor:"1,keyasint,omitempty" json:"user,omitempty"`
	Remember bool   `cbor:"2,keyasint,omitempty" json:"remember,omitempty"`
	Theme    string `cbor:"3,keyasint,omitempty" json:"theme,omitempty"`
	Cart     []item `cbor:"4,keyasint,omitempty" json:"cart,omitempty"`
	Flash    string `cbor:"5,keyasint,omitempty" json:"flash,omitempty"`
}

// item is one line of the cart.
type item struct {
	_   struct{} `cbor:",toarray"`
	SKU string   `json:"sku"`
	Qty int      `json:"qty"`
}

// How long sessions last. The terms are in the cookie's ciphertext, so that a
// copy that is kept longer does not open.
const (
	visitLife   = 24 * time.Hour
	visitIdle   = 2 * time.Hour
	LongestLife = 30 * 24 * time.Hour // with "remember me"
)

var errCartFull = errors.New("at most 99 of one thing")

const maxQty = 99

// add puts items into the cart.
func (s *session) add(items []item) error {
	for _, it := range items {
		i := slices.IndexFunc(s.Cart, func(have item) bool { return have.SKU == it.SKU })
		if i < 0 {
			s.Cart = append(s.Cart, it)
			continue
		}
		if s.Cart[i].Qty += it.Qty; s.Cart[i].Qty > maxQty {
			return errCartFull
		}
	}
	return nil
}

func (s *session) remove(sku string) {
	s.Cart = slices.DeleteFunc(s.Cart, func(it item) bool { return it.SKU == sku })
}

func newSessions(ring *sealed.Keyring, revocations sealed.RevocationList, insecure, bind bool, observe func(context.Context, sealed.Event)) (*sealed.Manager[session], error) {
	var binding *sealed.DeviceBinding
	if !insecure {
		binding = &sealed.DeviceBinding{ProofLifetime: 5 * time.Minute, Hold: !bind}
	}
	return sealed.New(ring, sealed.Config[session]{
		Cookie:      sealed.Cookie{Insecure: insecure},
		Lifetime:    visitLife,
		IdleTimeout: visitIdle,
		TermsFor: func(s session) sealed.Terms {
			if s.Remember {
				return sealed.Terms{Lifetime: LongestLife, Persistent: true}
			}
			return sealed.Terms{}
		},
		Subject:       func(s session) string { return s.User },
		Revocations:   revocations,
		DeviceBinding: binding,
		Observe:       observe,
	})
}

// A counter counts events, and logs those that somebody should look at.
type counter struct {
	log    *slog.Logger
	mu     sync.Mutex
	counts map[string]int
}

func (c *counter) observe(ctx context.Context, e sealed.Event) {
	name := string(e.Kind)
	if e.Reason != "" {
		name += ": " + string(e.Reason)
	}
	c.mu.Lock()
	c.counts[name]++
	c.mu.Unlock()
	switch {
	case e.Kind == sealed.EventRevocationFailed, e.Kind == sealed.EventLateChange:
		c.log.ErrorContext(ctx, "session", "event", e.Kind, "error", e.Err)
	case e.Reason == sealed.ReasonTampered, e.Reason == sealed.ReasonRevoked:
		c.log.WarnContext(ctx, "session", "event", e.Kind, "reason", e.Reason, "key", e.KeyID)
	}
}

type count struct {
	Name string
	N    int
}

func (c *counter) list() []count {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []count
	for _, name := range slices.Sorted(maps.Keys(c.counts)) {
		list = append(list, count{name, c.counts[name]})
	}
	return list
}
