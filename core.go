package sealed

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A core is what all requests of a manager share. It is never changed.
type core[T any] struct {
	policy  policy[T]
	cookies cookieFormat
	cookie  sealer // of tokens in cookies
	bare    sealer // of tokens outside cookies
	keys    *Keyring
	observe observer
}

// seal returns a token outside cookies, with a new session that holds data.
func (c *core[T]) seal(ctx context.Context, data *T) (string, error) {
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
	c.policy.open(ctx, &s, &c.bare, nil, token, time.Now().UnixMilli(), new(bool))
	c.observe.tell(ctx, s.event())
	return &s
}

// revokeSubject ends every session that subject has now. One that was created a
// little ahead of this clock, at the time own, is one of them.
func (c *core[T]) revokeSubject(ctx context.Context, subject string, own time.Time) error {
	before := time.Now()
	if own.After(before) {
		before = own
	}
	longest := c.policy.terms.Lifetime
	if c.policy.termsFor != nil {
		longest = maxLifetime // whatever TermsFor may say of those sessions
	}
	return c.revoke(ctx, Revocation{Subject: subject, Before: before, Until: before.Add(longest + maxSkew)})
}

// revokeTimeout bounds a revocation that goes on after the client has gone.
const revokeTimeout = 10 * time.Second

// revokeSession ends one session. It does so even if the client has gone: who clicks
// on logout and closes the window is to be logged out.
func (c *core[T]) revokeSession(ctx context.Context, r *record) error {
	if c.policy.list == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeTimeout)
	defer cancel()
	until := unixMilli(r.created + r.expires).Add(maxSkew)
	return c.revoke(ctx, Revocation{ID: r.id, Until: until})
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

var (
	errNoList    = errors.New("sealed: RevokeSubject needs Config.Revocations")
	errNoSubject = errors.New("sealed: RevokeSubject needs a subject")
)
