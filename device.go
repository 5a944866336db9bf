package sealed

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// This file is what an application sets of device binding, checked. device_token.go has the
// tokens of it, device_proof.go judges sessions by them, and device_route.go is the exchange with the browser.

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
	// Path is the route, as browsers see it. Manager.Handler answers every POST to it, and no handler of
	// yours is reached by one. It lies below Cookie.Path. Cross-origin protection in front of the handler must
	// let it pass: the browser refreshes a proof also when a link of another site leads here. Default "/device-binding".
	Path string

	// ProofLifetime is for how long the browser keeps a proof. A copy of all cookies works as long,
	// and 30 seconds more. Default 10 minutes, at least 5 and at most an hour: Chromium makes six signatures in nine
	// minutes for a site, and then none.
	ProofLifetime time.Duration

	// Initiators are the hosts whose links and frames may have the browser refresh a proof, such
	// as "example.com", "*.example.com" or "*", beside the origin's own. Default "*", none with
	// SameSite=Strict, for which requests of other sites carry no session. An empty list that is not nil is none.
	Initiators []string

	// Hold binds no further sessions. Those that are bound stay so.
	Hold bool

	// RequireAfter ends the use of sessions that were not bound by that time after they
	// began or were renewed: they are [ErrUnproven]. It is for fleets whose browsers all can. Default never.
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
