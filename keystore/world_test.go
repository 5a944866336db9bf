package keystore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/sealed"
	"example.com/sealed/keystore"
)

// The simulation's times.
const (
	simPoll     = 30 * time.Second
	simLead     = 5 * time.Minute
	simRotate   = 12 * time.Minute
	simLifetime = 10 * time.Minute
	simRetain   = simLifetime + simLead + time.Minute
	simStale    = 6 * time.Minute
	simSkew     = 20 * time.Second
	simLength   = 45 * time.Minute

	// simBound is how long an instance may have been cut off from the store
	// without rejecting a valid token, and without sealing one that another
	// rejects: the Lead, less twice the clocks' error, and less the longest
	// that a write takes.
	simBound = simLead - 2*simSkew - simWrite
	simWrite = 10 * time.Second
)

// A world is a store, the instances of an application, and what goes wrong.
type world struct {
	t       *testing.T
	rng     *rand.Rand // for what happens, in one goroutine
	network *rand.Rand // for how long it takes, under the lock
	wrap    []sealed.Key

	mu        sync.Mutex // never held while anything sleeps
	memory    *keystore.Memory
	offset    string            // makes the versions of a replaced store new
	current   []sealed.KeyEntry // what the store holds
	decoded   map[string][]sealed.KeyEntry
	history   [][]byte                   // all that it ever held
	published map[string]time.Time       // when a key was first in the store
	revoked   map[string]time.Time       // when somebody last revoked what
	scheduled map[string]bool            // whether a key was rotated in, or made for use at once
	lacking   map[string]sealed.KeyEntry // what the store has lost, and not got back
	lost      time.Time                  // when it last lost something
	restored  time.Time                  // when it last had all of that again
	changes   []time.Time                // when keys were made out of turn

	instances []*instance
	names     int
	tokens    []token
	log       []string
	broken    string // the invariant that does not hold
}

// An instance is one process of the application, with a clock of its own.
type instance struct {
	w       *world
	name    string
	started time.Time
	keys    *keystore.Syncer
	manager *sealed.Manager[struct{}]

	// Guarded by the world's lock.
	partitioned bool
	flaky       bool            // some calls fail, before or after they happen
	read        time.Time       // when its last complete read was asked for
	seen        map[string]bool // the keys it has read
	revoked     map[string]bool // the revocations it has read, or made
	unsaved     bool            // it has revoked a key, and the store does not know
	loadFailed  bool
}

type token struct {
	text, key string
	sealed    time.Time
	inBound   bool // sealed by an instance that was neither cut off for too long nor misled
}

var errNetwork = errors.New("the network failed")

func newWorld(t *testing.T, seed uint64) *world {
	return &world{
		t: t, rng: rand.New(rand.NewPCG(seed, 0)), network: rand.New(rand.NewPCG(seed, 1)), wrap: []sealed.Key{sealed.GenerateKey()}, memory: new(keystore.Memory),
		published: map[string]time.Time{}, decoded: map[string][]sealed.KeyEntry{}, revoked: map[string]time.Time{}, scheduled: map[string]bool{}, lacking: map[string]sealed.KeyEntry{},
	}
}

// Load and Save are the store as an instance reaches it.
func (i *instance) Load(ctx context.Context) ([]byte, string, error) {
	asked := time.Now()
	before, after := i.faults()
	if err := i.travel(before); err != nil {
		i.failedToLoad()
		return nil, "", err
	}
	document, version, err := i.w.load(ctx)
	if err := i.travel(after); err != nil {
		i.failedToLoad()
		return nil, "", err
	}
	entries := i.w.decode(document)
	i.w.mu.Lock()
	defer i.w.mu.Unlock()
	i.read = asked
	for _, e := range entries {
		i.seen[e.Key.ID()] = true
		if e.Revoked {
			i.revoked[e.Key.ID()] = true
		}
	}
	return document, version, err
}

func (i *instance) failedToLoad() {
	i.w.mu.Lock()
	defer i.w.mu.Unlock()
	i.loadFailed = true
}

