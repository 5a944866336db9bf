package sealed

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"
)

// This file is the route by which a browser registers a key and makes proofs (Device Bound
// Session Credentials, sections 8 and 9). The session identifier of the draft is a token
// with the key in it, so the server has nothing to keep.

const (
	registrationHeader = "Secure-Session-Registration"
	challengeHeader    = "Secure-Session-Challenge"
	responseHeader     = "Secure-Session-Response"
	identifierHeader   = "Sec-Secure-Session-Id"
)

// offer asks the browser to make a key and bind the session to it. It does so at the
// beginning; then not for as long as the browser may be about to answer; and from then on again, with each
// response that sets the cookie, or where sessions must be bound with each that has read it.
func (e *exchange[T]) offer() {
	d, s := e.device, &e.session
	if d != nil && e.offered != "" && !e.quiet {
		e.withdraw()
	}
	if d == nil || d.hold || e.quiet || e.action == deleteCookie || e.action == leaveCookie && d.requireAfter == 0 {
		return
	}
	if s.err != nil || s.record.bound() || s.subject == "" {
		return
	}
	now := time.Now().UnixMilli()
	if s.issued && !s.imported && now-s.record.created < challengeLifetime.Milliseconds() {
		return
	}
	e.setRegistration(s.record.id, forSession, now)
}

// setRegistration sets the header that has the browser register a key.
func (e *exchange[T]) setRegistration(id ID, kind challengeKind, now int64) {
	challenge, err := e.device.newChallenge(e.keys, id, kind, now)
	if err != nil {
		return // the ring has expired
	}
	value := `(ES256 RS256);path="` + e.device.path + `";challenge="` + challenge + `"`
	e.response.Header().Add(registrationHeader, value)
	e.offered = value
}

// withdraw takes the header back: it may be that of an earlier change. See publish.
func (e *exchange[T]) withdraw() {
	h := e.response.Header()
	h[registrationHeader] = slices.DeleteFunc(slices.Clone(h[registrationHeader]), func(v string) bool { return v == e.offered })
	if len(h[registrationHeader]) == 0 {
		delete(h, registrationHeader)
	}
	e.offered = ""
}

// routes reports whether a request is one of the browser's for the device's key.
func (d *device) routes(r *http.Request) bool {
	if d == nil || r.Method != http.MethodPost {
		return false
	}
	sent, _, _ := strings.Cut(r.RequestURI, "?")
	return r.URL.Path == d.path || sent == d.path
}

// An instructions is what the browser is told of its session (section 9.6 of the draft).
type instructions struct {
	Identifier  string       `json:"session_identifier,omitempty"`
	Refresh     string       `json:"refresh_url,omitempty"`
	Continue    *bool        `json:"continue,omitempty"`
	Scope       *scope       `json:"scope,omitempty"`
	Credentials []credential `json:"credentials,omitempty"`
	Initiators  []string     `json:"allowed_refresh_initiators,omitempty"`
}

type scope struct {
	Site bool `json:"include_site"`
}

type credential struct {
	Type       string `json:"type"`
	Name       string `json:"name"`
	Attributes string `json:"attributes"`
}

func (d *device) instruct(i *identifier) *instructions {
	cookie := d.cookieOf(i.id)
	return &instructions{
		Identifier: i.text, Refresh: d.path, Scope: &scope{}, Initiators: d.initiators,
		Credentials: []credential{{"cookie", cookie.name, strings.TrimPrefix(cookie.attributes, "; ")}},
	}
}

// stop ends the browser's session, for good.
func stop() *instructions { return &instructions{Continue: new(bool)} }

// A deviceRefusal is why the browser gets no proof, with the status that says what it
// does then: 403 to try again with the challenge that comes with it, other 4xx for good, 5xx to
// try again later.
type deviceRefusal struct {
	status int
	text   string
}

