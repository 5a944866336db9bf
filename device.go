package sealed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strings"
	"time"
)

// This file binds sessions to a key that cannot leave the visitor's device, and judges
// the proofs of it. device_route.go has the exchange by which a browser makes them.

// A DeviceBinding has browsers bind sessions to a key that cannot leave their device, by
// Device Bound Session Credentials (the W3C's editor's draft of February 2026): a copied cookie is
// then worth no more than the minutes for which the last proof holds. The draft may change,
// and this with it: it is experimental.
//
// When a session with a subject begins, the response asks the browser to make a key. A
// browser that knows how registers it by a POST to Path, which Manager.Handler answers; from then
// on the session is bound: it is [ErrUnproven] without a second cookie, the proof, which the browser
// gets, by the same route, for a signature. It does so by itself, before the request that needs it. A
// browser that does not know how stays as it is.
//
// The server keeps nothing: the key, the challenges and the proofs are sealed under the
// [Keyring], and instances need no more than that and the revocation list in common.
//
// Instances without it refuse bound sessions. So first deploy it everywhere with Hold, and
// then without.
type DeviceBinding struct {
	// Path is the route, as browsers see it. It lies below Cookie.Path, and nothing before the
	// handler may keep POST requests from it that other sites have caused: refreshing a proof for a link of
	// another site is one. Default "/device-binding".
	Path string

	// ProofLifetime is for how long a proof holds, and how long a copy of all cookies
	// works. Default 10 minutes, at least 5 and at most an hour: Chromium makes six signatures in nine
	// minutes for a site, and then none.
	ProofLifetime time.Duration

	// Initiators are the hosts whose links and frames may have the browser refresh a proof, such
	// as "example.com", "*.example.com" or "*", beside the origin's own. Default "*", none with
	// SameSite=Strict, for which requests of other sites carry no session. An empty list that is not nil is none.
	Initiators []string

	// Hold binds no further sessions. Those that are bound stay so.
	Hold bool

	// RequireAfter ends the use of sessions that were not bound by that time after they
	// began: they are [ErrUnproven]. It is for fleets whose browsers all can. Default never.
	RequireAfter time.Duration
}

const (
	defaultDevicePath    = "/device-binding"
	defaultProofLifetime = 10 * time.Minute
	minProofLifetime     = 5 * time.Minute
	maxProofLifetime     = time.Hour
	maxInitiators        = 32

	// challengeLifetime is for how long a browser may answer a challenge.
	challengeLifetime = time.Minute

	// proofSlack is how much longer a proof holds than the browser keeps its cookie: a
	// request that has left with it is to be served.
	proofSlack = 30 * time.Second

	// proofSuffix follows the cookie's name, and proofTag characters of the binding's ID follow
	// that: a browser that has registered twice refreshes each proof by itself.
	proofSuffix = "-proof-"
	proofTag    = 8
	maxProofs   = 8 // that are tried
)

// A device is a DeviceBinding that was checked.
type device struct {
	path         string
	lifetime     time.Duration
	initiators   []string
	hold         bool
	requireAfter time.Duration

	cookies    []cookieFormat // of proofs: today's and those of former names
	identifier sealer
	proof      sealer
	challenge  sealer
}

// The names in the associated data of a device's tokens, which no cookie can have.
const (
	identifierName = "\x01"
	proofName      = "\x02"
	challengeName  = "\x03"
)

// newDevice checks a DeviceBinding. It returns nil for nil.
func newDevice[T any](config *Config[T], cookies *cookieFormat, formers []formerCarrier, seal func(name, purpose string) sealer) (*device, error) {
	b := config.DeviceBinding
	if b == nil {
		return nil, nil
	}
	d := &device{
		path: cmp.Or(b.Path, defaultDevicePath), lifetime: cmp.Or(b.ProofLifetime, defaultProofLifetime),
		initiators: slices.Clone(b.Initiators), hold: b.Hold, requireAfter: b.RequireAfter,
		identifier: seal(identifierName, ""), proof: seal(proofName, ""), challenge: seal(challengeName, ""),
	}
	if b.Initiators == nil && cookies.sameSite != http.SameSiteStrictMode {
		d.initiators = []string{"*"}
	}
	for _, f := range append([]cookieFormat{*cookies}, renamedFormats(formers)...) {
		f.name += proofSuffix // and the tag: see proofCookie
		d.cookies = append(d.cookies, f)
	}
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("DeviceBinding: "+format, args...))
		}
	}
	check(config.Subject != nil, "it needs Subject: only somebody's sessions are bound")
	check(!config.Cookie.Insecure, "it needs Secure, which Cookie.Insecure omits")
	check(!config.Cookie.Partitioned, "browsers take no Partitioned cookie for it")
	check(config.Cookie.Domain == "", "it needs a cookie of one host, without Domain: no other host's requests would be proven")
	check(len(d.cookies[0].name)+proofTag <= 255, "Cookie.Name has no room for %q", proofSuffix)
	check(validPath(d.path) && cookies.covers(d.path), "the Path %.40q is not a path below Cookie.Path", d.path)
	check(d.lifetime >= minProofLifetime && d.lifetime <= maxProofLifetime, "the ProofLifetime %v is not between %v and %v", d.lifetime, minProofLifetime, maxProofLifetime)
	check(d.requireAfter >= 0, "RequireAfter %v is negative", d.requireAfter)
	check(d.requireAfter == 0 || !d.hold, "with Hold no session could be bound, which RequireAfter demands")
	check(len(d.initiators) <= maxInitiators, "more than %d Initiators", maxInitiators)
	for _, host := range d.initiators {
		check(validInitiator(host), "the Initiator %.40q is not a host", host)
	}
	return d, errors.Join(errs...)
}

