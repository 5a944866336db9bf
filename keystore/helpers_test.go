package keystore_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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
