package sealed

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// A core is what all requests of a manager share. It is never changed, but for revoking.
type core[T any] struct {
	policy  policy[T]
	cookies cookieFormat
	owner   any    // cookieOwner of the cookie's name
	cookie  sealer // of tokens in cookies
	bare    sealer // of tokens outside cookies
	purpose bool   // there is one, which bare needs
	keys    *Keyring
	observe observer

	formers []formerCarrier // see Config.Former

	importer *importer[T] // see Config.Import; may be nil

	device *device // see Config.DeviceBinding; may be nil

	deleteDead bool // see Config.DeleteDead
	revoking   *revoking
}

// A revoking counts the calls of RevokeSubject that are under way, by subject. Such a call
// has a time, by which it ends sessions, and the list has it a little later: a request that renews
// a session in between would be dated behind it.
type revoking struct {
	mu    sync.Mutex
	calls map[string]int
}

// enter begins a call, and returns its time. alone says that no other was under way then.
func (r *revoking) enter(subject string) (at time.Time, alone bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	alone = r.calls[subject] == 0
	r.calls[subject]++
	return time.Now(), alone
}

// leave ends a call: the list has it.
func (r *revoking) leave(subject string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.calls[subject]--; r.calls[subject] == 0 {
		delete(r.calls, subject)
	}
}

// underWay reports whether there is a call. One that begins later has a later time.
func (r *revoking) underWay(subject string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.calls[subject] > 0
}

// seal returns a token outside cookies, with a new session that holds data.
func (c *core[T]) seal(ctx context.Context, data *T) (string, error) {
	if !c.purpose {
		return "", errNoPurpose
	}
	if err := c.keys.checkExpiry(); err != nil {
		return "", err
	}
	var s session[T]
	if err := c.policy.setData(&s, data); err != nil {
		return "", err
	}
	now := time.Now().UnixMilli()
	if err := c.policy.begin(ctx, &s, now); err != nil {
		return "", err
	}
	if n := base64url.EncodedLen(overhead + s.record.size()); n > maxTokenText {
		return "", fmt.Errorf("%w: the token would have %d bytes, more than %d", ErrTooLarge, n, maxTokenText)
	}
	key, err := c.keys.sealingKey(nil, now)
	if err != nil {
		return "", err
	}
	token := base64url.EncodeToString(c.bare.seal(&s.record, key))
	c.observe.tell(ctx, Event{Kind: EventSealed, ID: s.record.id, KeyID: key.text, Bytes: len(token)})
	return token, nil
}

// open opens a token from seal.
func (c *core[T]) open(ctx context.Context, token string) *session[T] {
	var s session[T]
	if !c.purpose {
		s.err = errNoPurpose
		return &s
	}
	now, asked := time.Now().UnixMilli(), false
	c.policy.open(ctx, &s, &c.bare, nil, token, now, &asked, false)
	c.openFormer(ctx, &s, token, (*formerCarrier).outside, now, &asked, false)
	c.observe.tell(ctx, s.event())
	return &s
}

// revokeSubject ends every session that subject had at a time. The list keeps that for
// as long as any session can last that some manager has made, whatever its terms.
func (c *core[T]) revokeSubject(ctx context.Context, subject string, before time.Time) error {
	return c.revoke(ctx, Revocation{Subject: subject, Before: before, Until: before.Add(maxLifetime + maxSkew)})
}

// revokeID ends the session with an ID, whenever it would have expired.
func (c *core[T]) revokeID(ctx context.Context, id ID) error {
	return c.revoke(ctx, Revocation{ID: id, Until: time.Now().Add(maxLifetime + maxSkew)})
}

// revokeTimeout bounds a revocation that goes on after the client has gone.
const revokeTimeout = 10 * time.Second

// revokeRecord ends one session, from a time on. It does so even if the client has gone: a visitor who clicks
// on logout and closes the window is to be logged out.
func (c *core[T]) revokeRecord(ctx context.Context, r *record, from time.Time) error {
	if c.policy.list == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeTimeout)
	defer cancel()
	return c.revoke(ctx, Revocation{ID: r.id, From: from, Until: c.end(r)})
}

// end returns until when a session's cookie may come, or a copy of it.
func (c *core[T]) end(r *record) time.Time {
	until := unixMilli(r.created + r.expires)
	if c.importer != nil && r.id[0] == importedID {
		if copies := c.importer.copiesUntil(time.Now()); copies.After(until) {
			until = copies
		}
	}
	return until.Add(maxSkew)
}

// revokeBinding ends a binding to a device's key, if there is one.
func (c *core[T]) revokeBinding(ctx context.Context, id ID) error {
	if c.policy.list == nil || id == (ID{}) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeTimeout)
	defer cancel()
	return c.revokeID(ctx, id)
}

// revoke adds to the list, which there is.
func (c *core[T]) revoke(ctx context.Context, r Revocation) error {
	err := c.policy.list.Revoke(ctx, r)
	if err != nil {
		err = fmt.Errorf("sealed: revocation failed: %w", err)
		c.observe.tell(ctx, Event{Kind: EventRevocationFailed, Err: err, ID: r.ID})
	}
	return err
}
