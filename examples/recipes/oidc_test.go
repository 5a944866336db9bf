package recipes

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"
)

// A provider is an identity provider, as far as the code flow goes.
type provider struct {
	*httptest.Server
	key   *rsa.PrivateKey
	asked url.Values // of the last authorization request
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{key: key}
	mux := http.NewServeMux()
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	answer := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(v)
	}
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{
			"issuer": p.URL, "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/keys",
			"id_token_signing_alg_values_supported": []string{"RS256"},
		})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "1", Algorithm: "RS256", Use: "sig"}}})
	})
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.Sum256([]byte(r.FormValue("code_verifier")))
		if r.FormValue("code") != "the code" || base64.RawURLEncoding.EncodeToString(sum[:]) != p.asked.Get("code_challenge") {
			http.Error(w, `{"error":"invalid_grant"}`, http.StatusBadRequest)
			return
		}
		answer(w, map[string]any{"access_token": "x", "token_type": "Bearer", "id_token": p.idToken(t)})
	})
	return p
}

func (p *provider) idToken(t *testing.T) string {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: p.key, KeyID: "1"}}, nil)
	if err != nil {
		t.Error(err)
		return ""
	}
	claims, err := json.Marshal(map[string]any{
		"iss": p.URL, "aud": "shop", "sub": "alice", "nonce": p.asked.Get("nonce"),
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix(),
	})
	if err != nil {
		t.Error(err)
		return ""
	}
	signed, err := signer.Sign(claims)
	if err != nil {
		t.Error(err)
		return ""
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Error(err)
	}
	return token
}

// newLogin returns an application that logs in at the provider, and a visitor who has
// something in the cart.
func newLogin(t *testing.T, p *provider, formPost bool) (*OIDC, *visitor) {
	t.Helper()
	found, err := oidc.NewProvider(context.Background(), p.URL)
	if err != nil {
		t.Fatal(err)
	}
	m := newSessions(t, nil)
	flows, err := NewFlows(newKeys(t))
	if err != nil {
		t.Fatal(err)
	}
	o := &OIDC{Sessions: m, Flows: flows, FormPost: formPost, Verifier: found.Verifier(&oidc.Config{ClientID: "shop"})}
	mux := http.NewServeMux()
	mux.Handle("/auth/", o.Handler())
	mux.Handle("/cart", m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" {
			if err := m.Update(r.Context(), func(s *Session) { s.Cart = append(s.Cart, "tea") }); err != nil {
				t.Errorf("Update: %v", err)
			}
		}
		s, _ := m.Get(r.Context())
		w.Write([]byte(s.User + ": " + strings.Join(s.Cart, " ")))
	})))
	v := visit(t, mux)
	o.Provider = oauth2.Config{ClientID: "shop", Endpoint: found.Endpoint(), RedirectURL: v.url + "/auth/callback", Scopes: []string{oidc.ScopeOpenID}}
	v.want(http.StatusOK, "POST", "/cart", "")
	return o, v
}

// begin starts a login, and returns what the provider was asked.
func (v *visitor) begin(p *provider) {
	v.t.Helper()
	res, _ := v.do("GET", "/auth/start?next=/cart", "")
	u, err := url.Parse(res.Header.Get("Location"))
	if err != nil || !strings.HasPrefix(u.String(), p.URL) {
		v.t.Fatalf("the login goes to %v, %v", u, err)
	}
	p.asked = u.Query()
}

// withholdLax leaves the visitor the cookies that a browser sends with a cross-site POST.
func (v *visitor) withholdLax() (withheld []*http.Cookie) {
	for _, c := range v.cookies() {
		if c.Name == "__Host-session" {
			withheld = append(withheld, c)
			v.client.Jar.SetCookies(v.address(), []*http.Cookie{{Name: c.Name, Path: "/", Secure: true, MaxAge: -1}})
		}
	}
	return withheld
}

// By redirect and by form_post: the visitor is logged in, and the cart is still there.
func TestOIDC(t *testing.T) {
	for name, formPost := range map[string]bool{"redirect": false, "form_post": true} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t)
			_, v := newLogin(t, p, formPost)
			v.begin(p)
			answer := url.Values{"state": {p.asked.Get("state")}, "code": {"the code"}}.Encode()
			if formPost {
				if p.asked.Get("response_mode") != "form_post" {
					t.Error("the provider was not asked for form_post")
				}
				withheld := v.withholdLax()
				v.want(http.StatusSeeOther, "POST", "/auth/callback", answer, "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document")
				v.setCookies(withheld)
			} else {
				v.want(http.StatusSeeOther, "GET", "/auth/callback?"+answer, "")
			}
			if res, _ := v.do("GET", "/auth/done", ""); res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "/cart" {
				t.Errorf("done: status %d to %q", res.StatusCode, res.Header.Get("Location"))
			}
			if got := v.want(http.StatusOK, "GET", "/cart", ""); got != "alice: tea" {
				t.Errorf("after the login: %q", got)
			}
			v.want(http.StatusBadRequest, "GET", "/auth/callback?"+answer, "")
			v.want(http.StatusBadRequest, "GET", "/auth/done", "")
		})
	}
}

// What an attacker would try.
func TestOIDCRefuses(t *testing.T) {
	for what, spoil := range map[string]func(p *provider, answer url.Values){
		"another state": func(_ *provider, answer url.Values) { answer.Set("state", "x") },
		"no state":      func(_ *provider, answer url.Values) { answer.Del("state") },
		"another code":  func(_ *provider, answer url.Values) { answer.Set("code", "x") },
		"another nonce": func(p *provider, _ url.Values) { p.asked.Set("nonce", "x") },
	} {
		t.Run(what, func(t *testing.T) {
			p := newProvider(t)
			_, v := newLogin(t, p, false)
			v.begin(p)
			answer := url.Values{"state": {p.asked.Get("state")}, "code": {"the code"}}
			spoil(p, answer)
			if res, _ := v.do("GET", "/auth/callback?"+answer.Encode(), ""); res.StatusCode != http.StatusBadRequest && res.StatusCode != http.StatusUnauthorized {
				t.Errorf("status %d", res.StatusCode)
			}
			v.want(http.StatusBadRequest, "GET", "/auth/done", "")
			if got := v.want(http.StatusOK, "GET", "/cart", ""); got != ": tea" {
				t.Errorf("then: %q", got)
			}
		})
	}
	p := newProvider(t)
	_, victim := newLogin(t, p, false)
	victim.want(http.StatusBadRequest, "GET", "/auth/callback?state=&code=the+code", "")
}
