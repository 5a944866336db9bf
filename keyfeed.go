package sealed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A KeyFeed fills a [Keyring] that it was made with, for whoever keeps the rings
// of several instances equal. The package keystore does; programs that use it, or
// that have one process, need no KeyFeed.
//
// Make it with [NewSyncedKeyring]. Its methods may be called concurrently, also
// while requests are served.
type KeyFeed struct{ ring *Keyring }

// NewSyncedKeyring returns an empty ring, and the one value that can change it: the
// ring's own Rotate, Add, Revoke and Remove are errors, because a key that only one
// instance knows is refused by all others. Give the ring to [New] after the first
// Replace.
func NewSyncedKeyring() (*Keyring, *KeyFeed) {
	ring := &Keyring{synced: true}
	return ring, &KeyFeed{ring}
}

// A KeyEntry is a key with what a [Keyring] knows of it.
type KeyEntry struct {
	Key       Key
	Created   time.Time // for Keys to show; may be zero
	Activates time.Time // as in Keyring.Add
	Revoked   bool
}

// Replace makes the ring hold these keys and no others, in one step: no request
// sees a part of it. The times mean what they mean in [Keyring.Add]; of two keys
// activated at one time the later in the slice is the newer. The ring keeps no
// reference to the slice.
//
// An error leaves the ring as it was. It is an error to give no key that can seal,
// the zero Key, or two keys of one ID.
func (f *KeyFeed) Replace(entries []KeyEntry) error {
	r := f.ring
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
// ring does not have; the ring is then searched once more. The function may call
// Replace. A request blocks on it once at most, and one for a proof of its device a few times. Clients choose key IDs, so an
// attacker can trigger it at will: it must bound its duration and its rate. It is
// called concurrently, with the request's context. Nil removes it.
func (f *KeyFeed) OnUnknownKey(refresh func(context.Context)) {
	if refresh == nil {
		f.ring.refresh.Store(nil)
		return
	}
	f.ring.refresh.Store(&refresh)
}

// ExpireAt bounds how long the ring is used without news of revoked keys: from
// t on every session is [ErrUnverified], and Update, Renew and Seal refuse, until
// a later call sets a later time. Cookies stay as they are; what Update has
// accepted before is still sent. Destroy works. The zero time, the default, is
// never.
func (f *KeyFeed) ExpireAt(t time.Time) {
	if t.IsZero() {
		f.ring.expires.Store(nil)
		return
	}
	f.ring.expires.Store(&t)
}
