package sealed

import (
	"errors"
	"fmt"
)

// Why there is no session, or no change. Test for them with [errors.Is]; the
// error itself says more.
var (
	// ErrNoSession: the request has no session cookie, or it was destroyed.
	ErrNoSession = errors.New("sealed: no session")
	// ErrInvalid: no key opens the token, or its data does not fit the type.
	ErrInvalid = errors.New("sealed: invalid token")
	// ErrExpired: the session's lifetime or idle timeout has passed.
	ErrExpired = errors.New("sealed: session expired")
	// ErrRevoked: the session was ended, by logout for instance.
	ErrRevoked = errors.New("sealed: session revoked")
	// ErrUnverified: the revocation list cannot tell whether the session was
	// ended, or the keyring has expired. Answer 503 and try later; the cookie
	// stays as it is.
	ErrUnverified = errors.New("sealed: session cannot be verified")
	// ErrNoHandler: the context does not come from [Manager.Handler].
	ErrNoHandler = errors.New("sealed: the request did not pass through Manager.Handler")
	// ErrCommitted: the response's headers were sent already.
	ErrCommitted = errors.New("sealed: the response's headers were sent")
	// ErrTooLarge: the session does not fit into its cookie.
	ErrTooLarge = errors.New("sealed: session too large")
)

// A rejection is why a token gives no session: an error that is one of the
// exported sentinels, and the reason to count it under. It quotes nothing of
// the token.
type rejection struct {
	err    error
	reason string // for Event.Reason
}

func (r *rejection) Error() string { return r.err.Error() }

func (r *rejection) Unwrap() error { return r.err }

// reject makes a rejection. The detail follows the sentinel's text.
func reject(sentinel error, reason, detail string) *rejection {
	if detail != "" {
		sentinel = fmt.Errorf("%w: %s", sentinel, detail)
	}
	return &rejection{sentinel, reason}
}

var (
	rejectMalformed   = reject(ErrInvalid, "malformed", "malformed")
	rejectUnknownKey  = reject(ErrInvalid, "unknown key", "unknown key")
	rejectRevokedKey  = reject(ErrInvalid, "revoked key", "revoked key")
	rejectTampered    = reject(ErrInvalid, "tampered", "tampered, or sealed for another cookie name or purpose")
	rejectRecord      = reject(ErrInvalid, "undecodable", "not a record, or one with an unknown extension")
	rejectNotYetValid = reject(ErrInvalid, "not yet valid", "created in the future")
	rejectExpired     = reject(ErrExpired, "expired", "past its lifetime")
	rejectIdle        = reject(ErrExpired, "idle", "unused for too long")
	rejectRevoked     = reject(ErrRevoked, "revoked", "")
	rejectStaleKeys   = reject(ErrUnverified, "stale keys", "no news of revoked keys for too long")
	rejectDuplicate   = reject(ErrInvalid, "duplicate", "another cookie of the same name was preferred")
)
