package keystore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"example.com/sealed"
)

const (
	// A request with an unknown key waits so long for a refresh, and asks for
	// one only so often: key IDs are the client's choice.
	unknownWait  = 250 * time.Millisecond
	unknownEvery = time.Second
)

// A Syncer keeps a keyring equal to the document in a store. Make it with
// [Open]. Its methods may be called concurrently.
type Syncer struct {
	client *client
	policy Policy
	ring   *sealed.Keyring
	feed   *sealed.KeyFeed
	skew   time.Duration // of this instance's clock: not 0 in the simulation only

	stop    context.CancelFunc
	stopped chan struct{}
	wake    chan struct{} // has a value when a request asks for a refresh

	// turn is held through a reconciliation with the store, and guards the client. It
	// is a channel so that waiting for it ends with the context.
	turn chan struct{}

	// keys is held while the ring changes, and Observe is told of that.
	keys      sync.Mutex
	known     []entry         // as read from the store, with what was revoked here
	published map[string]bool // IDs of keys that the reconciliation under way has tried to publish
	stored    []entry         // as read from the store last
	dropped   map[string]int  // by ID: how often others have dropped a key that this instance keeps
	cached    string          // the version of what is in Policy.Cache
	dead      atomic.Bool     // all keys are revoked, and the ring has no way to say so

	mu         sync.Mutex // never held while anything waits
	status     Status
	read       time.Time     // when the last complete read was begun
	forced     time.Time     // when a request last asked
	refreshing chan struct{} // closed when the refresh that requests asked for is done; nil without one
}

// Status describes a [Syncer].
type Status struct {
	Keys          []sealed.KeyInfo // the newest first; states as of now
	Revision      uint64           // of the document
	WrappingKeyID string           // of the key that the document is sealed under
	Health        error            // see Syncer.Health
	Age           time.Duration    // of the last complete read, from before it was sent; Open has read once
	Err           error            // why the last reconciliation with the store failed, or nil
}

// Open reads the keys of store, and keeps a keyring equal to them until Close. The
// document is sealed under the first of the wrapping keys; all of them open it. An empty
// store is [ErrEmpty], unless the policy has CreateIfEmpty.
//
// A store that cannot be read is an error, unless the policy has a Cache: without its
// keys an instance could only reject everybody. So is a store that cannot be written while it holds no
// key that seals.
func Open(ctx context.Context, store Store, wrapping []sealed.Key, policy Policy) (*Syncer, error) {
	return open(ctx, store, wrapping, policy, 0)
}

func open(ctx context.Context, store Store, wrapping []sealed.Key, policy Policy, skew time.Duration) (*Syncer, error) {
	policy, err := policy.withDefaults()
	if err != nil {
		return nil, err
	}
	c, err := newClient(store, wrapping)
	if err != nil {
		return nil, err
	}
	ring, feed := sealed.NewSyncedKeyring()
	s := &Syncer{
		client: c, policy: policy, ring: ring, feed: feed, skew: skew,
		stopped: make(chan struct{}), wake: make(chan struct{}, 1), turn: make(chan struct{}, 1),
		dropped: map[string]int{},
	}
	c.rewrap = true
	if err := s.openFirst(ctx); err != nil {
		return nil, err
	}
	running, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	s.feed.OnUnknownKey(s.unknownKey)
	go s.run(running)
	return s, nil
}

// Keyring returns the keyring, for [sealed.New]. Only the Syncer changes it: its
// own Rotate, Add, Revoke and Remove are errors. Use those of the Syncer.
func (s *Syncer) Keyring() *sealed.Keyring { return s.ring }

// Close ends the synchronisation, and returns when its goroutine has ended. The
// keyring can be used on; it expires if there is a MaxStale.
func (s *Syncer) Close() {
	s.feed.OnUnknownKey(nil)
	s.stop()
	<-s.stopped
}

func (s *Syncer) run(ctx context.Context) {
	defer close(s.stopped)
	timer := time.NewTimer(s.interval())
	defer timer.Stop()
	for {
		asked := false
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.wake:
			asked = true
		}
		_ = s.Refresh(ctx) // Observe and Status tell of the error
		if asked {
			s.refreshed()
		}
		timer.Reset(s.interval())
	}
}

// interval spreads the refreshes of instances that started together.
func (s *Syncer) interval() time.Duration {
	return s.policy.Poll*9/10 + jitter(s.policy.Poll/5)
}

