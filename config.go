package sealed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Config configures a [Manager]. Its zero value is secure and ready to use: a
// host-only, HttpOnly, Secure cookie that ends with the browser and after a day.
//
// [New] copies it; the functions in it are called concurrently.
type Config[T any] struct {
	Cookie Cookie

	// Lifetime ends a session that long after its start or renewal, whatever
	// its use. Default 24 h, at most 400 days (RFC 6265bis, section 5.5).
	//
	// A session is judged by the shorter of two: the lifetime that it was given at
	// its start, and today's. So shortening Lifetime shortens the sessions that
	// exist. Lengthening it gives none of them more than they were given, but those
	// that a shorter one has ended in between are valid again.
	Lifetime time.Duration

	// IdleTimeout ends a session that has not been used for that long. Default
	// none. Use is recorded in steps of a quarter of it, so that most responses
	// need no cookie; a session may thus end up to a quarter early, or three quarters if all its
	// responses take longer than two seconds to start. It never ends late.
	IdleTimeout time.Duration

	// Persistent lets the cookie outlive the browser, by Max-Age. Default no:
	// the browser forgets it when it is closed.
	Persistent bool

	// TermsFor gives the terms of one session, in place of the three fields
	// above ("remember me"). It must be a pure function of the session, which
	// it must not change. A longer lifetime applies from the next renewal on, a
	// shorter one at once.
	TermsFor func(T) Terms

	// Subject says whose session it is, "" for nobody's. When it changes, at
	// login and logout, the session gets a new ID and new deadlines, against session fixation, and
	// the old ID is revoked if it had a subject. It must be a pure function of
	// the session, which it must not change.
	//
	// Security considerations: without it, call [Manager.Renew] at every login.
	Subject func(T) string

	// Purpose tells managers apart that share keys and a cookie name, in two
	// applications for instance: a token of one does not open with another. At
	// most 255 bytes. Seal and Open need one.
	Purpose string

	// Former lists other cookie names and purposes under which sessions are read too,
	// so that they can be renamed without logging anybody out: a session that comes
	// under one is the session, with its ID and deadlines, and the next response sets
	// today's cookie and deletes that of the former name. While some instances still have the
	// old configuration, give those the new name as a Former first. A Former is no more
	// needed when sessions that were sealed under it have ended. At most 4.
	Former []Former

	// Revocations is the list of sessions that were ended early. Default none.
	//
	// Security considerations: without it, a copy of a cookie works until it
	// expires, also after logout.
	Revocations RevocationList

	// RenewalGrace is for how long after a renewal for the same subject requests
	// with the old ID are served: those that the browser sent at the same time, on
	// every instance. They read the session as it was; Update and Renew are
	// [ErrRenewed], no such response sets a cookie, and Destroy ends the old ID at
	// once. A change of the subject, at login and logout, has no grace. Default
	// none, at most one minute. It needs Revocations.
	//
	// Security considerations: a copy of the old cookie works that much longer.
	RenewalGrace time.Duration

	// DeviceBinding binds sessions to a key of the visitor's device, so that a copied cookie
	// is worth minutes. It needs Subject, and a cookie that is neither Insecure nor Partitioned and has no
	// Domain; Revocations are recommended. Experimental. Default nil: off.
	DeviceBinding *DeviceBinding

	// Import takes over the sessions of another library. The zero Import does nothing.
	Import Import[T]

	// Migrate makes a T of data that another version of the program has written and
	// that does not fit T: a field has another type, or T has no field for it. [Decode]
	// says which type the data fits. With false it is read as without Migrate: what T
	// has no field for is carried over, another type is [ErrInvalid]. The cookie gets the
	// result with the next Update. It must be a pure function of the data.
	Migrate func(data []byte) (T, bool)

	// DeleteDead deletes a cookie that can never open again: expired for good,
	// revoked, sealed under a revoked key, or no token of this manager at all.
	// Default no: it costs nothing but its bytes. A cookie that another instance
	// may still open stays: one under an unknown key, of a newer version or a
	// newer session type, or one that cannot be verified now.
	DeleteDead bool

	// Observe is told of each [Event], within the request or the call of Seal, Open,
	// RevokeSubject or RevokeSession, so it should be quick. It is called concurrently, also for one request. It must not
	// call the manager with the same context: that is an error.
	Observe func(context.Context, Event)
}

// Terms are how long one session lasts. The zero Terms are those of the
// [Config]; if only Lifetime is zero, it alone is taken from there: Terms{Persistent: true} have the
// Config's Lifetime, and no idle timeout. With Terms that are not valid, reading a session is
// [ErrInvalid].
type Terms struct {
	Lifetime    time.Duration // from start or renewal
	IdleTimeout time.Duration // since last use; 0 is none
	Persistent  bool          // the cookie outlives the browser
}

