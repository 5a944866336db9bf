package keystore

import (
	"errors"
	"fmt"
	"time"
)

// Policy says when keys change. The zero Policy has the defaults. All instances
// should have the same.
type Policy struct {
	// RotateEvery is how long a key seals. Default 30 days. The successor is
	// published as soon as a key seals, so this is also how long a store may be
	// down before a rotation is late.
	RotateEvery time.Duration

	// Lead is the least time between publishing a key and sealing with it:
	// every instance must have read it by then. It has to cover Poll, the
	// store's replication lag, the outage to survive, and twice the error of
	// the clocks. Default 24 hours; at least three times Poll.
	Lead time.Duration

	// Retain is how long a key opens tokens after its successor was to seal: at
	// least as long as the longest session lasts, and the Lead on top of that, by
	// which a successor that was revoked can be replaced later. Default 401 days,
	// which covers every session that [sealed.Config] allows.
	Retain time.Duration

	// Poll is how often an instance reads the store, give or take a tenth.
	// Default one minute. It is how long a revoked key may live on elsewhere
	// while the store can be reached.
	Poll time.Duration

	// MaxStale bounds that when the store cannot be reached: an instance that has
	// not read it for so long fails closed, with [sealed.ErrUnverified] for every
	// session and the cookies left alone. It counts from before the last read was
	// sent. Default none: the instance goes on with the keys it has, since a store
	// that is down is likelier than a stolen key. At least three times Poll.
	MaxStale time.Duration

	// CreateIfEmpty lets [Open] make the first key if the store holds none. Default no:
	// an empty store is [ErrEmpty] then, since a mistyped name, or a store that has lost its
	// data, would give this instance keys of its own, and every visitor two halves of a
	// site that log each other's out. Make the first key with [Init], or the command
	// "sealed keys init".
	CreateIfEmpty bool

	// Wait is how long [Open] tries again while the store cannot be read. Default not at
	// all.
	Wait time.Duration

	// Cache is a file in which this instance keeps a copy of the document, sealed as it
	// is in the store, to start from while that cannot be read. Default none. Each
	// instance needs one of its own, on a disk that outlives it. The age of the copy
	// counts towards MaxStale: without MaxStale, a key that was revoked while the instance
	// was away opens sessions until the store is back. It needs a system on which [File] works.
	Cache string

	// Observe is told what happens, one call at a time. It must not call the
	// Syncer, and should return soon: the synchronisation waits for it.
	Observe func(Event)
}

const (
	defaultRotateEvery = 30 * 24 * time.Hour
	defaultLead        = 24 * time.Hour
	defaultRetain      = 401 * 24 * time.Hour
	defaultPoll        = time.Minute
)

// withDefaults fills in the defaults, and reports all that is wrong together.
func (p Policy) withDefaults() (Policy, error) {
	var errs []error
	for _, field := range []struct {
		name     string
		value    *time.Duration
		standard time.Duration
	}{
		{"RotateEvery", &p.RotateEvery, defaultRotateEvery},
		{"Lead", &p.Lead, defaultLead},
		{"Retain", &p.Retain, defaultRetain},
		{"Poll", &p.Poll, defaultPoll},
	} {
		if *field.value == 0 {
			*field.value = field.standard
		}
		if *field.value < time.Millisecond {
			errs = append(errs, fmt.Errorf("%s %v is less than a millisecond", field.name, *field.value))
		}
	}
	if len(errs) == 0 {
		errs = p.conflicts()
	}
	if err := errors.Join(errs...); err != nil {
		return p, fmt.Errorf("keystore: policy: %w", err)
	}
	return p, nil
}

func (p Policy) conflicts() (errs []error) {
	if p.Lead < 3*p.Poll {
		errs = append(errs, fmt.Errorf("the Lead %v is less than three times Poll %v: instances would miss the new key", p.Lead, p.Poll))
	}
	if p.Retain < p.Lead {
		errs = append(errs, fmt.Errorf("the Retain %v is less than Lead %v, and no session is that short", p.Retain, p.Lead))
	}
	if p.RotateEvery < p.Lead {
		errs = append(errs, fmt.Errorf("the RotateEvery %v is less than Lead %v", p.RotateEvery, p.Lead))
	}
	if p.Retain/p.RotateEvery >= maxKeys/2 {
		errs = append(errs, fmt.Errorf("the Retain %v with RotateEvery %v takes more than %d keys", p.Retain, p.RotateEvery, maxKeys/2))
	}
	if p.Wait < 0 {
		errs = append(errs, fmt.Errorf("the Wait %v is negative", p.Wait))
	}
	if p.MaxStale != 0 && p.MaxStale < 3*p.Poll {
		errs = append(errs, fmt.Errorf("the MaxStale %v is less than three times Poll %v: a late read would log everybody out", p.MaxStale, p.Poll))
	}
	return errs
}

// EventKind says what happened.
type EventKind string

// What [Policy.Observe] is told. The last five call for somebody to look.
const (
	EventCreated    EventKind = "created"     // this instance published a new key
	EventLearned    EventKind = "learned"     // a key was read for the first time
	EventRevoked    EventKind = "revoked"     // a key is revoked from now on, here
	EventRemoved    EventKind = "removed"     // a key was dropped: no session can need it
	EventRolledBack EventKind = "rolled back" // the store holds an older document than before; it gets its keys back
	EventFailed     EventKind = "failed"      // the store could not be read or written
	EventCached     EventKind = "cached"      // Open took the keys from the copy in Policy.Cache
	EventConflict   EventKind = "conflict"    // others drop a key that this policy keeps: their Retain is shorter, and they have their way
	EventLate       EventKind = "late"        // a key should have been replaced, Lead ago, and goes on
)

// An Event is one thing that an operator may want to know. It holds no secret.
type Event struct {
	Kind  EventKind
	KeyID string // of the key, if it is about one
	Err   error  // of EventFailed
}
