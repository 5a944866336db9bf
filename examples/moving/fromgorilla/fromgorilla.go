// Package fromgorilla takes over the sessions of github.com/gorilla/sessions. Copy it, as
// you need it for some weeks only.
package fromgorilla

import (
	"errors"
	"io/fs"
	"net/http"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"

	"example.com/sealed"
)

// Import returns what to set [sealed.Config].Import to. name is that of the session, and
// data makes a session of its values.
//
// A [sessions.CookieStore] has nothing on the server that could be ended. A copy of an old cookie is
// refused after a logout here, but works wherever the old program still runs.
func Import[T any](old sessions.Store, name string, options *sessions.Options, data func(values map[any]any) T) sealed.Import[T] {
	// New, not Get: that would keep the session in the request.
	load := func(r *http.Request) (*sessions.Session, error) {
		s, err := old.New(r, name)
		decode, isCookie := errors.AsType[securecookie.Error](err)
		switch {
		case isCookie && decode.IsDecode(), errors.Is(err, fs.ErrNotExist):
			return nil, sealed.ErrNoSession
		case err != nil:
			return nil, err
		case s.IsNew:
			return nil, sealed.ErrNoSession
		}
		return s, nil
	}
	i := sealed.Import[T]{
		Cookie: sealed.Cookie{Name: name, Domain: options.Domain, Path: options.Path, Partitioned: options.Partitioned},
		Load: func(r *http.Request) (sealed.Imported[T], error) {
			s, err := load(r)
			if err != nil {
				return sealed.Imported[T]{}, err
			}
			return sealed.Imported[T]{Data: data(s.Values)}, nil // gorilla does not tell when the visitor logged in
		},
	}
	if _, stateless := old.(*sessions.CookieStore); !stateless {
		i.End = func(r *http.Request) error {
			s, err := load(r)
			if err == sealed.ErrNoSession {
				return nil
			}
			if err != nil {
				return err
			}
			s.Options.MaxAge = -1
			return old.Save(r, discard{}, s)
		}
	}
	return i
}

// discard is a writer for the cookie that Save deletes: sealed deletes it itself.
type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) WriteHeader(int)             {}
