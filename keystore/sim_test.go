package keystore_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"example.com/sealed"
	"example.com/sealed/keystore"
)

var (
	seeds     = flag.Int("seeds", 0, "how many seeds the simulation runs; by default 2000, or 200 under -race")
	firstSeed = flag.Int("seed", 0, "the first seed of the simulation")
)

// The simulation's times.
const (
	simRefresh  = 30 * time.Second
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
	simBound = simLead - 2*simSkew - 10*time.Second
)

// A world is a store, the instances of an application, and what goes wrong.
type world struct {
	t    *testing.T
	rng  *rand.Rand
	wrap []sealed.Key

	mu        sync.Mutex // never held while anything sleeps
	memory    *keystore.Memory
	offset    string            // makes the versions of a replaced store new
	current   []sealed.KeyEntry // what the store holds
	decoded   map[string][]sealed.KeyEntry
	history   [][]byte                   // all that it ever held
	published map[string]time.Time       // when a key was first in the store
	revoked   map[string]bool            // what anybody has revoked
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
		t: t, rng: rand.New(rand.NewPCG(seed, 0)), wrap: []sealed.Key{sealed.GenerateKey()}, memory: new(keystore.Memory),
		published: map[string]time.Time{}, decoded: map[string][]sealed.KeyEntry{}, revoked: map[string]bool{}, scheduled: map[string]bool{}, lacking: map[string]sealed.KeyEntry{},
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
	return i.flaky && i.w.rng.IntN(5) == 0, i.flaky && i.w.rng.IntN(3) == 0
}

// travel is one way between an instance and the store.
func (i *instance) travel(fails bool) error {
	i.w.mu.Lock()
	delay := time.Duration(i.w.rng.IntN(20)) * time.Millisecond
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
	policy := keystore.Policy{RotateEvery: simRotate, Lead: simLead, Retain: simRetain, Refresh: simRefresh, MaxStale: simStale}
	var err error
	if i.keys, err = keystore.OpenSkewed(w.t.Context(), i, w.wrap, policy, skew); err != nil {
		w.breaks("an instance cannot start: %v", err)
		return
	}
	if i.manager, err = sealed.New(i.keys.Keyring(), sealed.Config[struct{}]{Lifetime: simLifetime}); err != nil {
		w.t.Fatal(err)
	}
	w.instances = append(w.instances, i)
	w.note("%s starts, its clock is off by %v", i.name, skew)
}

func (w *world) pick() *instance { return w.instances[w.rng.IntN(len(w.instances))] }

// cutOff reports whether an instance has not read the store for d.
func (i *instance) cutOff(d time.Duration) bool { return time.Since(i.read) >= d }

