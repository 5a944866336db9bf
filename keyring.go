package sealed

import (
	"cmp"
	"context"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
)

const (
	keySize   = 32 // of the secret, in bytes
	keyIDSize = 4
	keyPrefix = "sealed-key-1-"

	// The HKDF info strings of FORMAT.md. They separate the two values derived
	// from one secret: knowing a key ID, which every token shows, says nothing
	// about the AEAD key (RFC 5869, section 3.2).
	infoKeyID = "sealed/v1 key id"
	infoAEAD  = "sealed/v1 aead"
)

var errZeroKey = errors.New("sealed: the zero Key is no key; use GenerateKey or ParseKey")

type keyID [keyIDSize]byte

func (id keyID) String() string { return hex.EncodeToString(id[:]) }

// A Key is one 256-bit secret. Make it with [GenerateKey], store it as
// [Key.Text], read it back with [ParseKey].
//
// The zero Key is no key: a [Keyring] refuses it. A Key is immutable and safe
// for concurrent use. Printing, logging or marshalling it, alone or inside
// another value, never shows the secret.
type Key struct {
	id keyID
	// A closure, not the bytes: fmt cannot call methods on the unexported
	// fields of a caller's struct and would print the bytes themselves, and a
	// goroutine trace prints arguments. Neither sees into a closure.
	secret func() []byte
}

// GenerateKey returns a new random key.
func GenerateKey() Key {
	for {
		secret := make([]byte, keySize)
		rand.Read(secret) // never fails: crypto/rand ends the program instead
		if weakness(secret) == "" {
			return newKey(secret)
		}
	}
}

// ParseKey reads the form that [Key.Text] writes: "sealed-key-1-" and 32 bytes
// in 43 characters of unpadded base64url (RFC 4648, section 5).
//
// It refuses a secret that cannot have come from a random source: printable
// text, one value or a short pattern repeated, a short secret filled up. The
// chance that it refuses a random one is below 2^-40. The error never contains
// the text.
func ParseKey(text string) (Key, error) {
	encoded, ok := strings.CutPrefix(text, keyPrefix)
	if !ok {
		return Key{}, fmt.Errorf("sealed: a key starts with %q", keyPrefix)
	}
	secret, err := decodeBase64(encoded)
	if err != nil {
		return Key{}, errors.New("sealed: a key is base64url without padding after its prefix")
	}
	if len(secret) != keySize {
		return Key{}, fmt.Errorf("sealed: a key has %d bytes after its prefix, this one has %d", keySize, len(secret))
	}
	if w := weakness(secret); w != "" {
		return Key{}, fmt.Errorf("sealed: not a random key: %s; make one with GenerateKey", w)
	}
	return newKey(secret), nil
}

func newKey(secret []byte) Key {
	k := Key{secret: func() []byte { return secret }}
	copy(k.id[:], k.derive(infoKeyID, keyIDSize))
	return k
}

// derive is HKDF-SHA-256 without salt: the secret is uniformly random already,
// which is the case RFC 5869, section 3.1 needs no salt for.
func (k Key) derive(info string, size int) []byte {
	out, err := hkdf.Key(sha256.New, k.secret(), nil, info, size)
	if err != nil {
		// Only a secret shorter than FIPS 140 allows, or a size above
		// 255*32, can fail; both are constants here.
		panic("sealed: HKDF: " + err.Error())
	}
	return out
}

// aead returns the AEAD of the key. Under GODEBUG=fips140=only there is none: New
// reports that, so a ring without one never reaches a request.
func (k Key) aead() cipher.AEAD {
	aead, _ := chacha20poly1305.NewX(k.derive(infoAEAD, chacha20poly1305.KeySize))
	return aead
}

func (k Key) equal(other Key) bool {
	return subtle.ConstantTimeCompare(k.secret(), other.secret()) == 1
}

// weakness says why a secret cannot be random, or is empty. Tokens name their
// key, so nobody can try keys in bulk against one token faster than by guessing
// the secret: a guessable secret is the only way in.
func weakness(secret []byte) string {
	var seen [256]bool
	distinct, printable, arithmetic := 0, true, true
	run, longest := 1, 1
	for i, b := range secret {
		if !seen[b] {
			seen[b] = true
			distinct++
		}
		printable = printable && (b >= ' ' && b <= '~')
		if i > 0 {
			arithmetic = arithmetic && b-secret[i-1] == secret[1]-secret[0]
			if b == secret[i-1] {
				run++
			} else {
				run = 1
			}
			longest = max(longest, run)
		}
	}
	switch {
	case printable:
		return "all of it is printable text, as in a passphrase"
	case arithmetic:
		return "its bytes count up or repeat"
	case longest >= 8:
		return "it is a shorter secret filled up with one byte"
	case distinct <= 16:
		return "its bytes repeat a short pattern"
	}
	return ""
}