var (
	refuseBadToken   = &deviceRefusal{http.StatusBadRequest, "no signed token, or not one for this key"}
	refuseNoSession  = &deviceRefusal{http.StatusUnauthorized, "no session that can be bound"}
	refuseBound      = &deviceRefusal{http.StatusConflict, "the session is bound already"}
	refuseChallenge  = &deviceRefusal{http.StatusBadRequest, "the challenge is another's, or too old"}
	refuseIdentifier = &deviceRefusal{http.StatusBadRequest, "no such binding"}
	refuseStale      = &deviceRefusal{http.StatusForbidden, "sign the challenge"}
	refuseNow        = &deviceRefusal{http.StatusServiceUnavailable, "try again later"}
)

// answerDevice answers the browser: it registers a key, or refreshes a proof.
func (e *exchange[T]) answerDevice(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "same-origin") // section 5: it is not to be probed
	told, refused := e.judgeDevice(r)
	if refused != nil {
		http.Error(w, refused.text, refused.status)
		return
	}
	body, err := json.Marshal(told)
	if err != nil {
		panic(err) // it is made of text
	}
	h.Set("Content-Type", "application/json")
	_, _ = w.Write(body)
}

// judgeDevice says what the browser is told, or why nothing.
func (e *exchange[T]) judgeDevice(r *http.Request) (told *instructions, refused *deviceRefusal) {
	if e.begin(r.Context(), false) != nil {
		return nil, refuseNow
	}
	defer e.mu.Unlock()
	e.quiet = true
	token := headerString(r, responseHeader)
	if id := headerString(r, identifierHeader); id != "" {
		told, refused = e.refreshProof(r.Context(), id, token)
	} else {
		told, refused = e.register(r.Context(), token)
	}
	if e.bypassed {
		e.publish()
	}
	return told, refused
}

// headerString reads a header that the draft has as a string of a structured field (RFC
// 9651, section 3.3.3), and that Chromium sends without the quotes.
func headerString(r *http.Request, name string) string {
	values := r.Header[name]
	if len(values) != 1 {
		return ""
	}
	v := trimSpace(values[0])
	if rest, ok := strings.CutPrefix(v, `"`); ok {
		v, _, _ = strings.Cut(rest, `"`) // tokens and identifiers have nothing to escape
	}
	return v
}

// register binds the request's session to the key in a token, by a proof that names it. The
// session's cookie stays as it is, and is sealed with the binding by the next response that can: the visitor may be
// changing it at the same time. It keeps its ID and its deadlines.
func (e *exchange[T]) register(ctx context.Context, token string) (*instructions, *deviceRefusal) {
	d, s, now := e.device, &e.session, time.Now().UnixMilli()
	j, ok := parseJWT(token)
	switch {
	case isUnverified(s.err):
		return nil, refuseNow
	case s.err != nil, s.renewed, s.subject == "":
		return nil, refuseNoSession
	case !ok || j.key == nil || !j.verify(j.key):
		return nil, refuseBadToken
	}
	from, kind := s.record.id, forSession
	if s.record.bound() {
		from, kind = s.record.binding, forNewKey
	}
	made, err := d.openChallenge(ctx, j.challenge, from, kind, now)
	switch {
	case isUnverified(err):
		return nil, refuseNow
	case err != nil && kind == forNewKey:
		return nil, refuseBound
	case err != nil:
		return nil, refuseChallenge
	}
	i, err := d.newIdentifier(e.keys, j.key, from, kind == forSession, now)
	if err != nil || e.setProof(i, made, kind == forSession, now) != nil {
		return nil, refuseNow
	}
	e.tell(ctx, Event{Kind: EventBound, ID: s.record.id})
	return d.instruct(i), nil
}

