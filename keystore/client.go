package keystore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"example.com/sealed"
)

const (
	forever      = time.Duration(math.MaxInt64)
	storeTimeout = 10 * time.Second // for one reconciliation
	maxAttempts  = 5                // at saving, before a reconciliation fails
)

// A client changes the document of a store.
type client struct {
	store    Store
	wrap     wrapper
	revision uint64 // the highest that was read
	rewrap   bool   // whether to re-encrypt the document if another wrapping key seals it
	last     []byte // the document as it was read last
}

func newClient(store Store, wrapping []sealed.Key) (*client, error) {
	if store == nil {
		return nil, errors.New("keystore: no store")
	}
	wrap, err := newWrapper(wrapping)
	return &client{store: store, wrap: wrap}, err
}

// reconcile reads the document and writes what it should hold, until it reads back
// just that. A write that failed may have happened, and one that did not may be
// overtaken, so a write is never the last word: only what was read is. change
// says what the document should hold, for each that was read, and is called at
// least once unless there is an error of loading.
func (c *client) reconcile(ctx context.Context, change func(document) ([]entry, error)) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	var failed error
	for attempt := range maxAttempts + 1 {
		b, version, err := c.store.Load(ctx)
		if err != nil {
			return fmt.Errorf("keystore: loading: %w", err)
		}
		read, err := c.wrap.open(b)
		if err != nil {
			return err // never overwrite what we cannot read
		}
		want, err := change(read)
		if err != nil {
			return err
		}
		c.last = b
		c.revision = max(c.revision, read.revision)
		under := c.under(read)
		if equal(want, read.entries) && (b == nil || read.wrappingID == under.id) {
			c.rewrap = false
			return nil
		}
		if attempt == maxAttempts {
			break
		}
		next, err := under.seal(want, c.revision+1)
		if err != nil {
			return err
		}
		_, failed = c.store.Save(ctx, next, version)
		if errors.Is(failed, ErrReadOnly) {
			return ErrReadOnly
		}
	}
	if failed == nil {
		failed = errors.New("the store does not keep what it acknowledges")
	}
	return fmt.Errorf("keystore: saving: %w", failed)
}

// under returns the wrapping key to write with: the first, for a new document and
// to change the key; else the one that was read, so that instances which do not
// agree on the first do not write in turns.
func (c *client) under(read document) wrappingKey {
	for _, k := range c.wrap {
		if k.id == read.wrappingID && !c.rewrap {
			return k
		}
	}
	return c.wrap[0]
}

// A Document is what a store holds, as [Read] returns it.
type Document struct {
	Revision      uint64            // grows with every write
	WrappingKeyID string            // of the key that the document is sealed under
	Keys          []sealed.KeyEntry // in the order of activation, the oldest first
}

// Read reads the keys of a store without changing anything. If the store holds none, that is
// [ErrEmpty]. It takes as long as ctx and the store let it.
func Read(ctx context.Context, store Store, wrapping []sealed.Key) (Document, error) {
	c, err := newClient(store, wrapping)
	if err != nil {
		return Document{}, err
	}
	b, _, err := store.Load(ctx)
	if err != nil {
		return Document{}, fmt.Errorf("keystore: loading: %w", err)
	}
	if b == nil {
		return Document{}, ErrEmpty
	}
	d, err := c.wrap.open(b)
	return Document{d.revision, d.wrappingID, ringEntries(d.entries, 0)}, err
}

// ErrEmpty says that a store holds no keys, and that nobody has allowed to make them.
var ErrEmpty = errors.New("keystore: the store holds no keys: if it is the right one, make the first with Init, with \"sealed keys init FILE\" or \"sealed-servers keys init URL\", or with Policy.CreateIfEmpty; if instances run that have them, they give them back")

// Init makes the first key of a store, which seals at once, and returns its ID. It is an
// error if there are keys. With an error, the ID is that of a key which may or may not be in the store, or "" if none was
// made.
func Init(ctx context.Context, store Store, wrapping []sealed.Key) (keyID string, err error) {
	c, err := newClient(store, wrapping)
	if err != nil {
		return "", err
	}
	r := rotation{}
	err = c.reconcile(ctx, func(d document) ([]entry, error) {
		if len(d.entries) > 0 && (r.id() == "" || find(d.entries, r.id()) < 0) {
			return nil, errors.New("keystore: the store holds keys already")
		}
		return r.apply(d.entries, time.Now().UnixMilli()), nil
	})
	return r.id(), err
}

