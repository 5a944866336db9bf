// Package shop is what the programs of all routers have in common: the session, and what
// its handlers do with it.
package shop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"example.com/sealed"
	"example.com/sealed/revoke"
)

// Session is what the programs know of a visitor.
type Session struct {
	User string   `cbor:"1,keyasint,omitempty"`
	Cart []string `cbor:"2,keyasint,omitempty"`
}

// Sessions is the manager of the programs.
type Sessions = sealed.Manager[Session]

// New returns a manager with a key of its own, and a list that ends sessions at logout.
func New() (*Sessions, error) {
	keys, err := sealed.NewKeyring(sealed.GenerateKey())
	if err != nil {
		return nil, err
	}
	return sealed.New(keys, sealed.Config[Session]{
		Subject:     func(s Session) string { return s.User },
		Revocations: revoke.NewList(),
	})
}

// Login makes user the session's.
func Login(ctx context.Context, m *Sessions, user string) error {
	return m.Update(ctx, func(s *Session) { s.User = user })
}

// Add puts an item into the cart.
func Add(ctx context.Context, m *Sessions, item string) error {
	return m.Update(ctx, func(s *Session) { s.Cart = append(s.Cart, item) })
}

// Cart says whose cart it is, and what is in it.
func Cart(ctx context.Context, m *Sessions) (string, error) {
	s, err := m.Get(ctx)
	return fmt.Sprintf("%s: %s", s.User, strings.Join(s.Cart, " ")), err
}

// Status is the status to answer an error of the manager with.
func Status(err error) int {
	switch {
	case err == nil:
		return http.StatusOK
	case errors.Is(err, sealed.ErrUnverified):
		return http.StatusServiceUnavailable
	case errors.Is(err, sealed.ErrTooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, sealed.ErrNoSession), errors.Is(err, sealed.ErrInvalid), errors.Is(err, sealed.ErrExpired), errors.Is(err, sealed.ErrRevoked):
		return http.StatusUnauthorized
	}
	return http.StatusInternalServerError
}

// Events writes two server-sent events, and sends each at once. It judges the session
// before each, and ends with it. An error means that nothing was written.
func Events(ctx context.Context, m *Sessions, w io.Writer, flush func() error) error {
	s, err := m.Get(ctx)
	if err != nil {
		return err
	}
	for n := range 2 {
		if m.Verify(ctx) != nil {
			break // the client connects again, and hears why
		}
		fmt.Fprintf(w, "data: %s %d\n\n", s.User, n)
		if flush() != nil {
			break
		}
	}
	return nil
}