// ID returns the key's public name: 8 hexadecimal digits, derived from the
// secret. Every token shows it. It is "00000000" for the zero Key.
func (k Key) ID() string { return k.id.String() }

// Text returns the secret for storage, in the form that [ParseKey] reads, and
// "" for the zero Key. Nothing else in this package reveals a secret.
func (k Key) Text() string {
	if k.secret == nil {
		return ""
	}
	return keyPrefix + base64.RawURLEncoding.EncodeToString(k.secret())
}

// String returns the key's ID in words, never its secret.
func (k Key) String() string { return "sealed key " + k.ID() }

// Format prints what String returns, whatever the verb.
func (k Key) Format(f fmt.State, _ rune) { fmt.Fprint(f, k.String()) }

// LogValue logs the key's ID.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.ID()) }

// KeyState says what a key in a [Keyring] does now.
type KeyState string

// The states of a key. They follow from its activation time alone, except
// KeyRevoked.
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
// The primary is the unrevoked key that was activated last. If none is active
// yet, it is the one that will be first: a ring always seals.
type Keyring struct {
	mu      sync.Mutex // serialises writers
	keys    atomic.Pointer[[]*ringKey]
	refresh atomic.Pointer[func(context.Context)] // see OnUnknownKey
	expires atomic.Pointer[time.Time]             // see ExpireAt
}

// ringKey is a key at work. It is never changed once it is in a ring.
type ringKey struct {
	key       Key
	text      string // the ID, made once for events and Info
	aead      cipher.AEAD
	created   time.Time
	activates time.Time
	revoked   bool
}

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
// Older keys stay and open their tokens, which are sealed anew with the primary
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
// the zero time it only opens, as the oldest of the ring.
//
// It is an error if the ring has a key with that ID, also a revoked one.
func (r *Keyring) Add(key Key, activates time.Time) error {
	return r.add(key, time.Time{}, activates)
}

func (r *Keyring) add(key Key, created, activates time.Time) error {
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
// that were sealed anew with a later key live on, forged ones too: if a key may
// have been known for long, revoke the later ones as well.
//
// If it was the primary, the ring seals with the newest key left; the last
// usable key cannot be revoked: call Rotate(0) first. An unknown ID is an error.
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

// sealingKey returns the key to seal a session with that current opened, nil
// for a new one. It is the primary, or current where that is newer: another
// instance, whose clock is ahead, has activated it already, and going back
// would make the two seal in turns.
func (r *Keyring) sealingKey(current *ringKey, nowMilli int64) *ringKey {
	now := time.UnixMilli(nowMilli)
	for _, k := range r.snapshot() {
		if k.revoked {
			continue
		}
		if !k.activates.After(now) || (current != nil && k.key.id == current.key.id) {
			return k
		}
	}
	return primaryOf(r.snapshot(), now)
}

// seal seals plaintext in place: token is a header, room for a nonce, the
// plaintext, and has capacity for the tag. It fills in the nonce, which is
// random: 192 bits make a repetition after 2^80 tokens a chance of 2^-33.
func (k *ringKey) seal(token, associated []byte) []byte {
	nonce := token[headerSize : headerSize+nonceSize]
	rand.Read(nonce)
	plaintext := token[headerSize+nonceSize:]
	ciphertext := k.aead.Seal(plaintext[:0], nonce, plaintext, associated)
	return token[:headerSize+nonceSize+len(ciphertext)]
}

// open opens token in place and returns its plaintext.
func (k *ringKey) open(token, associated []byte) ([]byte, error) {
	nonce, ciphertext := token[headerSize:headerSize+nonceSize], token[headerSize+nonceSize:]
	return k.aead.Open(ciphertext[:0], nonce, ciphertext, associated)
}

// aeadAvailable reports whether XChaCha20-Poly1305 may be used in this process.
func aeadAvailable() bool {
	_, err := chacha20poly1305.NewX(make([]byte, chacha20poly1305.KeySize))
	return err == nil
}
