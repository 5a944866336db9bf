package sealed

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strings"
	"time"
)

// This file judges the sessions of requests by the proofs that come with them.

// A proofCookie is a cookie of a request that may hold a proof.
type proofCookie struct {
	format     *cookieFormat
	tag, value string
}

// named is the format of a proof's cookie with a tag.
func named(f cookieFormat, tag string) cookieFormat {
	f.name += tag
	return f
}

// proofCookies yields the cookies of a request that may hold proofs, under today's name
// and former ones: at most maxProofs.
func (d *device) proofCookies(r *http.Request) iter.Seq[proofCookie] {
	return func(yield func(proofCookie) bool) {
		count := 0
		for i := range d.cookies {
			name := d.cookies[i].name
			for _, line := range r.Header["Cookie"] {
				for at := strings.Index(line, name); at >= 0; at = strings.Index(line, name) {
					before, rest := line[:at], line[at+len(name):]
					line = rest
					if len(rest) <= proofTag || rest[proofTag] != '=' || !isTag(rest[:proofTag]) || !beginsPair(before) {
						continue
					}
					value, _, _ := strings.Cut(rest[proofTag+1:], ";")
					if count++; count > maxProofs || !yield(proofCookie{&d.cookies[i], rest[:proofTag], trimSpace(value)}) {
						return
					}
				}
			}
		}
	}
}

// beginsPair reports whether a cookie's name follows what stands before it in its line.
func beginsPair(before string) bool {
	before = strings.TrimRight(before, " \t")
	return before == "" || strings.HasSuffix(before, ";")
}

// isTag reports whether s may be the tag of a binding.
func isTag(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return (r < '0' || r > '9') && (r < 'a' || r > 'f') })
}

// ownsProof reports whether a Set-Cookie line sets a proof.
func (d *device) ownsProof(line string) bool {
	name, _, _ := strings.Cut(line, "=")
	name = trimSpace(name)
	for i := range d.cookies {
		if tag, ok := strings.CutPrefix(name, d.cookies[i].name); ok && len(tag) == proofTag && isTag(tag) {
			return true
		}
	}
	return false
}

// cookieOf is the cookie for proofs of a binding.
func (d *device) cookieOf(binding ID) cookieFormat {
	return named(d.cookies[0], binding.String()[:proofTag])
}

// findProof returns the request's best proof for a session. The tokens are few.
func (d *device) findProof(ctx context.Context, r *http.Request, s *record, now int64, asked *bool) (best proof, found bool) {
	for c := range d.proofCookies(r) {
		t, data, err := openToken(ctx, &d.proof, c.value, now, asked)
		if err != nil {
			continue
		}
		p := proof{bindingToken: t}
		if p.parse(data) && p.fits(s) && (!found || p.betterThan(&best, s)) {
			best, found = p, true
		}
	}
	return best, found
}

// bound judges a session that is valid by what proofs the request has. A session that
// lacks its binding, and comes with a proof for it, gets it.
func (e *exchange[T]) bound(ctx context.Context, s *session[T], now int64, asked *bool) {
	d := e.device
	if d == nil || s.err != nil || !s.record.bound() && s.subject == "" {
		return
	}
	p, found := d.findProof(ctx, e.request, &s.record, now, asked)
	switch {
	case found:
		s.proven, s.provenUntil = p.created, p.end()
		s.arrived = p.first && e.policy.list != nil && e.checkUnbound(ctx, s.record.id) == nil
		if s.record.binding != p.id {
			s.record.binding, s.rebound = p.id, true
		}
	case s.record.bound():
		s.err = rejectUnproven.skipped(e.request)
	default:
		s.err = e.judgeUnbound(ctx, s, now)
	}
}

// judgeUnbound says why a session that is not bound is of no use, if there could be a
// binding: it was bound since, or it had to be.
func (e *exchange[T]) judgeUnbound(ctx context.Context, s *session[T], now int64) error {
	d := e.device
	if d == nil || s.record.bound() || s.subject == "" {
		return nil
	}
	if d.requireAfter > 0 && now-s.record.created >= d.requireAfter.Milliseconds() {
		return rejectUnbound
	}
	err := e.checkUnbound(ctx, s.record.id)
	if isRevoked(err) {
		return rejectUnboundCopy
	}
	return err
}

// unboundID is what stands in the revocation list for all copies of a session's cookie from
// before it was bound. Only sessions that are not bound are checked against it. No session has it
// for an ID: both are 128 random bits.
func unboundID(id ID) ID {
	for i := range id {
		id[i] ^= 0xff
	}
	return id
}

