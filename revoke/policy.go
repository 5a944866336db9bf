package revoke

import (
	"errors"
	"fmt"
	"time"
)

// Policy says how a [Replica] follows its log. The zero Policy has the defaults.
type Policy struct {
	// Poll is how often the log is read, at least. Default one second. Hints of
	// the log make it sooner, but not more than fifty times as often, so that traffic
	// has a bound: what arrives in between is read together.
	Poll time.Duration

	// Timeout bounds one call of the log. Default two seconds.
	Timeout time.Duration

	// MaxStale is the bound of the promise: a session that was revoked anywhere
	// is refused here so long after, or this replica knows that it is stale. It
	// counts from before the last complete read was sent. Default five seconds; at
	// least the sum of Poll and Timeout.
	MaxStale time.Duration

	// AcceptStale has sessions pass that a stale replica does not know to be
	// revoked, rather than refusing all with [sealed.ErrUnverified]; EventStale tells
	// of it, and Status.Unverified counts them. Copies of cookies whose owner has logged
	// out work for as long as the log cannot be reached. A replica that has never read
	// the log to its end refuses in any case.
	AcceptStale bool

	// MaxUnsent bounds how many revocations wait for a log that is down, each of
	// which takes about 300 bytes. Sessions beyond it are still ended on this instance, but Revoke returns
	// an error, and they are not handed over, unless they are revoked again when there is room. EventFull tells of it, once until there is room. Default 1,048,576.
	MaxUnsent int

	// Observe is told what happens, one call at a time. It must not call the
	// Replica, and should return soon.
	Observe func(Event)
}

func (p Policy) withDefaults() (Policy, error) {
	var errs []error
	for _, field := range []struct {
		name     string
		value    *time.Duration
		standard time.Duration
	}{
		{"Poll", &p.Poll, time.Second},
		{"Timeout", &p.Timeout, 2 * time.Second},
		{"MaxStale", &p.MaxStale, 5 * time.Second},
	} {
		if *field.value == 0 {
			*field.value = field.standard
		}
		if *field.value < time.Millisecond {
			errs = append(errs, fmt.Errorf("%s %v is less than a millisecond", field.name, *field.value))
		}
	}
	if p.MaxUnsent == 0 {
		p.MaxUnsent = 1 << 20
	}
	if p.MaxUnsent < 0 {
		errs = append(errs, fmt.Errorf("MaxUnsent %d is negative", p.MaxUnsent))
	}
	if len(errs) == 0 && p.MaxStale < p.Poll+p.Timeout {
		errs = append(errs, fmt.Errorf("the MaxStale %v is less than Poll %v and Timeout %v: one late answer would refuse everybody", p.MaxStale, p.Poll, p.Timeout))
	}
	if err := errors.Join(errs...); err != nil {
		return p, fmt.Errorf("revoke: policy: %w", err)
	}
	return p, nil
}

// EventKind says what happened.
type EventKind string

// What [Policy.Observe] is told.
const (
	EventReady     EventKind = "ready"     // the log was read to its end for the first time
	EventFailed    EventKind = "failed"    // a call of the log failed
	EventStale     EventKind = "stale"     // no complete read for MaxStale
	EventRecovered EventKind = "recovered" // that is over; after EventReady, if it was stale before
	EventGap       EventKind = "gap"       // the log has lost entries, and is read on from the last place that both have, or from its beginning
	EventRestored  EventKind = "restored"  // what the log had lost was added to it again
	EventClock     EventKind = "clock"     // this machine's clock and the log's differ by more than five minutes: see Offset
	EventUnsafe    EventKind = "unsafe"    // the log's server is set so that it may lose what it acknowledges: see Err
	EventFull      EventKind = "full"      // MaxUnsent revocations wait for the log: others are not handed over
)

// An Event is one thing that an operator may want to know.
type Event struct {
	Kind    EventKind
	Entries int   // of EventRestored: how many
	Err     error // of EventFailed and EventUnsafe

	// Offset, of EventClock, is this machine's clock less the log's: negative if it is
	// behind. While they differ by more than five minutes, the replica prunes nothing. When that is over, it
	// reads the log from its beginning, since it may have passed over what seemed to have expired.
	Offset time.Duration
}