// Rotate publishes a new key that will seal after lead, and returns its ID. Every
// instance must read the key within lead; a lead of 0 is for a single instance. An empty
// store is ErrEmpty. For the ID with an error see [Init].
func Rotate(ctx context.Context, store Store, wrapping []sealed.Key, lead time.Duration) (keyID string, err error) {
	if lead < 0 {
		return "", fmt.Errorf("keystore: negative lead %v", lead)
	}
	c, err := newClient(store, wrapping)
	if err != nil {
		return "", err
	}
	r := rotation{lead: lead}
	err = c.reconcile(ctx, func(d document) ([]entry, error) {
		if len(d.entries) == 0 {
			return nil, ErrEmpty
		}
		return r.apply(d.entries, time.Now().UnixMilli()), nil
	})
	return r.id(), err
}

// Revoke marks keys as compromised: once an instance has read that, nothing
// sealed under them opens there. If the key that seals is among them, a new one
// takes its place. An unknown ID is an error, and then nothing is changed.
func Revoke(ctx context.Context, store Store, wrapping []sealed.Key, keyIDs ...string) error {
	return edit(ctx, store, wrapping, func(entries []entry, now int64) ([]entry, error) {
		marked, unknown := revoke(entries, now, keyIDs)
		if len(unknown) > 0 {
			return nil, unknownKeys(unknown)
		}
		return withPrimary(marked, now, forever), nil
	})
}

// Prune drops each key whose successor was activated at least retain ago. Sessions that are still
// sealed under it end. A [Syncer] does so by itself.
func Prune(ctx context.Context, store Store, wrapping []sealed.Key, retain time.Duration) error {
	if retain <= 0 {
		return fmt.Errorf("keystore: to retain keys for %v would end sessions", retain)
	}
	return edit(ctx, store, wrapping, func(entries []entry, now int64) ([]entry, error) {
		return prune(entries, now, retain), nil
	})
}

// edit changes the keys of a store that has some.
func edit(ctx context.Context, store Store, wrapping []sealed.Key, change func([]entry, int64) ([]entry, error)) error {
	c, err := newClient(store, wrapping)
	if err != nil {
		return err
	}
	return c.reconcile(ctx, func(d document) ([]entry, error) {
		if len(d.entries) == 0 {
			return nil, ErrEmpty
		}
		return change(d.entries, time.Now().UnixMilli())
	})
}

// A rotation adds one key, however often it has to be tried.
type rotation struct {
	lead  time.Duration
	added []entry
}

func (r *rotation) apply(entries []entry, now int64) []entry {
	if r.added == nil {
		lead := r.lead
		if len(entries) == 0 {
			lead = 0
		}
		for _, e := range add(entries, now, now+lead.Milliseconds()) {
			if find(entries, e.id()) < 0 {
				r.added = []entry{e}
			}
		}
	}
	return merge(entries, r.added)
}

func (r *rotation) id() string {
	if r.added == nil {
		return ""
	}
	return r.added[0].id()
}

// unknownKeys is the error for IDs that no key has. It repeats only what looks
// like an ID: somebody may have given the key itself.
func unknownKeys(ids []string) error {
	var errs []error
	for _, id := range ids {
		if len(id) != 8 {
			errs = append(errs, errors.New("keystore: not a key ID"))
			continue
		}
		errs = append(errs, fmt.Errorf("keystore: no key has the ID %q", id))
	}
	return errors.Join(errs...)
}

// ringEntries gives entries the form of a keyring, whose clock is behind by skew.
func ringEntries(entries []entry, skew time.Duration) []sealed.KeyEntry {
	keys := make([]sealed.KeyEntry, len(entries))
	for i, e := range entries {
		keys[i] = sealed.KeyEntry{
			Key:       e.key,
			Created:   time.UnixMilli(e.created).UTC(),
			Activates: time.UnixMilli(e.activates).Add(-skew).UTC(),
			Revoked:   e.revoked != 0,
		}
	}
	return keys
}