// seal seals a token: with a key that every instance has had the time to read.
func (w *world) seal(i *instance) {
	text, err := i.manager.Seal(struct{}{})
	if errors.Is(err, sealed.ErrUnverified) {
		if w.mu.Lock(); !i.cutOff(simStale) && !i.unsaved {
			w.breaks("%s does not seal, although it has news: %v", i.name, err)
		}
		w.mu.Unlock()
		return
	}
	if err != nil {
		w.breaks("%s cannot seal: %v", i.name, err)
		return
	}
	_, info, err := i.manager.Open(w.t.Context(), text)
	if err != nil {
		w.breaks("%s does not open what it sealed: %v", i.name, err)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	published, ok := w.published[info.KeyID]
	if !ok {
		w.breaks("%s seals with %s, which was never in the store", i.name, info.KeyID)
	}
	// With the key that sealed revoked and the store out of reach, the next one
	// seals early rather than none.
	if known := time.Since(published); w.scheduled[info.KeyID] && known < simBound && !i.unsaved {
		w.breaks("%s seals with %s, which was published only %v ago", i.name, info.KeyID, known)
	}
	w.tokens = append(w.tokens, token{text, info.KeyID, time.Now(), !i.cutOff(simBound) && !i.unsaved && !i.misled()})
}

// misled reports whether an instance knows only a store that had lost something,
// and has not read it since somebody gave it back. The caller has the lock.
func (i *instance) misled() bool {
	restored := i.w.restored.After(i.w.lost) && i.read.After(i.w.restored)
	return i.started.After(i.w.lost) && !i.w.lost.IsZero() && !restored
}

// probe opens a token on every instance, and judges the answers.
func (w *world) probe(tok token) {
	for _, i := range slices.Clone(w.instances) {
		w.mu.Lock()
		revoked, seen := i.revoked[tok.key], i.seen[tok.key]
		w.mu.Unlock()
		err := i.open(tok)
		askable := false
		if err != nil && !seen {
			// The request may ask, unless another one has just asked: a client
			// that comes again is served.
			askable = i.canAskFor(tok.key)
			time.Sleep(1500 * time.Millisecond)
			err = i.open(tok)
		}
		w.mu.Lock()
		switch age := time.Since(tok.sealed); {
		case err == nil && age >= simLifetime:
			w.breaks("%s opens a token that is %v old", i.name, age)
		case err == nil && revoked:
			w.breaks("%s opens a token under %s, which it knows to be revoked", i.name, tok.key)
		case err == nil && i.cutOff(simStale):
			w.breaks("%s opens a token, although it has no news since %v", i.name, time.Since(i.read))
		case err == nil || age >= simLifetime || !tok.inBound || w.revoked[tok.key]:
		case errors.Is(err, sealed.ErrUnverified):
			if !i.cutOff(simStale) && !i.unsaved {
				w.breaks("%s cannot verify, although it has news: %v", i.name, err)
			}
		default:
			w.mayReject(i, tok, askable, err)
		}
		w.mu.Unlock()
	}
}

func (i *instance) open(tok token) error {
	_, _, err := i.manager.Open(i.w.t.Context(), tok.text)
	synctest.Wait()
	return err
}

// canAskFor reports whether the instance reaches a store that has the key.
func (i *instance) canAskFor(key string) bool {
	i.w.mu.Lock()
	defer i.w.mu.Unlock()
	return i.w.has(key, false) && !i.partitioned && !i.flaky
}

// mayReject judges that an instance has rejected a valid token. The caller has
// the lock.
func (w *world) mayReject(i *instance, tok token, askable bool, err error) {
	published := w.published[tok.key]
	restored := w.restored.After(w.lost) && i.read.After(w.restored)
	forgotten := w.lost.After(published) && !restored // it may have read the store when that lacked the key
	switch {
	case i.seen[tok.key]:
		w.breaks("%s rejects a token under %s, which it has read: %v", i.name, tok.key, err)
	case askable && !i.partitioned && !i.flaky:
		w.breaks("%s rejects a token under %s, which it can ask for: %v", i.name, tok.key, err)
	case w.scheduled[tok.key] && !i.cutOff(simBound) && !forgotten:
		w.breaks("%s rejects a token under %s, published %v ago, and has read the store %v ago: %v", i.name, tok.key, time.Since(published), time.Since(i.read), err)
	}
}

// step lets something happen.
func (w *world) step() {
	time.Sleep(time.Duration(w.rng.IntN(12000)) * time.Millisecond)
	synctest.Wait() // what was read by now is in the ring by now
	i := w.pick()
	switch n := w.rng.IntN(100); {
	case n < 38:
		w.seal(i)
	case n < 65 && len(w.tokens) > 0:
		w.probe(w.tokens[len(w.tokens)-1-w.rng.IntN(min(len(w.tokens), 12))])
	case n < 72:
		w.toggle(i, &i.partitioned, "cut off")
	case n < 79:
		w.toggle(i, &i.flaky, "flaky")
	case n < 84 && len(w.instances) < 5:
		w.start()
	case n < 87 && w.spare(i):
		w.note("%s stops", i.name)
		i.keys.Close()
		w.instances = slices.DeleteFunc(w.instances, func(x *instance) bool { return x == i })
	case n < 89 && w.calm():
		w.lose()
	case n < 92:
		w.rotate(i)
	case n < 95:
		w.revoke(i)
	case n < 97:
		w.together(i, w.pick())
	}
}

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

// rotate makes a key out of turn. What is acknowledged was done, and what was
// done is acknowledged if the store could be asked.
func (w *world) rotate(i *instance) {
	w.mu.Lock()
	i.loadFailed = false
	w.changes = append(w.changes, time.Now())
	w.mu.Unlock()
	id, err := i.keys.Rotate(w.t.Context())
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("%s rotates to %s: %v", i.name, id, err)
	switch {
	case err == nil && !w.has(id, false):
		w.breaks("%s has acknowledged the key %s, which the store does not have", i.name, id)
	case err != nil && w.has(id, false) && !i.loadFailed:
		w.breaks("%s has published %s, could read the store, and says: %v", i.name, id, err)
	}
}

func (w *world) revoke(i *instance) {
	var ids []string
	for _, k := range i.keys.Keyring().Keys() {
		if k.State != sealed.KeyRevoked {
			ids = append(ids, k.ID)
		}
	}
	if len(ids) > 0 {
		w.revokeKey(i, ids[w.rng.IntN(len(ids))])
	}
}

func (w *world) revokeKey(i *instance, id string) {
	w.mu.Lock()
	i.loadFailed = false
	i.unsaved = true
	w.changes = append(w.changes, time.Now())
	w.mu.Unlock()
	err := i.keys.Revoke(w.t.Context(), id)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("%s revokes %s: %v", i.name, id, err)
	i.revoked[id], w.revoked[id] = true, true
	i.unsaved = err != nil
	switch {
	case err == nil && w.has(id, false) && !w.has(id, true): // it may have been dropped meanwhile
		w.breaks("%s has acknowledged the revocation of %s, which the store does not have", i.name, id)
	case err != nil && w.has(id, true) && !i.loadFailed:
		w.breaks("%s has revoked %s, could read the store, and says: %v", i.name, id, err)
	}
}

// together has two instances change the store at once, which is what
// compare-and-swap is for.
func (w *world) together(a, b *instance) {
	if a == b {
		return
	}
	primary := ""
	for _, k := range a.keys.Keyring().Keys() {
		if k.State == sealed.KeyPrimary {
			primary = k.ID
		}
	}
	var both sync.WaitGroup
	both.Go(func() { w.revokeKey(a, primary) })
	both.Go(func() { w.rotate(b) })
	both.Wait()
	w.seal(a)
}

// saved notes when an instance has told the store of all it knows.
func (w *world) saved() {
	for _, i := range w.instances {
		if i.keys.Status().Err == nil {
			w.mu.Lock()
			i.unsaved = i.unsaved && slices.ContainsFunc(i.keys.Keyring().Keys(), func(k sealed.KeyInfo) bool {
				return k.State == sealed.KeyRevoked && !w.has(k.ID, true)
			})
			w.mu.Unlock()
		}
	}
}

// bounded checks that keys do not pile up: those to retain, the successor, and
// two for each that was made out of turn, for as long as it is retained.
func (w *world) bounded() {
	w.mu.Lock()
	defer w.mu.Unlock()
	recent := 0
	for _, t := range append(w.changes, w.lost) {
		if time.Since(t) < simRetain+simRotate+simLead {
			recent++
		}
	}
	for _, i := range w.instances {
		if i.cutOff(2 * simRefresh) {
			continue
		}
		keys := i.keys.Keyring().Keys()
		if n := len(keys); n > 4+2*recent {
			w.breaks("%s has %d keys, with %d made out of turn", i.name, n, recent)
		}
		for n, k := range keys[1:] {
			if old := time.Since(keys[n].Activates); old > simRetain+2*simSkew+2*simRefresh {
				w.breaks("%s has kept %s, whose successor was activated %v ago", i.name, k.ID, old)
			}
		}
	}
}

// heal ends all faults, and checks that all rings become one.
func (w *world) heal() {
	w.mu.Lock()
	for _, i := range w.instances {
		i.partitioned, i.flaky = false, false
	}
	w.mu.Unlock()
	time.Sleep(4 * simRefresh)
	differs := "?"
	for n := 0; n < 5 && differs != ""; n++ { // an instance may just have made a key
		for _, i := range w.instances {
			if err := i.keys.Refresh(w.t.Context()); err != nil {
				w.breaks("%s has not recovered: %v", i.name, err)
			}
		}
		differs = w.differs()
	}
	if differs != "" {
		w.breaks("the rings have not become one: %s", differs)
	}
	w.saved()
	if len(w.lacking) > 0 {
		w.breaks("the store never got back what it has lost: %v", w.lacking)
	}
	for range 3 {
		w.seal(w.pick())
		w.probe(w.tokens[len(w.tokens)-1])
	}
}

// differs says how the ring of an instance differs from the store, or is empty. A
// key that is about to be dropped, the fastest clocks have dropped already.
func (w *world) differs() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	want := map[string]bool{} // ID: revoked
	for _, e := range w.current {
		if !w.outlived(e, w.current, time.Now()) {
			want[e.Key.ID()] = e.Revoked
		}
	}
	for _, i := range w.instances {
		got := map[string]bool{}
		for _, k := range i.keys.Keyring().Keys() {
			if _, ok := want[k.ID]; ok {
				got[k.ID] = k.State == sealed.KeyRevoked
			}
		}
		if !maps.Equal(got, want) {
			return fmt.Sprintf("%s has %v, the store %v", i.name, got, want)
		}
	}
	return ""
}