// Cookie describes the session's cookie. It always has HttpOnly, so that
// scripts cannot read it.
type Cookie struct {
	// Name defaults to "__Host-session", or to "session" with Insecure. It is
	// sealed into the token: renaming the cookie ends all sessions, unless
	// [Config.Former] has the old name.
	//
	// Security considerations: browsers take a "__Host-" cookie from exactly
	// this host over HTTPS only, so that no sibling domain can plant one (RFC
	// 6265bis, section 4.1.3.2). With Domain or Path, which that prefix
	// forbids, "__Secure-" is the next best.
	Name string

	Domain string // default none: this host only

	// Path defaults to "/". Browsers send the cookie only with requests below it
	// (RFC 6265bis, section 5.1.4), so in a request outside it Update, without a
	// cookie, is an error: it would overwrite the visitor's session unseen. The
	// path is that of the request line or of the request's URL, so a proxy in
	// front must not strip the prefix.
	Path string

	// SameSite defaults to Lax. None needs Secure, and a defence against
	// cross-site requests such as [http.CrossOriginProtection]. In a request from
	// which browsers withhold the cookie for its site, and say so by Sec-Fetch-Site,
	// Update is [ErrCrossSite]: it would overwrite the visitor's session unseen.
	SameSite http.SameSite

	// Partitioned keeps a cookie per top-level site when embedded (CHIPS).
	Partitioned bool

	// MaxSize is the longest Set-Cookie line, in bytes, from 512 to 4093, which is
	// what the strictest browsers keep (RFC 6265bis, section 5.6). A session that
	// needs more is [ErrTooLarge]. Default 3072: nginx, as it comes, answers 502 if
	// all headers of a proxied response have more than 4 KiB, and pages have other
	// headers too. With MaxChunks, which passes no such proxy, the default is 4093.
	MaxSize int

	// MaxChunks is how many cookies one session may be split over, each of at most
	// MaxSize. Default 1, at most 16. More than one needs a proxy that lets it
	// through: for the response, nginx needs proxy_buffer_size of all of it; for
	// the request, nginx takes 8 KiB a header line, HAProxy 16 KiB and Apache 8 KiB.
	MaxChunks int

	// Insecure omits Secure, for development over plain HTTP where the browser
	// does not treat localhost as secure, as Safari.
	//
	// Security considerations: anyone on the network can take over sessions.
	Insecure bool
}

const (
	defaultName         = "__Host-session"
	defaultInsecureName = "session"
	defaultLifetime     = 24 * time.Hour
	maxLifetime         = 400 * 24 * time.Hour // RFC 6265bis, section 5.5
	maxGrace            = time.Minute
	maxPurpose          = 255 // bytes: FORMAT.md
	maxFormers          = 4
	maxAttribute        = 1024 // longer ones are ignored: RFC 6265bis, section 5.6
)

// terms returns the terms of sessions for which TermsFor says nothing else.
func (c *Config[T]) terms() Terms {
	return Terms{cmp.Or(c.Lifetime, defaultLifetime), c.IdleTimeout, c.Persistent}
}

func (t Terms) check() error {
	var errs []error
	switch {
	case t.Lifetime < time.Millisecond:
		errs = append(errs, fmt.Errorf("the Lifetime %v is not a positive number of milliseconds", t.Lifetime))
	case t.Lifetime > maxLifetime:
		errs = append(errs, fmt.Errorf("the Lifetime %v is longer than 400 days, which browsers cut", t.Lifetime))
	}
	switch {
	case t.IdleTimeout < 0 || t.IdleTimeout > 0 && t.IdleTimeout < time.Millisecond:
		errs = append(errs, fmt.Errorf("IdleTimeout %v is not a positive number of milliseconds", t.IdleTimeout))
	case t.IdleTimeout > t.Lifetime:
		errs = append(errs, fmt.Errorf("IdleTimeout %v is longer than the Lifetime %v", t.IdleTimeout, t.Lifetime))
	}
	return errors.Join(errs...)
}

// prefixErrors checks the promises of the name's prefix, which browsers match
// without regard to case (RFC 6265bis, section 5.7).
func (c Cookie) prefixErrors() (errs []error) {
	has := func(prefix string) bool {
		return len(c.Name) >= len(prefix) && strings.EqualFold(c.Name[:len(prefix)], prefix)
	}
	if has("__Host-") && c.Domain != "" {
		errs = append(errs, fmt.Errorf("Cookie.Domain %q contradicts the __Host- prefix of the name: browsers refuse it; choose a name with __Secure-", c.Domain))
	}
	if has("__Host-") && c.Path != "" && c.Path != "/" {
		errs = append(errs, fmt.Errorf("Cookie.Path %q contradicts the __Host- prefix of the name: browsers refuse it; choose a name with __Secure-", c.Path))
	}
	if c.Insecure && (has("__Host-") || has("__Secure-") || has("__Http-")) {
		errs = append(errs, fmt.Errorf("Cookie.Insecure contradicts the prefix of the name %q: browsers refuse it", c.Name))
	}
	return errs
}

// attributes returns what follows name and value in a Set-Cookie line. What
// net/http would leave out or change in silence is an error.
func (c Cookie) attributes() (string, error) {
	const value = "x"
	cookie := http.Cookie{
		Name: c.Name, Value: value, Path: c.Path, Domain: c.Domain, SameSite: c.SameSite,
		HttpOnly: true, Secure: !c.Insecure, Partitioned: c.Partitioned && !c.Insecure,
	}
	var errs []error
	if err := cookie.Valid(); err != nil {
		errs = append(errs, fmt.Errorf("Cookie: %s (Name %q, Path %q, Domain %q)", strings.TrimPrefix(err.Error(), "http: "), c.Name, c.Path, c.Domain))
	}
	if i := strings.LastIndexByte(c.Name, '.'); i >= 0 {
		if _, chunk := chunkIndex(c.Name[i+1:]); chunk {
			errs = append(errs, fmt.Errorf("Cookie.Name %q ends like the further parts of a split cookie", c.Name))
		}
	}
	if len(c.Name) > 255 {
		errs = append(errs, fmt.Errorf("Cookie.Name has %d bytes, more than 255", len(c.Name)))
	}
	if !strings.HasPrefix(c.Path, "/") || len(c.Path) > maxAttribute {
		errs = append(errs, fmt.Errorf("Cookie.Path %.40q must start with / and have at most %d bytes", c.Path, maxAttribute))
	}
	if len(errs) > 0 {
		return "", errors.Join(errs...) // String would log what it leaves out
	}
	return strings.TrimPrefix(cookie.String(), c.Name+"="+value), nil
}
