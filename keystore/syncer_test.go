package keystore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/sealed"
	"example.com/sealed/keystore"
)

// A gate is a store that can be shut, and slow.
type gate struct {
	keystore.Memory
	shut  atomic.Bool
	delay atomic.Int64
	loads atomic.Int64
}

var errShut = errors.New("the store is down")

func (g *gate) Load(ctx context.Context) ([]byte, string, error) {
	g.loads.Add(1)
	if err := g.pass(ctx); err != nil {
		return nil, "", err
	}
	return g.Memory.Load(ctx)
}

func (g *gate) Save(ctx context.Context, document []byte, version string) (string, error) {
	if err := g.pass(ctx); err != nil {
		return "", err
	}
	return g.Memory.Save(ctx, document, version)
}

func (g *gate) pass(ctx context.Context) error {
	if delay := time.Duration(g.delay.Load()); delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if g.shut.Load() {
		return errShut
	}
	return nil
}

// A recorder notes what a policy's Observe is told.
type recorder struct {
	mu     sync.Mutex
	events []string
}

func (r *recorder) observe(e keystore.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, string(e.Kind)+" "+e.KeyID)
}

func (r *recorder) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

func (r *recorder) count(kind keystore.EventKind) (n int) {
	for _, e := range r.all() {
		if strings.HasPrefix(e, string(kind)+" ") {
			n++
		}
	}
	return n
}

// quick is a policy that lets a test see a whole life of a key.
var quick = keystore.Policy{RotateEvery: time.Hour, Lead: 10 * time.Minute, Retain: 3 * time.Hour, Poll: time.Minute, CreateIfEmpty: true}

func newWrapping() []sealed.Key { return []sealed.Key{sealed.GenerateKey()} }

func mustOpen(t *testing.T, store keystore.Store, wrapping []sealed.Key, policy keystore.Policy) *keystore.Syncer {
	t.Helper()
	policy.CreateIfEmpty = true
	s, err := keystore.Open(t.Context(), store, wrapping, policy)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func manager(t *testing.T, s *keystore.Syncer) *sealed.Manager[string] {
	t.Helper()
	m, err := sealed.New(s.Keyring(), sealed.Config[string]{Purpose: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// ids returns the IDs of a syncer's keys in one state, the newest first.
func ids(s *keystore.Syncer, state sealed.KeyState) []string {
	var ids []string
	for _, k := range s.Status().Keys {
		if k.State == state {
			ids = append(ids, k.ID)
		}
	}
	return ids
}

// primary returns the ID of the key that seals.
func primary(t *testing.T, s *keystore.Syncer) string {
	t.Helper()
	keys := ids(s, sealed.KeyPrimary)
	if len(keys) != 1 {
		t.Fatalf("%d primary keys: %+v", len(keys), s.Status().Keys)
	}
	return keys[0]
}

// A key is published before it seals, seals for RotateEvery, opens for Retain
// after that, and is gone.
func TestLifeOfAKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var events recorder
		policy := quick
		policy.Observe = events.observe
		s := mustOpen(t, new(keystore.Memory), newWrapping(), policy)
		first, successors := primary(t, s), ids(s, sealed.KeyPending)
		if len(successors) != 1 {
			t.Fatalf("%d successors, want one: %+v", len(successors), s.Status().Keys)
		}
		if diff := cmp.Diff([]string{"created " + first, "created " + successors[0]}, events.all()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		activates := s.Status().Keys[0].Activates
		if late := activates.Sub(start) - quick.RotateEvery; late < 0 || late > time.Second {
			t.Errorf("the successor is due %v after the start, want %v and at most a second", activates.Sub(start), quick.RotateEvery)
		}
		time.Sleep(time.Until(activates) - time.Millisecond)
		if got := primary(t, s); got != first {
			t.Errorf("a millisecond before it is due %s seals, want still %s", got, first)
		}
		time.Sleep(time.Millisecond)
		if got := primary(t, s); got != successors[0] {
			t.Errorf("when it is due %s seals, want %s", got, successors[0])
		}
		time.Sleep(2 * quick.Poll)
		if n := len(ids(s, sealed.KeyPending)); n != 1 {
			t.Errorf("%d successors after the rotation, want the next one", n)
		}
		time.Sleep(time.Until(activates.Add(quick.Retain)) - time.Second)
		if !slices.Contains(ids(s, sealed.KeyRetiring), first) {
			t.Error("the first key is gone before its sessions have ended")
		}
		time.Sleep(2 * quick.Poll)
		if slices.Contains(ids(s, sealed.KeyRetiring), first) || !slices.Contains(events.all(), "removed "+first) {
			t.Error("the first key is still there")
		}
		time.Sleep(100 * time.Hour)
		if n := len(s.Status().Keys); n < 5 || n > 6 {
			t.Errorf("%d keys after a hundred hours: three to retain, one that seals, one or two more, want 5 or 6", n)
		}
	})
}

func TestTwoInstancesBecomeOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store keystore.Memory
		wrapping := newWrapping()
		a, b := mustOpen(t, &store, wrapping, quick), mustOpen(t, &store, wrapping, quick)
		if diff := cmp.Diff(a.Status().Keys, b.Status().Keys); diff != "" {
			t.Errorf("keys of two instances:\n%s", diff)
		}
		id, err := a.Rotate(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(ids(a, sealed.KeyPending), id) {
			t.Error("the new key is not in the ring of who made it")
		}
		time.Sleep(2 * quick.Poll)
		if !slices.Contains(ids(b, sealed.KeyPending), id) {
			t.Error("the new key has not reached the other instance")
		}
		time.Sleep(quick.Lead)
		if primary(t, a) != id || primary(t, b) != id {
			t.Errorf("after the lead %s and %s seal, want %s", primary(t, a), primary(t, b), id)
		}
	})
}