// checkUnbound asks the list, if there is one, whether copies of a session that are not
// bound have ended.
func (e *exchange[T]) checkUnbound(ctx context.Context, id ID) error {
	if e.policy.list == nil {
		return nil
	}
	return e.policy.checkList(ctx, Info{ID: unboundID(id)})
}

// endUnbound ends the copies of a session's cookie from before it was bound, once the
// browser is known to have the binding: it has sent the first proof, or refreshes it. Until then the
// response that bound the session may have been lost.
func (e *exchange[T]) endUnbound(ctx context.Context, id ID, until time.Time) {
	callOut(&e.calling, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeTimeout)
		defer cancel()
		_ = e.revoke(ctx, Revocation{ID: unboundID(id), Until: until}) // told
	})
}

// finishBinding ends the copies from before, for a session whose first proof has come.
func (e *exchange[T]) finishBinding(ctx context.Context) {
	if s := &e.session; s.err == nil && s.arrived && s.issued {
		e.endUnbound(ctx, s.record.id, e.end(&s.record))
	}
}

// skipped adds why the browser says that it sent no proof.
func (r *rejection) skipped(request *http.Request) error {
	reason, _, _ := strings.Cut(request.Header.Get("Secure-Session-Skipped"), ";")
	switch reason {
	case "unreachable", "server_error", "quota_exceeded":
		return &rejection{fmt.Errorf("%w: the browser skipped it: %s", r.err, reason), r.reason}
	}
	return r
}

// deviceLines returns the Set-Cookie lines for proofs.
func (e *exchange[T]) deviceLines() (lines []string) {
	d, st := e.device, e.state
	if d == nil {
		return nil
	}
	if st.proofLine != "" {
		return []string{st.proofLine}
	}
	// Without the cookie the browser makes a proof before its next request. Where there is no
	// session that would be for nothing, each time.
	if st.dropProof || isUnproven(st.session.err) || e.action == deleteCookie {
		for c := range d.proofCookies(e.request) {
			f := named(*c.format, c.tag)
			if line := f.deletion(); !slices.Contains(lines, line) {
				lines = append(lines, line)
			}
		}
	}
	return lines
}

// Prove has the browser prove once more, now, that it has the key of the request's
// session, if the last proof is older than maxAge: "step-up", before a payment for instance. It
// reports whether the handler may go on.
//
// It is true if the last proof is young enough, if the session is not bound, or if there is none, as Get says.
// Otherwise Prove has answered, and the handler returns: with 307 to the same address, to which the browser
// comes back with a fresh proof, and with the method and the body that it had. If the headers were
// sent already, it has written the text of [ErrUnproven] to the response instead.
//
// A maxAge below two minutes counts as two, as a browser may use a signature for one minute. Chromium
// makes six signatures in nine minutes for a site.
func (m *Manager[T]) Prove(w http.ResponseWriter, r *http.Request, maxAge time.Duration) bool {
	e, err := m.exchange(r.Context())
	if err != nil {
		return true
	}
	switch e.demandProof(r.Context(), max(maxAge, 2*challengeLifetime)) {
	case proofYoung:
		return true
	case proofDemanded:
		w.Header().Set("Location", sameAddress(e.request))
		w.WriteHeader(http.StatusTemporaryRedirect)
	case proofOutOfReach:
		http.Error(w, ErrUnproven.Error(), http.StatusUnauthorized)
	}
	return false
}

// A proofDemand is what became of demanding a young proof.
type proofDemand uint8

const (
	proofYoung      proofDemand = iota // or none is needed
	proofDemanded                      // the response deletes the proof
	proofOutOfReach                    // it is too old, and the response cannot delete it
)

// demandProof has the response delete the proof, if it is too old.
func (e *exchange[T]) demandProof(ctx context.Context, maxAge time.Duration) proofDemand {
	if e.begin(ctx, true) != nil {
		return proofYoung // Get says so, too
	}
	defer e.mu.Unlock()
	s := &e.session
	switch {
	case s.err != nil, !s.record.bound(), time.Now().UnixMilli()-s.proven <= maxAge.Milliseconds():
		return proofYoung
	case e.unchangeable() != nil:
		return proofOutOfReach
	}
	e.dropProof = true
	if e.bypassed {
		e.publish()
	}
	return proofDemanded
}

// sameAddress is a reference to the address of a request, as its client knows it. One
// that began with two slashes would be another host (RFC 3986, section 4.2).
func sameAddress(r *http.Request) string {
	address := r.RequestURI
	if !strings.HasPrefix(address, "/") {
		address = r.URL.RequestURI() // an absolute one, or of a request made in a test
	}
	if strings.HasPrefix(address, "//") || strings.HasPrefix(address, "/\\") {
		return "/." + address
	}
	return address
}