// unknownKey is what a request calls whose token names a key that the ring lacks.
func (s *Syncer) unknownKey(ctx context.Context) {
	done := s.ask()
	if done == nil {
		return
	}
	timer := time.NewTimer(unknownWait)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// ask asks for a refresh, and returns what is closed when that is done. Requests
// that ask while one is under way share it. It returns nil if there was one a moment ago.
func (s *Syncer) ask() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refreshing != nil {
		return s.refreshing
	}
	if !s.forced.IsZero() && time.Since(s.forced) < unknownEvery {
		return nil
	}
	s.forced, s.refreshing = time.Now(), make(chan struct{})
	s.wake <- struct{}{} // there is room: the last one has been received
	return s.refreshing
}

func (s *Syncer) refreshed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.refreshing)
	s.refreshing = nil
}

// now is the time by this instance's clock.
func (s *Syncer) now() time.Time { return time.Now().Add(s.skew) }

// Refresh reads the store now, and writes what it lacks, unless it is read-only. The
// error says why that failed; the keyring then goes on with what was read last.
func (s *Syncer) Refresh(ctx context.Context) error {
	if err := s.refresh(ctx); !errors.Is(err, ErrReadOnly) {
		return err
	}
	return nil
}

func (s *Syncer) refresh(ctx context.Context) error {
	return s.reconcile(ctx, func(entries []entry, _ int64) []entry { return entries })
}

// Rotate publishes a new key, which will seal after the policy's Lead, and
// returns its ID. For the ID with an error see [Init].
func (s *Syncer) Rotate(ctx context.Context) (keyID string, err error) {
	r := rotation{lead: s.policy.Lead}
	err = s.reconcile(ctx, r.apply)
	return r.id(), err
}

// Revoke marks keys as compromised: nothing sealed under them opens here from now
// on, and on the other instances once they have read it. If the key that seals is
// among them, a fresh one takes its place as soon as it is in the store. Every
// session under the keys ends. An unknown ID is an error, and then nothing is
// changed.
//
// If the store fails, or is read-only, the error says so. The keys are revoked here all the same, at
// once, and the store is told when it can be reached. Until then an older key seals, or
// the successor does so early; if no key is left, every session is
// [sealed.ErrUnverified].
func (s *Syncer) Revoke(ctx context.Context, keyIDs ...string) error {
	err := s.revokeHere(keyIDs)
	if err != nil && s.Refresh(ctx) == nil { // somebody else may have made the key
		err = s.revokeHere(keyIDs)
	}
	if err != nil {
		return err
	}
	return s.refresh(ctx)
}

// revokeHere waits for no reconciliation: one that hangs must not keep a stolen key
// alive. The reconciliation under way will find the marks when it next reads.
func (s *Syncer) revokeHere(keyIDs []string) error {
	s.keys.Lock()
	defer s.keys.Unlock()
	marked, unknown := revoke(s.known, s.now().UnixMilli(), keyIDs)
	if len(unknown) > 0 {
		return unknownKeys(unknown)
	}
	s.adopt(marked)
	return nil
}

func (s *Syncer) acquire(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Syncer) release() { <-s.turn }

// reconcile makes the store and the ring equal, with a change to both.
func (s *Syncer) reconcile(ctx context.Context, change func([]entry, int64) []entry) error {
	if err := s.acquire(ctx); err != nil {
		return err
	}
	defer s.release()
	asked := time.Now()
	first := true
	err := s.client.reconcile(ctx, func(d document) ([]entry, error) {
		s.keys.Lock()
		defer s.keys.Unlock()
		if first {
			s.published, first = map[string]bool{}, false
		}
		if d.revision < s.client.revision {
			s.observe(Event{Kind: EventRolledBack})
		}
		if len(d.entries) == 0 && len(s.known) == 0 && !s.policy.CreateIfEmpty {
			return nil, ErrEmpty
		}
		// What this instance has read earlier goes back into a store that
		// lost it. What it is about to publish is not used before it was read.
		now := s.now().UnixMilli()
		read := prune(merge(d.entries, s.known), now, s.policy.Retain)
		s.adopt(read)
		s.confirm(d, asked)
		asked = time.Now()
		want := s.yield(d, plan(change(read, now), now, s.policy))
		for _, e := range want {
			if find(read, e.id()) < 0 {
				s.published[e.id()] = true
			}
		}
		return want, nil
	})
	if errors.Is(ctx.Err(), context.Canceled) {
		return err // Close, or a caller who has gone: it is not the store's fault
	}
	if err == nil || errors.Is(err, ErrReadOnly) {
		s.cache(asked)
		s.report(nil)
		return err
	}
	s.report(err)
	return err
}