// The keys outlive the process; a second wrapping key, and a wrong one.
func TestOpenAgain(t *testing.T) {
	var store keystore.Memory
	wrapping := newWrapping()
	a := mustOpen(t, &store, wrapping, quick)
	token, err := manager(t, a).Seal("alice")
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
	b := mustOpen(t, &store, wrapping, quick)
	if got, _, err := manager(t, b).Open(t.Context(), token); err != nil || got != "alice" {
		t.Errorf("after a restart: %q, %v", got, err)
	}
	before, _, _ := store.Load(t.Context())
	if _, err := keystore.Open(t.Context(), &store, newWrapping(), quick); err == nil || !strings.Contains(err.Error(), wrapping[0].ID()) {
		t.Errorf("with a wrong wrapping key: %v, want an error that names the right one's ID", err)
	}
	if after, _, _ := store.Load(t.Context()); string(after) != string(before) {
		t.Error("an instance that cannot read the document has written it")
	}
}

// Changing the wrapping key: first every instance can open with the new one, then
// each seals with it, then the old one goes.
func TestChangeOfTheWrappingKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store keystore.Memory
		before, after := sealed.GenerateKey(), sealed.GenerateKey()
		underOf := func() string {
			d, err := keystore.Read(t.Context(), &store, []sealed.Key{before, after})
			if err != nil {
				t.Fatal(err)
			}
			return d.WrappingKeyID
		}
		var instances [3]*keystore.Syncer
		restart := func(i int, wrapping ...sealed.Key) {
			if instances[i] != nil {
				instances[i].Close()
			}
			var err error
			if instances[i], err = keystore.Open(t.Context(), &store, wrapping, quick); err != nil {
				t.Fatalf("instance %d: %v", i, err)
			}
			time.Sleep(3 * quick.Poll)
			for i, s := range instances {
				if s != nil && s.Status().Err != nil {
					t.Fatalf("instance %d, under %s: %v", i, underOf(), s.Status().Err)
				}
			}
		}
		for i := range instances {
			restart(i, before)
		}
		id := primary(t, instances[0])
		for i := range instances {
			restart(i, before, after)
		}
		if got := underOf(); got != before.ID() {
			t.Errorf("after the first step the document is under %s, want still %s", got, before.ID())
		}
		for i := range instances {
			restart(i, after, before)
			// Those that still have the old one first do not change it back.
			if got := underOf(); got != after.ID() {
				t.Errorf("in the second step, with %d instances changed, the document is under %s, want %s", i+1, got, after.ID())
			}
		}
		for i, s := range instances {
			if got := s.Status().WrappingKeyID; got != after.ID() {
				t.Errorf("instance %d reports %s, want %s", i, got, after.ID())
			}
		}
		for i := range instances {
			restart(i, after)
		}
		for i, s := range instances {
			if got := primary(t, s); got != id {
				t.Errorf("instance %d seals with %s, want %s as ever", i, got, id)
			}
			s.Close()
		}
	})
}

