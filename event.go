package sealed

import (
	"context"
	"errors"
)

// An EventKind says what happened.
type EventKind string

// What [Config.Observe] is told.
const (
	EventOpened           EventKind = "opened"            // a token was opened and its session is valid
	EventRejected         EventKind = "rejected"          // a token was refused: see Reason
	EventSealed           EventKind = "sealed"            // a session was sealed into the response's cookie, or by Seal
	EventRenewed          EventKind = "renewed"           // a session got a new ID and new deadlines
	EventDestroyed        EventKind = "destroyed"         // Destroy ended a session
	EventRevocationFailed EventKind = "revocation failed" // the revocation list did not take a revocation
	EventLateChange       EventKind = "late change"       // a change was refused, as the headers were sent
)

// An Event is one thing that an operator may want to count. It never carries
// session data, subjects, keys or tokens.
type Event struct {
	Kind EventKind

	// Reason says why a token was rejected. It is a constant word or two, fit
	// for the label of a counter:
	//
	//   - malformed: not a token of this version, or too long (ErrInvalid)
	//   - unknown key: no key of the ring has its key's ID (ErrInvalid)
	//   - revoked key: its key was revoked (ErrInvalid)
	//   - tampered: it does not authenticate, or is for another cookie name or
	//     Purpose (ErrInvalid)
	//   - undecodable: its data does not fit the session type, or it has an
	//     extension that this version does not know (ErrInvalid)
	//   - not yet valid: it was created in the future (ErrInvalid)
	//   - expired: past its Expires (ErrExpired)
	//   - idle: unused for the idle timeout (ErrExpired)
	//   - revoked: the revocation list has it (ErrRevoked)
	//   - unverified: the revocation list cannot say (ErrUnverified)
	//   - stale keys: the keyring has expired (ErrUnverified)
	//   - duplicate: another cookie of the same name was preferred, or four
	//     had been tried
	Reason string

	Err   error  // of EventRejected, EventRevocationFailed and EventLateChange
	ID    ID     // the session's, where it is known
	KeyID string // the key of the token, where it is known

	// Bytes is what was sealed, in bytes: of the Set-Cookie lines, or of the
	// token from Seal.
	Bytes int
}

func (m *Manager[T]) observe(ctx context.Context, e Event) {
	if m.config.Observe != nil {
		m.config.Observe(ctx, e)
	}
}

// observeOpened reports how opening a token ended.
func (m *Manager[T]) observeOpened(ctx context.Context, s *session[T]) {
	if m.config.Observe == nil {
		return
	}
	e := Event{Kind: EventOpened, ID: s.record.id}
	if s.key != nil {
		e.KeyID = s.key.text
	}
	if s.err != nil {
		e.Kind, e.Err = EventRejected, s.err
		if r, ok := errors.AsType[*rejection](s.err); ok {
			e.Reason = r.reason
		}
	}
	m.config.Observe(ctx, e)
}
