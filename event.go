package sealed

import "context"

// An EventKind says what happened.
type EventKind string

// What [Config.Observe] is told.
const (
	EventOpened           EventKind = "opened"            // a token was opened and its session is valid
	EventRejected         EventKind = "rejected"          // a token was refused: see Reason
	EventSealed           EventKind = "sealed"            // a session was sealed into the response's cookie, or by Seal
	EventRenewed          EventKind = "renewed"           // a session got a new ID and new deadlines
	EventDestroyed        EventKind = "destroyed"         // Destroy ended a session
	EventBound            EventKind = "bound"             // a session was bound to a key of its device
	EventProven           EventKind = "proven"            // a device has proven that it has a key
	EventImported         EventKind = "imported"          // a session of another library was taken over
	EventImportFailed     EventKind = "import failed"     // such a session does not fit into the cookie, or could not be ended
	EventRevocationFailed EventKind = "revocation failed" // the revocation list did not take a revocation
	EventLateChange       EventKind = "late change"       // a change was refused, as the headers were sent
)

// An Event is one thing that an operator may want to count. It never carries
// session data, subjects, keys or tokens.
type Event struct {
	Kind   EventKind
	Reason Reason // of EventRejected: why
	Err    error  // of EventRejected, EventRevocationFailed, EventImportFailed and EventLateChange
	ID     ID     // the session's, where it is known; of EventRevocationFailed also that of a binding to a device's key
	KeyID  string // the key of the token, where it is known

	// PreviousID is the session's ID before EventRenewed.
	PreviousID ID

	// Bytes is what was sealed, in bytes: of the Set-Cookie lines, or of the
	// token from Seal.
	Bytes int
}

// An observer is Config.Observe, which may be nil.
type observer func(context.Context, Event)

func (o observer) tell(ctx context.Context, e Event) {
	if o != nil {
		o(ctx, e)
	}
}