// refreshProof sets the proof for a signature with the key of a binding. It does not need
// the session's cookie, which the browser leaves out where another site has caused the request, and
// does not write it: it may be changing at the same time.
func (e *exchange[T]) refreshProof(ctx context.Context, text, token string) (*instructions, *deviceRefusal) {
	d, now := e.device, time.Now().UnixMilli()
	i, err := d.openIdentifier(ctx, text, now)
	switch {
	case isUnverified(err), reasonOf(err) == ReasonUnknownKey && e.mayBeBound():
		return nil, refuseNow
	case errors.Is(err, ErrExpired), reasonOf(err) == ReasonUnknownKey, reasonOf(err) == ReasonRevokedKey:
		return stop(), nil
	case err != nil:
		return nil, refuseIdentifier
	}
	if e.policy.list != nil {
		var err error
		e.callList(func() { err = e.policy.checkList(ctx, Info{ID: i.id, Created: unixMilli(i.created)}) })
		if isRevoked(err) {
			return stop(), nil
		} else if err != nil {
			return nil, refuseNow
		}
	}
	if e.boundElsewhere(i) {
		return stop(), nil
	}
	if token == "" {
		return nil, e.challenge(i, now)
	}
	j, ok := parseJWT(token)
	if !ok || j.key != nil || !j.verify(i.public) {
		return nil, refuseBadToken
	}
	made, err := d.openChallenge(ctx, j.challenge, i.id, forProof, now)
	if isUnverified(err) {
		return nil, refuseNow
	} else if err != nil {
		return nil, e.challenge(i, now)
	}
	if e.setProof(i, made, false, now) != nil {
		return nil, refuseNow
	}
	if i.first && e.policy.list != nil {
		var ended error
		if e.callList(func() { ended = e.checkUnbound(ctx, i.from) }); ended == nil {
			e.endUnbound(ctx, i.from, unixMilli(i.created).Add(maxLifetime+maxSkew))
		}
	}
	e.renewKey(i, now)
	e.tell(ctx, Event{Kind: EventProven, ID: e.session.record.id})
	return d.instruct(i), nil
}

// setProof has the response set the proof of a binding, for a challenge that was made at that
// time: the device has signed it since.
func (e *exchange[T]) setProof(i *identifier, made int64, first bool, now int64) error {
	d := e.device
	p := proof{from: i.from, first: first}
	token, err := sealToken(&d.proof, e.keys, &record{
		id: i.id, created: made, expires: now - made + (d.lifetime + proofSlack).Milliseconds(), data: p.data(),
	}, now)
	if err != nil {
		return err
	}
	cookie := d.cookieOf(i.id)
	e.proofLine = cookie.line("", "", token, int(d.lifetime.Seconds()))
	return nil
}

// mayBeBound reports whether the request's session may be that of a binding which
// cannot be read now: it lacks a proof.
func (e *exchange[T]) mayBeBound() bool {
	return isUnproven(e.session.err) || isUnverified(e.session.err)
}

// boundElsewhere reports whether the request's session is known not to be that of a
// binding. A request without one says nothing.
func (e *exchange[T]) boundElsewhere(i *identifier) bool {
	s := &e.session
	switch {
	case s.err != nil && !isUnproven(s.err):
		return false
	case s.record.bound():
		return s.record.binding != i.id && s.record.binding != i.from
	}
	return s.record.id != i.from
}

// challenge has the browser sign.
func (e *exchange[T]) challenge(i *identifier, now int64) *deviceRefusal {
	text, err := e.device.newChallenge(e.keys, i.id, forProof, now)
	if err != nil {
		return refuseNow
	}
	e.response.Header().Set(challengeHeader, `"`+text+`";id="`+i.text+`"`)
	return refuseStale
}

// renewKey has the browser register another key when the identifier, which it keeps as it
// is, may be of no use before the session ends: it is sealed under a key that does not seal any more, or ends earlier.
func (e *exchange[T]) renewKey(i *identifier, now int64) {
	s := &e.session
	key, err := e.keys.sealingKey(i.key, now)
	if err != nil || e.device.hold || !s.record.bound() || s.err != nil && !isUnproven(s.err) {
		return
	}
	if key.key.id != i.key.key.id || s.record.created+s.lifetime() > i.created+i.expires {
		e.setRegistration(i.id, forNewKey, now)
	}
}
