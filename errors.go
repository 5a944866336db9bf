package sealed

import (
	"errors"
	"fmt"
)

// Why there is no session, or no change. Test for them with [errors.Is]; the
// error itself says more.
var (
	// ErrNoSession: the request has no session cookie, or Destroy was called in it.
	ErrNoSession = errors.New("sealed: no session")
	// ErrInvalid: no key opens the token, or its data does not fit the type.
	ErrInvalid = errors.New("sealed: invalid token")
	// ErrExpired: the session's lifetime or idle timeout has passed.
	ErrExpired = errors.New("sealed: session expired")
	// ErrRevoked: the session was ended, by logout for instance.
	ErrRevoked = errors.New("sealed: session revoked")
	// ErrRenewed: the session goes on under a new ID, in a cookie that the client
	// has got, or is about to get. For [Config.RenewalGrace] the old one can still
	// be read, but not changed: answer 409, and the client's next try has the new one.
	ErrRenewed = errors.New("sealed: session renewed")
	// ErrUnverified: the revocation list cannot tell whether the session was
	// ended, the keyring has expired, or [Import].Load failed. Answer 503 and try later; the cookie
	// stays as it is.
	ErrUnverified = errors.New("sealed: session cannot be verified")
	// ErrNoHandler: the context does not come from [Manager.Handler].
	ErrNoHandler = errors.New("sealed: the request did not pass through Manager.Handler")
	// ErrCommitted: the response's headers were sent already.
	ErrCommitted = errors.New("sealed: the response's headers were sent")
	// ErrCrossSite: the request comes from another site, and the browser withholds the
	// session's cookie from it (RFC 6265bis, section 5.8.3). A session begun here would
	// overwrite the visitor's. Answer with 303 to a page of yours: that request has the
	// cookie, unless it is SameSite=Strict, which needs a click in between.
	ErrCrossSite = errors.New("sealed: cross-site request, from which the browser withholds the session's cookie")
	// ErrUnproven: the session is bound to a key of its device (see
	// [Config.DeviceBinding]), and the request has no proof of it that still holds. A thief who has
	// copied the cookie gets this; so does a visitor whose browser could not make one. The cookie
	// stays. Answer 401 with a page that offers to log in: an Update whose result has a subject begins a session
	// in its place.
	ErrUnproven = errors.New("sealed: session not proven by its device")
	// ErrTooLarge: the session does not fit into its cookie, or its token has over 64 KiB.
	ErrTooLarge = errors.New("sealed: session too large")
)

// A Reason says why a token was rejected, in a constant word or two, fit for the
// label of a counter.
type Reason string

// The reasons, each with the error that Get returns for it.
const (
	ReasonMalformed   Reason = "malformed"     // not a token of this version, or too long (ErrInvalid)
	ReasonUnknownKey  Reason = "unknown key"   // no key of the ring has its key's ID (ErrInvalid)
	ReasonRevokedKey  Reason = "revoked key"   // its key was revoked (ErrInvalid)
	ReasonTampered    Reason = "tampered"      // it does not authenticate, or is for another cookie name or Purpose (ErrInvalid)
	ReasonUndecodable Reason = "undecodable"   // its data does not fit the session type, or it has an unknown extension (ErrInvalid)
	ReasonNotYetValid Reason = "not yet valid" // it was created in the future (ErrInvalid)
	ReasonExpired     Reason = "expired"       // past its Expires (ErrExpired)
	ReasonIdle        Reason = "idle"          // unused for the idle timeout (ErrExpired)
	ReasonRevoked     Reason = "revoked"       // the revocation list has it (ErrRevoked)
	ReasonRenewed     Reason = "renewed"       // it was renewed before this response was sent (ErrRenewed)
	ReasonUnverified  Reason = "unverified"    // the revocation list cannot say (ErrUnverified)
	ReasonStaleKeys   Reason = "stale keys"    // the keyring has expired (ErrUnverified)
	ReasonUnproven    Reason = "unproven"      // no proof of its device's key, or not bound where it must be (ErrUnproven)
	ReasonUnboundCopy Reason = "unbound copy"  // a copy of the cookie from before the session was bound (ErrUnproven)
	ReasonNotImported Reason = "not imported"  // the session of another library could not be taken over (ErrUnverified, ErrInvalid)
	ReasonDuplicate   Reason = "duplicate"     // another cookie of the same name was preferred, or four had been tried
)

