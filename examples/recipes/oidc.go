package recipes

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"net/http"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"example.com/sealed"
)

// A Flow is a login that is under way at an identity provider. It has a cookie of its own: that
// must come along when the provider posts a form (response_mode=form_post), for which the
// session's cookie, SameSite=Lax, stays at home.
type Flow struct {
	State    string `cbor:"1,keyasint,omitempty"`
	Nonce    string `cbor:"2,keyasint,omitempty"`
	Verifier string `cbor:"3,keyasint,omitempty"` // PKCE: RFC 7636
	Next     string `cbor:"4,keyasint,omitempty"`
	User     string `cbor:"5,keyasint,omitempty"` // who it was, once the provider has said so
}

// OIDC logs in by OpenID Connect.
type OIDC struct {
	Sessions *Sessions
	Flows    *sealed.Manager[Flow]
	Provider oauth2.Config
	Verifier *oidc.IDTokenVerifier
	FormPost bool // ask the provider to post a form
}

// NewFlows returns the manager of flows.
func NewFlows(keys *sealed.Keyring) (*sealed.Manager[Flow], error) {
	return sealed.New(keys, sealed.Config[Flow]{
		Cookie:   sealed.Cookie{Name: "__Host-login", SameSite: http.SameSiteNoneMode}, // the state is the defence
		Purpose:  "oidc",
		Lifetime: 10 * time.Minute,
	})
}

// Handler returns the routes: start, callback and done, below /auth/.
func (o *OIDC) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /auth/start", o.start)
	mux.HandleFunc("GET /auth/callback", o.callback)
	mux.HandleFunc("POST /auth/callback", o.callback)
	mux.HandleFunc("GET /auth/done", o.done)
	return o.Flows.Handler(o.Sessions.Handler(mux))
}

func (o *OIDC) start(w http.ResponseWriter, r *http.Request) {
	flow := Flow{State: rand.Text(), Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier(), Next: SafeNext(r.FormValue("next"))}
	if err := o.Flows.Update(r.Context(), func(f *Flow) { *f = flow }); err != nil {
		http.Error(w, "Please try again in a moment.", http.StatusServiceUnavailable)
		return
	}
	options := []oauth2.AuthCodeOption{oidc.Nonce(flow.Nonce), oauth2.S256ChallengeOption(flow.Verifier)}
	if o.FormPost {
		options = append(options, oauth2.SetAuthURLParam("response_mode", "form_post"))
	}
	http.Redirect(w, r, o.Provider.AuthCodeURL(flow.State, options...), http.StatusSeeOther)
}

// callback is where the provider sends the browser. It does not touch the visitor's session,
// whose cookie may not have come along: that is for done, where it has.
func (o *OIDC) callback(w http.ResponseWriter, r *http.Request) {
	flow, err := o.Flows.Get(r.Context())
	if err != nil || flow.State == "" || subtle.ConstantTimeCompare([]byte(flow.State), []byte(r.FormValue("state"))) != 1 {
		http.Error(w, "This login was not begun here. Start again.", http.StatusBadRequest)
		return
	}
	user, err := o.user(r.Context(), &flow, r.FormValue("code"))
	if err != nil {
		http.Error(w, "The identity provider did not log you in.", http.StatusUnauthorized)
		return
	}
	// Without state, verifier and nonce the flow cannot be used again.
	if err := o.Flows.Update(r.Context(), func(f *Flow) { *f = Flow{User: user, Next: flow.Next} }); err != nil {
		http.Error(w, "Please try again in a moment.", http.StatusServiceUnavailable)
		return
	}
	http.Redirect(w, r, "/auth/done", http.StatusSeeOther)
}

// user exchanges the code for an ID token, and says whose it is.
func (o *OIDC) user(ctx context.Context, flow *Flow, code string) (string, error) {
	token, err := o.Provider.Exchange(ctx, code, oauth2.VerifierOption(flow.Verifier))
	if err != nil {
		return "", err
	}
	raw, _ := token.Extra("id_token").(string)
	id, err := o.Verifier.Verify(ctx, raw)
	if err != nil {
		return "", err
	}
	if subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(flow.Nonce)) != 1 {
		return "", errNonce
	}
	return id.Subject, nil
}

// done logs in: here the session's cookie has come along, with the cart that is in it.
func (o *OIDC) done(w http.ResponseWriter, r *http.Request) {
	flow, err := o.Flows.Get(r.Context())
	if err != nil || flow.User == "" {
		http.Error(w, "This login was not begun here. Start again.", http.StatusBadRequest)
		return
	}
	err = o.Sessions.Update(r.Context(), func(s *Session) { s.User = flow.User })
	if err == nil {
		err = o.Flows.Destroy(r.Context())
	}
	if err != nil {
		http.Error(w, "Please try again in a moment.", http.StatusServiceUnavailable)
		return
	}
	http.Redirect(w, r, SafeNext(flow.Next), http.StatusSeeOther)
}