// yielding is how often a key is put back into the store that others have dropped.
const yielding = 2

// yield takes the keys out of want that others drop again and again: their policy keeps
// keys for a shorter time, and to put them back each time would have all write in turns. A
// store that has lost a key has it back after the first time. The caller has keys locked.
func (s *Syncer) yield(d document, want []entry) []entry {
	if d.revision > s.client.revision { // somebody has written
		for _, e := range s.stored {
			if find(d.entries, e.id()) < 0 {
				s.dropped[e.id()]++
			}
		}
	}
	s.stored = d.entries
	return slices.DeleteFunc(slices.Clone(want), func(e entry) bool {
		yields := s.dropped[e.id()] > yielding && find(d.entries, e.id()) < 0
		if yields && s.dropped[e.id()] == yielding+1 {
			s.dropped[e.id()]++ // told
			s.observe(Event{Kind: EventConflict, KeyID: e.id()})
		}
		return yields
	})
}

// adopt makes the ring hold entries, in one step. The caller has keys locked.
func (s *Syncer) adopt(entries []entry) {
	known := s.known
	if equal(entries, known) {
		return
	}
	s.known = entries
	keys := ringEntries(entries, s.skew)
	for i, e := range entries {
		if now := time.Now(); e.immediate() && keys[i].Activates.After(now) {
			// It is for use at once, and comes from a clock that is ahead.
			// Waiting would seal with a key that is about to be dropped.
			keys[i].Activates = now
		}
	}
	if err := s.feed.Replace(keys); err != nil {
		// All are revoked, and the fresh one is not in the store yet.
		s.dead.Store(true)
		s.feed.ExpireAt(time.Now())
	} else if s.dead.Swap(false) && s.policy.MaxStale == 0 {
		s.feed.ExpireAt(time.Time{})
	}
	for _, e := range entries {
		i := find(known, e.id())
		switch {
		case i < 0 && s.published[e.id()]:
			s.observe(Event{Kind: EventCreated, KeyID: e.id()})
		case i < 0:
			s.observe(Event{Kind: EventLearned, KeyID: e.id()})
		}
		if e.revoked != 0 && (i < 0 || known[i].revoked == 0) {
			s.observe(Event{Kind: EventRevoked, KeyID: e.id()})
		}
	}
	for _, e := range known {
		if find(entries, e.id()) < 0 {
			s.observe(Event{Kind: EventRemoved, KeyID: e.id()})
		}
	}
}

// confirm notes that a document was read, after the store was asked for it. The
// caller has keys locked.
func (s *Syncer) confirm(d document, asked time.Time) {
	if s.policy.MaxStale > 0 && !s.dead.Load() {
		s.feed.ExpireAt(asked.Add(s.policy.MaxStale))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Revision, s.status.WrappingKeyID, s.read = d.revision, d.wrappingID, asked
}

// report notes how a reconciliation has ended.
func (s *Syncer) report(err error) {
	s.mu.Lock()
	s.status.Err = err
	s.mu.Unlock()
	s.keys.Lock()
	defer s.keys.Unlock()
	if err != nil {
		s.observe(Event{Kind: EventFailed, Err: err})
	}
	now := s.now().UnixMilli()
	due := now - (s.policy.RotateEvery + s.policy.Lead).Milliseconds()
	if e, ok := sealing(s.known, now); ok && e.activates < due {
		s.observe(Event{Kind: EventLate, KeyID: e.id()})
	}
}

var (
	errAllRevoked = fmt.Errorf("keystore: all keys are revoked, and the store has no other yet: %w", sealed.ErrUnverified)
	errStale      = fmt.Errorf("keystore: no news from the store for too long: %w", sealed.ErrUnverified)
)

// Health returns nil, or why sessions cannot be verified: for a readiness probe.
func (s *Syncer) Health() error {
	if s.dead.Load() {
		return errAllRevoked
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.policy.MaxStale > 0 && time.Since(s.read) >= s.policy.MaxStale {
		return errStale
	}
	return nil
}

// Status describes the keys, and the last reconciliation with the store. It waits for
// nothing.
func (s *Syncer) Status() Status {
	s.mu.Lock()
	status, read := s.status, s.read
	s.mu.Unlock()
	status.Health, status.Age = s.Health(), time.Since(read)
	status.Keys = s.ring.Keys()
	for i := range status.Keys {
		if s.dead.Load() {
			status.Keys[i].State = sealed.KeyRevoked
		}
	}
	return status
}

func (s *Syncer) observe(e Event) {
	if s.policy.Observe != nil {
		s.policy.Observe(e)
	}
}
