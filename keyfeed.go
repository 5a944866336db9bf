package sealed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// This file is for whoever keeps the rings of several instances equal. The
// package keystore does; programs that use it, or that have one process, need
// nothing from here.

// A KeyEntry is a key with what a [Keyring] knows of it.
type KeyEntry struct {
	Key       Key
	Created   time.Time // for Keys to show; may be zero
	Activates time.Time // as in Add
	Revoked   bool
}

// Replace makes the ring hold these keys and no others, in one step: no request
// sees a part of it. The times mean what they mean in [Keyring.Add]; of two keys
// activated at one time the later in the slice is the newer.
//
// The error leaves the ring as it was. It is one to give no key that can seal,
// the zero Key, or two keys of one ID.
func (r *Keyring) Replace(entries []KeyEntry) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	had := r.snapshot()
	var keys []*ringKey
	for _, e := range entries {
		if e.Key.secret == nil {
			return errZeroKey
		}
		if at(keys, e.Key.id) != nil {
			return fmt.Errorf("sealed: two keys with the ID %s", e.Key.ID())
		}
		k := ringKey{key: e.Key, text: e.Key.ID(), created: e.Created, activates: e.Activates, revoked: e.Revoked}
		if old := at(had, e.Key.id); old != nil && e.Key.equal(old.key) {
			k.aead = old.aead
		} else {
			k.aead = e.Key.aead()
		}
		keys = insert(keys, &k)
	}
	if !slices.ContainsFunc(keys, func(k *ringKey) bool { return !k.revoked }) {
		return errors.New("sealed: a keyring needs a key that is not revoked")
	}
	r.store(keys)
	return nil
}

// OnUnknownKey sets a function that is called when a token names a key that the
// ring does not have; the ring is then looked at once more. The function may
// change the ring. The request waits for it, once at most, and key IDs are the client's choice,
// so it must limit how long and how often it works. It is called concurrently,
// with the request's context. Nil removes it.
func (r *Keyring) OnUnknownKey(refresh func(context.Context)) {
	if refresh == nil {
		r.refresh.Store(nil)
		return
	}
	r.refresh.Store(&refresh)
}

// ExpireAt bounds how long the ring is used without news of revoked keys: from
// t on every session is [ErrUnverified], and Update, Renew and Seal refuse, until
// a later call sets a later time. Cookies stay as they are; what Update has
// accepted before is still sent. Destroy works. The zero time, the default, is
// never.
func (r *Keyring) ExpireAt(t time.Time) {
	if t.IsZero() {
		r.expires.Store(nil)
		return
	}
	r.expires.Store(&t)
}

// fresh returns an error that is ErrUnverified if the ring has expired.
func (r *Keyring) fresh() error {
	if t := r.expires.Load(); t != nil && !time.Now().Before(*t) {
		return rejectStaleKeys
	}
	return nil
}

// fetch is find that asks for news of a key which the ring does not have, unless
// the request has asked already: it may have several cookies, and waits once.
func (r *Keyring) fetch(ctx context.Context, id keyID, asked *bool) *ringKey {
	k := r.find(id)
	if k != nil || *asked {
		return k
	}
	refresh := r.refresh.Load()
	if refresh == nil {
		return nil
	}
	*asked = true
	(*refresh)(ctx)
	return r.find(id)
}

// unknown says why a key that the ring does not have opens nothing. A ring that
// has expired may only not have heard of it.
func (r *Keyring) unknown() error {
	if err := r.fresh(); err != nil {
		return err
	}
	return rejectUnknownKey
}