// A rejection is why a token gives no session: an error that is one of the
// exported sentinels, and the reason to count it under. It quotes nothing of
// the token.
type rejection struct {
	err    error
	reason Reason
}

func (r *rejection) Error() string { return r.err.Error() }
func (r *rejection) Unwrap() error { return r.err }

// reject makes a rejection. The detail follows the sentinel's text.
func reject(sentinel error, reason Reason, detail string) *rejection {
	if detail != "" {
		sentinel = fmt.Errorf("%w: %s", sentinel, detail)
	}
	return &rejection{sentinel, reason}
}

var (
	rejectMalformed   = reject(ErrInvalid, ReasonMalformed, "malformed")
	rejectVersion     = reject(ErrInvalid, ReasonMalformed, "malformed, or of another version")
	rejectUnknownKey  = reject(ErrInvalid, ReasonUnknownKey, "unknown key")
	rejectRevokedKey  = reject(ErrInvalid, ReasonRevokedKey, "revoked key")
	rejectTampered    = reject(ErrInvalid, ReasonTampered, "tampered, or sealed for another cookie name or purpose")
	rejectRecord      = reject(ErrInvalid, ReasonUndecodable, "not a record, or one with an unknown extension")
	rejectNotYetValid = reject(ErrInvalid, ReasonNotYetValid, "created in the future")
	rejectExpired     = reject(ErrExpired, ReasonExpired, "past its lifetime")
	rejectIdle        = reject(ErrExpired, ReasonIdle, "unused for too long")
	rejectRevoked     = reject(ErrRevoked, ReasonRevoked, "")
	rejectRenewed     = reject(ErrRenewed, ReasonRenewed, "")
	rejectUnproven    = reject(ErrUnproven, ReasonUnproven, "no proof")
	rejectUnbound     = reject(ErrUnproven, ReasonUnproven, "not bound in time")
	rejectUnboundCopy = reject(ErrUnproven, ReasonUnboundCopy, "it was bound since this cookie was set")
	rejectStaleKeys   = reject(ErrUnverified, ReasonStaleKeys, "no news of revoked keys for too long")
	rejectDuplicate   = reject(ErrInvalid, ReasonDuplicate, "another cookie of the same name was preferred")
)

// Why a call changes nothing, where the application is at fault. Nobody decides by
// these, so they are not exported.
var (
	errFinished       = fmt.Errorf("%w, or cannot be changed any more: the handler inside Manager.Handler has returned", ErrCommitted)
	errReentrant      = errors.New("sealed: the Manager was called for a request from within Update's function, Observe or the revocation list of the same request")
	errSameName       = errors.New("sealed: a Manager around this one has a cookie of the same name: give each a Cookie.Name of its own")
	errCookiesChanged = errors.New("sealed: the request's cookies were changed between two handlers of one Manager: the session cannot be changed for them")
	errOutsidePath    = errors.New("sealed: the request is outside Cookie.Path, so that the session's cookie cannot be known, and would be overwritten")
	errOtherCookie    = errors.New("sealed: another cookie of the same name, of another domain or path, holds a session: without Config.Revocations it goes on")
	errNoList         = errors.New("sealed: revoking needs Config.Revocations")
	errZeroID         = errors.New("sealed: the zero ID is no session's")
	errNoSubject      = errors.New("sealed: RevokeSubject needs a subject")
	errNoSubjectFunc  = errors.New("sealed: RevokeSubject needs Config.Subject, or no session has a subject")
	errNoPurpose      = errors.New("sealed: Seal and Open need a Config.Purpose: without one, what was sealed for one purpose opens for another")
)

// reasonOf returns the reason of a rejection.
func reasonOf(err error) Reason {
	if r, ok := errors.AsType[*rejection](err); ok {
		return r.reason
	}
	return ""
}

func isRevoked(err error) bool { return err != nil && errors.Is(err, ErrRevoked) }

func isRenewed(err error) bool { return err != nil && errors.Is(err, ErrRenewed) }

func isUnproven(err error) bool { return err != nil && errors.Is(err, ErrUnproven) }

func isUnverified(err error) bool { return err != nil && errors.Is(err, ErrUnverified) }
