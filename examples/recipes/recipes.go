// Package recipes has what applications do with sessions, to copy: each file is one
// recipe, and its test runs it.
package recipes

import (
	"time"

	"example.com/sealed"
)

// Session is that of all recipes. Take the fields that you need.
type Session struct {
	User     string    `cbor:"1,keyasint,omitempty"`
	Cart     []string  `cbor:"2,keyasint,omitempty"`
	Flash    string    `cbor:"3,keyasint,omitempty"`
	Remember bool      `cbor:"4,keyasint,omitempty"`
	Proved   time.Time `cbor:"5,keyasint,omitzero"` // when the visitor last gave the password
}

// Sessions is a manager of them.
type Sessions = sealed.Manager[Session]

func subject(s Session) string { return s.User }