// A store that is down changes nothing until a key is due; then that goes on, and
// somebody is told. With MaxStale it is another matter.
func TestStoreDown(t *testing.T) {
	for _, maxStale := range []time.Duration{0, 20 * time.Minute} {
		t.Run(fmt.Sprint("MaxStale ", maxStale), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var store gate
				var events recorder
				policy := quick
				policy.MaxStale = maxStale
				policy.Observe = events.observe
				s := mustOpen(t, &store, newWrapping(), policy)
				m := manager(t, s)
				token, err := m.Seal("alice")
				if err != nil {
					t.Fatal(err)
				}
				store.shut.Store(true)
				open := func() error {
					_, _, err := m.Open(t.Context(), token)
					return err
				}
				time.Sleep(18 * time.Minute)
				if err := open(); err != nil {
					t.Errorf("after 18 minutes: %v", err)
				}
				if n := events.count(keystore.EventFailed); n < 15 || s.Status().Err == nil {
					t.Errorf("%d failures were reported, status %v", n, s.Status().Err)
				}
				time.Sleep(2 * time.Minute)
				if err := open(); maxStale > 0 && !errors.Is(err, sealed.ErrUnverified) || maxStale == 0 && err != nil {
					t.Errorf("after 20 minutes: %v", err)
				}
				time.Sleep(45 * time.Minute)
				if maxStale == 0 {
					if ids(s, sealed.KeyPending) != nil {
						t.Error("the successor does not seal, although the store is down")
					}
					if events.count(keystore.EventLate) != 0 {
						t.Error("told that a key is late, which is not")
					}
				}
				time.Sleep(75 * time.Minute)
				if events.count(keystore.EventLate) == 0 {
					t.Error("not told that a key is late")
				}
				store.shut.Store(false)
				time.Sleep(2 * quick.Poll)
				if err := open(); err != nil {
					t.Errorf("after the store has come back: %v", err)
				}
				if s.Status().Err != nil || len(ids(s, sealed.KeyPending)) != 1 {
					t.Errorf("after the store has come back: %+v", s.Status())
				}
			})
		})
	}
}

// An instance does not start without keys.
func TestOpenFails(t *testing.T) {
	var store gate
	store.shut.Store(true)
	if _, err := keystore.Open(t.Context(), &store, newWrapping(), quick); !errors.Is(err, errShut) {
		t.Errorf("with the store down: %v", err)
	}
	store.shut.Store(false)
	key := sealed.GenerateKey()
	for name, wrapping := range map[string][]sealed.Key{"none": nil, "the zero key": {{}}, "one twice": {key, key}} {
		if _, err := keystore.Open(t.Context(), &store, wrapping, quick); err == nil || !strings.HasPrefix(err.Error(), "keystore: ") {
			t.Errorf("with %s for wrapping: %v", name, err)
		}
	}
}

// Close ends a reconciliation that is under way, and leaves no goroutine, which
// synctest would report.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store gate
		s := mustOpen(t, &store, newWrapping(), quick)
		store.delay.Store(int64(time.Hour))
		time.Sleep(2 * quick.Poll)
		start := time.Now()
		s.Close()
		s.Close()
		if took := time.Since(start); took != 0 {
			t.Errorf("Close took %v", took)
		}
		if _, err := manager(t, s).Seal("alice"); err != nil {
			t.Errorf("the keyring of a closed Syncer: %v", err)
		}
	})
}

// A document that goes back in time is healed, and reported.
func TestRolledBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(keystore.Memory)
		wrapping := newWrapping()
		var events recorder
		policy := quick
		policy.Observe = events.observe
		s := mustOpen(t, store, wrapping, policy)
		old, _, _ := store.Load(t.Context())
		id, err := s.Rotate(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Revoke(t.Context(), primary(t, s)); err != nil {
			t.Fatal(err)
		}
		want := s.Status().Keys
		_, version, _ := store.Load(t.Context())
		if _, err := store.Save(t.Context(), old, version); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * quick.Poll)
		if n := events.count(keystore.EventRolledBack); n != 1 {
			t.Errorf("told %d times of an old document, want once", n)
		}
		d, err := keystore.Read(t.Context(), store, wrapping)
		if err != nil || len(d.Keys) != len(want) || d.Revision != s.Status().Revision {
			t.Errorf("the store has %d keys at revision %d, %v, want %d", len(d.Keys), d.Revision, err, len(want))
		}
		if diff := cmp.Diff(want, s.Status().Keys); diff != "" || !slices.Contains(ids(s, sealed.KeyPending), id) {
			t.Errorf("keys (-before +after):\n%s", diff)
		}
	})
}

