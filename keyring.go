package sealed

import (
	"cmp"
	"context"
	"crypto/cipher"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// KeyState says what a key in a [Keyring] does now.
type KeyState string

// The states of a key. All but KeyRevoked follow from when the ring's keys are activated: the
// primary is the one that was activated last.
const (
	KeyPending  KeyState = "pending"  // opens; will seal once it is activated
	KeyPrimary  KeyState = "primary"  // opens, and seals all new tokens
	KeyRetiring KeyState = "retiring" // opens what was sealed with it earlier
	KeyRevoked  KeyState = "revoked"  // never opens again
)

// KeyInfo describes a key in a [Keyring] without its secret.
type KeyInfo struct {
	ID        string
	State     KeyState
	Created   time.Time // zero if that is not known
	Activates time.Time // when it starts to seal; zero for a key given without a time
}

// A Keyring holds the keys that tokens are opened with, one of which, the
// primary, seals new ones. Make it with [NewKeyring] or [ParseKeyring]; the
// zero Keyring is empty and [New] refuses it.
//
// All methods may be called concurrently, also while requests are served:
// requests read an immutable snapshot and never wait for a lock. Several
// managers may share a Keyring.
//
// A ring that is kept equal on several instances, such as that of the package
// keystore, is changed where it is kept: its Rotate, Add, Revoke and Remove return
// an error. See [NewSyncedKeyring].
//
// The primary is the unrevoked key that was activated last. If none is active
// yet, it is the one that will be first: a ring always seals.
type Keyring struct {
	mu      sync.Mutex // serialises writers
	keys    atomic.Pointer[[]*ringKey]
	synced  bool                                  // only its KeyFeed changes it
	refresh atomic.Pointer[func(context.Context)] // see KeyFeed.OnUnknownKey
	expires atomic.Pointer[time.Time]             // see KeyFeed.ExpireAt
}

// ringKey is a key at work. It is never changed once it is in a ring.
type ringKey struct {
	key       Key
	text      string             // the ID, made once for events and Info
	aead      func() cipher.AEAD // see Key.aead
	created   time.Time
	activates time.Time
	revoked   bool
}

var errSynced = errors.New("sealed: this keyring is kept equal on several instances: change the keys where they are kept")

// NewKeyring returns a ring that seals with primary and opens with all.
//
// The others are taken to be older, in the order given. Two keys with one ID
// are an error: a token names its key by ID.
func NewKeyring(primary Key, others ...Key) (*Keyring, error) {
	r := &Keyring{}
	for _, k := range append([]Key{primary}, others...) {
		if err := r.add(k, time.Time{}, time.Time{}); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// ParseKeyring reads keys in the form of [Key.Text], separated by white space
// or commas, as from an environment variable. The first one seals.
//
// The error names the position of a bad key, never its text.
func ParseKeyring(text string) (*Keyring, error) {
	fields := strings.FieldsFunc(text, func(c rune) bool { return c == ',' || strings.ContainsRune(" \t\r\n\v\f", c) })
	if len(fields) == 0 {
		return nil, errors.New("sealed: no key given; make one with GenerateKey and store its Text")
	}
	keys := make([]Key, len(fields))
	for i, field := range fields {
		k, err := ParseKey(field)
		if err != nil {
			return nil, fmt.Errorf("key %d of %d: %w", i+1, len(fields), err)
		}
		keys[i] = k
	}
	return NewKeyring(keys[0], keys[1:]...)
}

// Rotate adds a new key, which opens tokens at once and seals them after lead.
// Give every other instance the returned key within that time, with
// [Keyring.Add] or by its text: an instance must be able to open a key before
// any instance seals with it. For a single process lead can be 0.
//
// Older keys stay and open their tokens, which are re-encrypted under the primary
// when their sessions are next read. Call [Keyring.Remove] once the longest
// session has ended. A negative lead is an error.
func (r *Keyring) Rotate(lead time.Duration) (Key, error) {
	if lead < 0 {
		return Key{}, fmt.Errorf("sealed: negative lead %v", lead)
	}
	now := time.Now().Round(0) // the wall clock, as every other instance sees it
	for {
		k := GenerateKey()
		if r.find(k.id) != nil {
			continue // IDs have 32 bits: draw again
		}
		return k, r.add(k, now, now.Add(lead))
	}
}

// Add adds a key that another instance or an operator made. It opens at once
// and seals from activates on, until a key with a later activation is due. With
// the zero time it is the oldest of the ring: it only opens, unless no other active key is left.
//
// It is an error if the ring has a key with that ID, also a revoked one.
func (r *Keyring) Add(key Key, activates time.Time) error {
	return r.add(key, time.Time{}, activates)
}

func (r *Keyring) add(key Key, created, activates time.Time) error {
	if r.synced {
		return errSynced
	}
	if key.secret == nil {
		return errZeroKey
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	keys := r.snapshot()
	if at(keys, key.id) != nil {
		return fmt.Errorf("sealed: the keyring has a key %s already", key.ID())
	}
	r.store(insert(slices.Clone(keys), &ringKey{
		key: key, text: key.ID(), aead: key.aead(), created: created, activates: activates,
	}))
	return nil
}

// insert puts a key into its place, the newest first. Of two keys activated at
// one time the later call is the newer, except that keys without a time keep the
// order they came in.
func insert(keys []*ringKey, added *ringKey) []*ringKey {
	added.activates = added.activates.Truncate(time.Millisecond) // as finely as requests are timed
	i, _ := slices.BinarySearchFunc(keys, added, func(k, added *ringKey) int {
		if added.activates.IsZero() {
			return -1
		}
		return cmp.Or(added.activates.Compare(k.activates), 1)
	})
	return slices.Insert(keys, i, added)
}

// Revoke marks a key as compromised: from now on nothing sealed with it opens
// in this process, and it cannot be added again until it is removed. It ends
// every session still sealed with it: the holder of a key can forge any. Sessions
// that were re-encrypted under a later key live on, forged ones too: if a key may
// have been known for long, revoke the later ones as well.
//
// If it was the primary, the ring seals with the active key that was activated last, or, if none
// is active, with the one that is due first. The last usable key cannot be revoked: call
// Rotate(0) first. An unknown ID is an error.
func (r *Keyring) Revoke(keyID string) error {
	return r.change(keyID, "revoke", func(keys []*ringKey, i int) []*ringKey {
		revoked := *keys[i]
		revoked.revoked = true
		keys[i] = &revoked
		return keys
	})
}

// Remove forgets a key: sessions still sealed with it end. An unknown ID is an
// error, and so is the last key that can seal.
func (r *Keyring) Remove(keyID string) error {
	return r.change(keyID, "remove", func(keys []*ringKey, i int) []*ringKey {
		return slices.Delete(keys, i, i+1)
	})
}

func (r *Keyring) change(id, verb string, edit func([]*ringKey, int) []*ringKey) error {
	if r.synced {
		return errSynced
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	keys := slices.Clone(r.snapshot())
	i := slices.IndexFunc(keys, func(k *ringKey) bool { return k.text == id })
	if i < 0 && len(id) != hex.EncodedLen(keyIDSize) {
		return errors.New("sealed: not a key ID") // perhaps the key itself: do not repeat it
	}
	if i < 0 {
		return fmt.Errorf("sealed: the keyring has no key %q", id)
	}
	keys = edit(keys, i)
	if primaryOf(keys, time.Now()) == nil {
		return fmt.Errorf("sealed: cannot %s %s, the only key that can seal: call Rotate(0) first", verb, id)
	}
	r.store(keys)
	return nil
}

// Keys describes the ring's keys, newest first, without their secrets.
func (r *Keyring) Keys() []KeyInfo {
	now := time.Now()
	keys := r.snapshot()
	primary := primaryOf(keys, now)
	infos := make([]KeyInfo, len(keys))
	for i, k := range keys {
		infos[i] = KeyInfo{ID: k.text, State: k.state(primary, now), Created: k.created, Activates: k.activates}
	}
	return infos
}

func (k *ringKey) state(primary *ringKey, now time.Time) KeyState {
	switch {
	case k.revoked:
		return KeyRevoked
	case k == primary:
		return KeyPrimary
	case k.activates.After(now):
		return KeyPending
	}
	return KeyRetiring
}

// snapshot returns the keys, newest first. Nobody may change them.
func (r *Keyring) snapshot() []*ringKey {
	if keys := r.keys.Load(); keys != nil {
		return *keys
	}
	return nil
}

func (r *Keyring) store(keys []*ringKey) { r.keys.Store(&keys) }

// find returns the key with that ID, revoked or not, or nil.
func (r *Keyring) find(id keyID) *ringKey { return at(r.snapshot(), id) }

func at(keys []*ringKey, id keyID) *ringKey {
	for _, k := range keys {
		if k.key.id == id {
			return k
		}
	}
	return nil
}

func primaryOf(keys []*ringKey, now time.Time) *ringKey {
	var next *ringKey
	for _, k := range keys {
		if k.revoked {
			continue
		}
		if !k.activates.After(now) {
			return k
		}
		next = k
	}
	return next
}

// sealingKey returns the key to seal a session with that current opened, nil for a
// new one. It is the primary, or current where that is newer: another instance,
// whose clock is ahead, has activated it already, and going back would make the two
// seal in turns. If current would not open anything now, the error says why: to
// re-encrypt what it opened would carry a forgery over to a good key.
func (r *Keyring) sealingKey(current *ringKey, nowMilli int64) (*ringKey, error) {
	keys, now := r.snapshot(), time.UnixMilli(nowMilli)
	if err := recheck(keys, current); err != nil {
		return nil, err
	}
	for _, k := range keys {
		if !k.revoked && (!k.activates.After(now) || current != nil && k.key.id == current.key.id) {
			return k, nil
		}
	}
	return primaryOf(keys, now), nil
}

// recheck says why a key, which opened a token earlier, would not open it now, and
// apart from that whether the ring has expired. k may be nil: there was no token.
func (r *Keyring) recheck(k *ringKey) (expired, err error) {
	return r.checkExpiry(), recheck(r.snapshot(), k)
}

func recheck(keys []*ringKey, k *ringKey) error {
	if k == nil {
		return nil
	}
	switch now := at(keys, k.key.id); {
	case now == nil:
		return rejectUnknownKey
	case now.revoked:
		return rejectRevokedKey
	}
	return nil
}

// checkExpiry returns an error that is ErrUnverified if the ring has expired.
func (r *Keyring) checkExpiry() error {
	if t := r.expires.Load(); t != nil && !time.Now().Before(*t) {
		return rejectStaleKeys
	}
	return nil
}

// fetch returns the key with that ID, or why nothing opens with it; a revoked key
// comes with the error. Apart from that, expired says whether the ring has. It asks
// for news of a key that the ring does not have, unless the request has asked
// already: it may have several cookies, and waits once.
func (r *Keyring) fetch(ctx context.Context, id keyID, asked *bool) (k *ringKey, expired, err error) {
	k = r.find(id)
	if k == nil && !*asked {
		if refresh := r.refresh.Load(); refresh != nil {
			*asked = true
			(*refresh)(ctx)
			k = r.find(id)
		}
	}
	expired = r.checkExpiry()
	switch {
	case k == nil && expired != nil:
		return nil, expired, expired // it may only not have heard of the key
	case k == nil:
		return nil, nil, rejectUnknownKey
	case k.revoked:
		return k, expired, rejectRevokedKey
	}
	return k, expired, nil
}
