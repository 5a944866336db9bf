package sealed

import (
	"context"
	"time"
)

// A RevocationList knows the sessions that were ended before they expired. The
// package revoke has one.
//
// Its methods may be called concurrently, Check by every request that reads its
// session, so that it should do no I/O. Neither may call the [Manager] with the
// same context.
//
// With [Config.DeviceBinding] both get IDs that are no session's, too: of bindings to a device's key, and of
// what copies from before the binding would be. Of such an Info only ID is set, or ID and Created. So
// a list must judge by these, by Subject and by nothing else.
type RevocationList interface {
	// Revoke adds r. When it returns nil, Check of the same process refuses
	// the session; other processes follow within a time that the list states.
	// If it returns an error, the session may be revoked or not. Revoking
	// again is no error.
	Revoke(ctx context.Context, r Revocation) error

	// Check returns nil for a session that is not revoked, [ErrRevoked] for
	// one that is, [ErrRenewed] for one that will be at its Revocation's From,
	// and an error that is [ErrUnverified] if the list cannot say. Any other
	// error counts as ErrUnverified.
	Check(ctx context.Context, s Info) error
}

// A Revocation ends one session, by ID, or all sessions that a subject has at a
// time. Exactly one of ID and Subject is set.
type Revocation struct {
	ID      ID
	Subject string    // every session of this subject created at or before Before
	Before  time.Time // for Subject only
	From    time.Time // for ID only: when the session is refused. The zero time, or what a list does not know of: at once
	Until   time.Time // when the list may forget it: nothing it ends is valid later
}

// maxSkew is how far the clocks of two instances may differ: a session created
// that far in the future is accepted, and revocations are kept that much longer.
const maxSkew = 5 * time.Minute
