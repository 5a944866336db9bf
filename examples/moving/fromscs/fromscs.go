// Package fromscs takes over the sessions of github.com/alexedwards/scs. Copy it, as you
// need it for some weeks only.
package fromscs

import (
	"context"
	"net/http"

	"github.com/alexedwards/scs/v2"

	"example.com/sealed"
)

// Import returns what to set [sealed.Config].Import to. data makes a session of what old has
// in a request's context, by old.GetString and its like.
func Import[T any](old *scs.SessionManager, data func(context.Context) T) sealed.Import[T] {
	load := func(r *http.Request) (context.Context, error) {
		c, err := r.Cookie(old.Cookie.Name)
		if err != nil {
			return nil, sealed.ErrNoSession
		}
		ctx, err := old.Load(r.Context(), c.Value)
		if err == nil && old.Token(ctx) == "" { // scs has made a new one
			err = sealed.ErrNoSession
		}
		return ctx, err
	}
	return sealed.Import[T]{
		Cookie: sealed.Cookie{Name: old.Cookie.Name, Domain: old.Cookie.Domain, Path: old.Cookie.Path, Partitioned: old.Cookie.Partitioned},
		Load: func(r *http.Request) (sealed.Imported[T], error) {
			ctx, err := load(r)
			if err != nil {
				return sealed.Imported[T]{}, err
			}
			expires := old.Deadline(ctx)
			return sealed.Imported[T]{Data: data(ctx), Created: expires.Add(-old.Lifetime), Expires: expires}, nil
		},
		End: func(r *http.Request) error {
			ctx, err := load(r)
			if err == sealed.ErrNoSession {
				return nil
			}
			if err != nil {
				return err
			}
			return old.Destroy(ctx)
		},
	}
}
