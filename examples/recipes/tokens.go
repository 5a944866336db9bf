package recipes

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"example.com/sealed"
)

// A Link is what a link in an e-mail holds: to set a new password, for instance.
type Link struct {
	User string `cbor:"1,keyasint"`
	// Stamp is the user's password hash's version, or when it was changed last, so that a
	// link works once: setting a password changes it.
	Stamp int64 `cbor:"2,keyasint"`
}

// NewLinks returns a manager of links. Its purpose keeps them from being opened as anything
// else that is sealed under the same keys.
func NewLinks(keys *sealed.Keyring) (*sealed.Manager[Link], error) {
	return sealed.New(keys, sealed.Config[Link]{Purpose: "reset password", Lifetime: 30 * time.Minute})
}

// NewLink returns the link's URL.
func NewLink(links *sealed.Manager[Link], site string, l Link) (string, error) {
	token, err := links.Seal(l)
	return site + "/reset?token=" + url.QueryEscape(token), err
}

var (
	errUsed  = errors.New("the link was used")
	errNonce = errors.New("the ID token is of another login")
)

// OpenLink returns whose link it is. stamp returns the user's present stamp.
func OpenLink(ctx context.Context, links *sealed.Manager[Link], token string, stamp func(user string) int64) (string, error) {
	l, _, err := links.Open(ctx, token)
	switch {
	case err != nil:
		return "", err
	case l.Stamp != stamp(l.User):
		return "", errUsed
	}
	return l.User, nil
}

// Bearer serves next to requests with a token of api in the header Authorization, for clients
// that are no browsers (RFC 6750, section 2.1). A page cannot make a browser send it, so it
// needs no defence against cross-site requests.
func Bearer(api *Sessions, next func(http.ResponseWriter, *http.Request, Session)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "Bearer") {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "A token is missing.", http.StatusUnauthorized)
			return
		}
		s, _, err := api.Open(r.Context(), token)
		switch {
		case errors.Is(err, sealed.ErrUnverified):
			http.Error(w, "Please try again in a moment.", http.StatusServiceUnavailable)
		case err != nil:
			w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
			http.Error(w, "The token is not valid.", http.StatusUnauthorized)
		default:
			next(w, r, s)
		}
	})
}