// renamedFormats returns the cookies of former names.
func renamedFormats(formers []formerCarrier) (formats []cookieFormat) {
	for i := range formers {
		if formers[i].renamed {
			formats = append(formats, formers[i].cookies)
		}
	}
	return formats
}

// validPath reports whether a path can stand in a header as it is, and be compared with that of a
// request.
func validPath(path string) bool {
	return strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "//") && len(path) <= maxAttribute &&
		!strings.ContainsFunc(path, func(r rune) bool {
			return r <= ' ' || r >= 0x7f || strings.ContainsRune("\"\\?#%;", r)
		})
}

// validInitiator reports whether a pattern is one that the draft has: a host, after "*." or
// not, or "*".
func validInitiator(pattern string) bool {
	host := strings.TrimPrefix(pattern, "*.")
	return pattern == "*" || host != "" && len(host) <= 253 && !strings.ContainsFunc(host, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '.' && r != '-'
	})
}

// A bindingToken is what the three tokens of a device have in common. Its times are those
// of a record.
type bindingToken struct {
	id      ID // the binding's; of a challenge what it is for
	created int64
	expires int64
	key     *ringKey // that sealed it
}

// openToken opens a token of a device, and judges it by its times.
func openToken(ctx context.Context, s *sealer, text string, now int64, asked *bool) (t bindingToken, data []byte, err error) {
	r, key, err := s.open(ctx, nil, text, asked)
	if err != nil {
		return t, nil, err
	}
	t = bindingToken{r.id, r.created, r.expires, key}
	switch {
	case r.created-now > maxSkew.Milliseconds():
		return t, nil, rejectNotYetValid
	case now-r.created >= r.expires:
		return t, nil, rejectExpired
	}
	return t, r.data, nil
}

// A proof says that a device has signed a challenge.
type proof struct {
	bindingToken
	// from is what the session was before it was bound to this key: its ID, if it was not
	// bound at all, or else the binding before. A cookie of before, which the browser has until the next
	// response sets one, or again if a response was late, is put right by it: see bound.
	from ID
	// first says that it was made by the registration which bound the session.
	first bool
}

func (p *proof) end() int64 { return p.created + p.expires }

// data is element 5 of a proof's record.
func (p *proof) data() []byte {
	first := byte(0)
	if p.first {
		first = 1
	}
	return append(append([]byte{cborArray | 2, cborBytes | byte(len(p.from))}, p.from[:]...), first)
}

func (p *proof) parse(data []byte) bool {
	const size = 2 + len(p.from) + 1
	if len(data) != size || data[0] != cborArray|2 || data[size-1] > 1 {
		return false
	}
	p.first = data[size-1] == 1
	return cutID(data[1:size-1], &p.from)
}

// fits reports whether the proof is for a session: for its binding, or one that it is to
// have.
func (p *proof) fits(s *record) bool {
	if s.bound() {
		return p.id == s.binding || p.from == s.binding
	}
	return p.from == s.id
}

// betterThan reports whether the proof counts rather than other, if both fit a session: that of
// the key to which it is to be bound from now on, or else the later one.
func (p *proof) betterThan(other *proof, s *record) bool {
	if next := p.id != s.binding; next != (other.id != s.binding) {
		return next
	}
	return p.created > other.created
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

// cutID reads a byte string of 16, and nothing after it.
func cutID(b []byte, id *ID) bool {
	n, rest, ok := cutHead(b, cborBytes)
	return ok && n == uint64(len(id)) && len(rest) == copy(id[:], rest)
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

// offer asks the browser to make a key and bind the session to it. It does so at the
// beginning; then not for as long as the browser may be about to answer; and from then on again, with each
// response that sets the cookie, or where sessions must be bound with each that has read it.
func (e *exchange[T]) offer(now int64) {
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

// Prove has the browser prove once more, now, that it has the key of the request's
// session, if the last proof is older than maxAge: "step-up", before a payment for instance. It
// answers with 307 to the same address and false: the handler returns. The browser comes back
// with a fresh proof, and with the method and the body that it had. Otherwise it is true: the proof is young
// enough, or the session is not bound, or there is none, as Get says. After the headers were sent it is
// false for an old proof, too.
//
// maxAge is at least two minutes, as a browser may use a signature for one minute. Chromium
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