func (i *instance) Save(ctx context.Context, document []byte, version string) (string, error) {
	before, after := i.faults()
	if err := i.travel(before); err != nil {
		return "", err
	}
	next, err := i.w.save(ctx, document, version)
	if err := i.travel(after); err != nil {
		return "", err // the write may have happened
	}
	return next, err
}

func (i *instance) faults() (before, after bool) {
	i.w.mu.Lock()
	defer i.w.mu.Unlock()
	return i.flaky && i.w.network.IntN(5) == 0, i.flaky && i.w.network.IntN(3) == 0
}

// travel is one way between an instance and the store.
func (i *instance) travel(fails bool) error {
	i.w.mu.Lock()
	delay := time.Duration(i.w.network.IntN(20)) * time.Millisecond
	i.w.mu.Unlock()
	time.Sleep(delay)
	i.w.mu.Lock()
	defer i.w.mu.Unlock()
	if i.partitioned || fails {
		return errNetwork
	}
	return nil
}

func (w *world) load(ctx context.Context) ([]byte, string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	document, version, err := w.memory.Load(ctx)
	if version != "" {
		version += w.offset
	}
	return document, version, err
}

func (w *world) save(ctx context.Context, document []byte, version string) (string, error) {
	entries := w.decode(document)
	w.mu.Lock()
	defer w.mu.Unlock()
	plain, ok := strings.CutSuffix(version, w.offset)
	if !ok && version != "" {
		return "", keystore.ErrConflict // a version of the store before it was replaced
	}
	next, err := w.memory.Save(ctx, document, plain)
	if err != nil {
		return "", err
	}
	w.stored(document, entries)
	return next + w.offset, nil
}