// A key that somebody has dated far ahead is no successor: rotation goes on.
func TestKeyDatedFarAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store keystore.Memory
		var events recorder
		wrapping := newWrapping()
		policy := quick
		policy.Observe = events.observe
		s := mustOpen(t, &store, wrapping, policy)
		if _, err := keystore.Rotate(t.Context(), &store, wrapping, 365*24*time.Hour); err != nil {
			t.Fatal(err)
		}
		// An instance whose clock is a month ahead, for a moment.
		ahead, err := keystore.OpenSkewed(t.Context(), &store, wrapping, quick, 30*24*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		ahead.Close()
		for range 10 {
			before := primary(t, s)
			time.Sleep(quick.RotateEvery + quick.Lead)
			if primary(t, s) == before {
				t.Fatalf("%s seals on", before)
			}
		}
		if n := len(s.Status().Keys); n > 8 {
			t.Errorf("%d keys", n)
		}
		if n := events.count(keystore.EventLate); n > 0 {
			t.Errorf("told %d times that a key is late", n)
		}
	})
}

// A deploy is no failure of the store.
func TestCloseInAnExchange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store gate
		var events recorder
		policy := quick
		policy.Observe = events.observe
		s := mustOpen(t, &store, newWrapping(), policy)
		store.delay.Store(int64(5 * time.Second))
		for n := store.loads.Load(); store.loads.Load() == n; {
			time.Sleep(time.Second)
		}
		s.Close()
		if n := events.count(keystore.EventFailed); n > 0 || s.Status().Err != nil {
			t.Errorf("told of %d failures, status %v", n, s.Status().Err)
		}
	})
}

// A mistyped name, or a store that has lost its data, makes no second fleet.
func TestEmptyStoreIsAnError(t *testing.T) {
	var store keystore.Memory
	wrapping := newWrapping()
	policy := quick
	policy.CreateIfEmpty = false
	if _, err := keystore.Open(t.Context(), &store, wrapping, policy); !errors.Is(err, keystore.ErrEmpty) || !strings.Contains(err.Error(), "sealed keys init") {
		t.Errorf("Open: %v, want ErrEmpty", err)
	}
	if document, _, err := store.Load(t.Context()); document != nil || err != nil {
		t.Errorf("Open has written to it: %v", err)
	}
	id, err := keystore.Init(t.Context(), &store, wrapping)
	if err != nil {
		t.Fatal(err)
	}
	s, err := keystore.Open(t.Context(), &store, wrapping, policy)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if keys := s.Keyring().Keys(); len(keys) != 2 || keys[1].ID != id || keys[1].State != sealed.KeyPrimary { // and its successor
		t.Errorf("%+v, want %s", keys, id)
	}
	if _, err := keystore.Init(t.Context(), &store, wrapping); err == nil || errors.Is(err, keystore.ErrEmpty) {
		t.Errorf("Init of a store with keys: %v", err)
	}
	// One that runs gives an emptied store its keys back.
	version := ""
	if _, version, err = store.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Save(t.Context(), nil, version); err != nil {
		t.Fatal(err)
	}
	if err := s.Refresh(t.Context()); err != nil {
		t.Errorf("Refresh of an emptied store: %v", err)
	}
	if d, err := keystore.Read(t.Context(), &store, wrapping); err != nil || len(d.Keys) != 2 {
		t.Errorf("the store has %d keys, %v", len(d.Keys), err)
	}
}

// saving counts the writes of a store.
type saving struct {
	keystore.Memory
	saves atomic.Int32
}

func (s *saving) Save(ctx context.Context, document []byte, version string) (string, error) {
	s.saves.Add(1)
	return s.Memory.Save(ctx, document, version)
}

// Two policies in one fleet, as while a new version is rolled out, do not write in turns.
func TestTwoPoliciesConverge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store saving
		wrapping := newWrapping()
		var conflicts atomic.Int32
		blue, green := quick, quick
		blue.Retain, green.Retain = 20*time.Hour, 90*time.Minute
		blue.Observe = func(e keystore.Event) {
			if e.Kind == keystore.EventConflict {
				conflicts.Add(1)
			}
		}
		a, b := mustOpen(t, &store, wrapping, blue), mustOpen(t, &store, wrapping, green)
		defer a.Close()
		defer b.Close()
		m := manager(t, a)
		token, err := m.Seal("alice")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(12 * time.Hour)
		before := store.saves.Load()
		time.Sleep(6 * time.Hour)
		// A rotation an hour is two writes, the new key and the old one that goes, and a
		// few more until one has yielded.
		if n := store.saves.Load() - before; n > 6*8 {
			t.Errorf("%d writes in six hours, with six rotations", n)
		}
		if conflicts.Load() == 0 {
			t.Error("nobody was told that the policies differ")
		}
		if got, _, err := m.Open(t.Context(), token); err != nil || got != "alice" {
			t.Errorf("where keys are kept for twenty hours, after eighteen: %q, %v", got, err)
		}
		if a.Status().Err != nil || b.Status().Err != nil {
			t.Errorf("%v, %v", a.Status().Err, b.Status().Err)
		}
	})
}