// simulate runs one seed. It fixes what happens to the instances; which of two that
// act at one instant comes first it does not, so a rare failure may not repeat.
func simulate(t *testing.T, seed uint64) (broken string, log []string) {
	cryptotest.SetGlobalRandom(t, seed)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, seed)
		for range 2 + w.rng.IntN(3) {
			w.start()
		}
		for end := time.Now().Add(simLength); time.Now().Before(end) && w.broken == ""; {
			w.step()
			synctest.Wait()
			w.saved()
			w.bounded()
		}
		if w.broken == "" {
			w.heal()
		}
		for _, i := range w.instances {
			i.keys.Close()
		}
		broken, log = w.broken, w.log
	})
	return broken, log
}

// Instances with skewed clocks, cut off, restarted, in conflict, on a store that
// fails, forgets and goes back in time: no session is lost, and none that should
// be dead lives.
func TestSimulation(t *testing.T) {
	n := *seeds
	if n == 0 {
		n = 2000
		if raceEnabled {
			n = 200 // it is ten times as slow
		}
	}
	for seed := *firstSeed; seed < *firstSeed+n; seed++ {
		if broken, log := simulate(t, uint64(seed)); broken != "" {
			t.Fatalf("seed %d: %s\n%s", seed, broken, strings.Join(log[max(0, len(log)-40):], "\n"))
		}
	}
	t.Logf("%d seeds", n)
}