// decode opens a document by the package's own means.
func (w *world) decode(document []byte) []sealed.KeyEntry {
	if document == nil {
		return nil
	}
	w.mu.Lock()
	entries, ok := w.decoded[string(document)]
	w.mu.Unlock()
	if ok {
		return entries
	}
	var m keystore.Memory
	if _, err := m.Save(context.Background(), document, ""); err != nil {
		panic(err)
	}
	d, err := keystore.Read(context.Background(), &m, w.wrap)
	if err != nil {
		panic(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.decoded[string(document)] = d.Keys
	return d.Keys
}

// stored judges a document that was saved over the last: no write loses a key
// that a session may need, or a revocation. The caller has the lock.
func (w *world) stored(document []byte, entries []sealed.KeyEntry) {
	has := map[string]sealed.KeyEntry{}
	now := time.Now()
	for _, e := range entries {
		id := e.Key.ID()
		has[id] = e
		if _, ok := w.published[id]; !ok {
			w.published[id], w.scheduled[id] = now, !e.Created.Equal(e.Activates)
			if !w.scheduled[id] && !w.needsFresh(e, entries) {
				w.breaks("%s was made for use at once, and no key that sealed was revoked", id)
			}
		}
	}
	for _, e := range w.current {
		id := e.Key.ID()
		switch after, ok := has[id]; {
		case !ok && !w.outlived(e, entries, now):
			w.breaks("a write has lost the key %s", id)
		case ok && e.Revoked && !after.Revoked:
			w.breaks("a write has lost the revocation of %s", id)
		}
	}
	w.current, w.history = entries, append(w.history, document)
	for id, e := range w.lacking {
		if w.has(id, e.Revoked) || w.outlived(e, entries, now) {
			delete(w.lacking, id)
		}
	}
	if len(w.lacking) == 0 && w.restored.Before(w.lost) {
		w.restored = now
		w.note("the store has all again")
	}
}

// needsFresh reports whether there was a reason to make e for use at once: no other
// key, or one that was revoked when it may have sealed or was overdue.
func (w *world) needsFresh(e sealed.KeyEntry, entries []sealed.KeyEntry) bool {
	if len(w.current) == 0 {
		return true // the first of a store, or of one that was emptied
	}
	return slices.ContainsFunc(entries, func(x sealed.KeyEntry) bool {
		revoked := w.revoked[x.Key.ID()]
		sealed := revoked.After(x.Activates.Add(-2*simSkew)) || e.Activates.After(x.Activates.Add(simLead-2*simSkew))
		return x.Revoked && !x.Activates.After(e.Activates) && sealed
	})
}

// outlived reports whether no session can be left under a key: a later one has
// sealed for the time to retain, by the fastest clock.
func (w *world) outlived(e sealed.KeyEntry, entries []sealed.KeyEntry, now time.Time) bool {
	return slices.ContainsFunc(entries, func(later sealed.KeyEntry) bool {
		return later.Activates.After(e.Activates) && !later.Activates.Add(simRetain-simSkew).After(now)
	})
}

func (w *world) note(format string, args ...any) {
	w.log = append(w.log, time.Now().Format("04:05.000 ")+fmt.Sprintf(format, args...))
}

func (w *world) breaks(format string, args ...any) {
	if w.broken == "" {
		w.broken = fmt.Sprintf(format, args...)
		w.note("BROKEN: %s", w.broken)
	}
}

func (w *world) start() {
	i := &instance{w: w, name: fmt.Sprint("i", w.names), started: time.Now(), seen: map[string]bool{}, revoked: map[string]bool{}}
	w.names++
	skew := time.Duration(w.rng.Int64N(int64(2*simSkew))) - simSkew
	policy := keystore.Policy{RotateEvery: simRotate, Lead: simLead, Retain: simRetain, Poll: simPoll, MaxStale: simStale, CreateIfEmpty: true}
	var err error
	if i.keys, err = keystore.OpenSkewed(w.t.Context(), i, w.wrap, policy, skew); err != nil {
		w.breaks("an instance cannot start: %v", err)
		return
	}
	if i.manager, err = sealed.New(i.keys.Keyring(), sealed.Config[struct{}]{Purpose: "test", Lifetime: simLifetime}); err != nil {
		w.t.Fatal(err)
	}
	w.instances = append(w.instances, i)
	w.note("%s starts, its clock is off by %v", i.name, skew)
}

func (w *world) pick() *instance { return w.instances[w.rng.IntN(len(w.instances))] }

// cutOff reports whether an instance has not read the store for d.
func (i *instance) cutOff(d time.Duration) bool { return time.Since(i.read) >= d }

func (w *world) toggle(i *instance, fault *bool, what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	*fault = !*fault
	w.note("%s %s: %v", i.name, what, *fault)
}

// spare reports whether i may die: another one is left, and nothing is known to i
// alone, which nobody could save.
func (w *world) spare(i *instance) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.instances) > 1 && len(w.lacking) == 0 && !i.unsaved
}

// calm reports whether all instances have read what the store has lately: then
// it may lose everything, and get it back.
func (w *world) calm() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.lacking) > 0 {
		return false
	}
	for _, e := range w.current {
		for _, i := range w.instances {
			if !i.seen[e.Key.ID()] || e.Revoked && !i.revoked[e.Key.ID()] {
				return false
			}
		}
	}
	return true
}

// lose empties the store, or brings back an older document.
func (w *world) lose() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.current {
		w.lacking[e.Key.ID()] = e
	}
	w.memory, w.offset = new(keystore.Memory), fmt.Sprint("#", len(w.log))
	w.current = nil
	w.lost = time.Now()
	if w.rng.IntN(2) == 0 {
		w.note("the store is emptied")
		return
	}
	older := w.history[w.rng.IntN(len(w.history))]
	if _, err := w.memory.Save(context.Background(), older, ""); err != nil {
		w.t.Fatal(err)
	}
	w.current = w.decoded[string(older)]
	for id, e := range w.lacking {
		if w.has(id, e.Revoked) {
			delete(w.lacking, id)
		}
	}
	w.note("the store is rolled back")
}

// has reports whether the store holds a key, and its revocation.
func (w *world) has(key string, revoked bool) bool {
	return slices.ContainsFunc(w.current, func(e sealed.KeyEntry) bool { return e.Key.ID() == key && (e.Revoked || !revoked) })
}
