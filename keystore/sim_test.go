package keystore_test

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"example.com/sealed"
)

var (
	seeds     = flag.Int("seeds", 0, "how many seeds the simulation runs; by default 2000, or 200 under -race")
	firstSeed = flag.Int("seed", 0, "the first seed of the simulation")
)

// seal seals a token: with a key that every instance has had the time to read.
func (w *world) seal(i *instance) {
	text, err := i.manager.Seal(struct{}{})
	if errors.Is(err, sealed.ErrUnverified) {
		if w.mu.Lock(); !i.cutOff(simStale-simWrite) && !i.unsaved {
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
		case err == nil || age >= simLifetime || !tok.inBound || !w.revoked[tok.key].IsZero():
		case errors.Is(err, sealed.ErrUnverified):
			if !i.cutOff(simStale-simWrite) && !i.unsaved {
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
	w.revoked[id] = time.Now()
	w.changes = append(w.changes, time.Now())
	w.mu.Unlock()
	err := i.keys.Revoke(w.t.Context(), id)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("%s revokes %s: %v", i.name, id, err)
	i.revoked[id] = true
	i.unsaved = err != nil
	switch {
	case err == nil && w.has(id, false) && !w.has(id, true): // it may have been dropped since
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
		if i.cutOff(2*simPoll) || i.unsaved { // with all its keys revoked a ring stays as it is, and refuses
			continue
		}
		keys := i.keys.Keyring().Keys()
		if n := len(keys); n > 4+2*recent {
			w.breaks("%s has %d keys, with %d made out of turn", i.name, n, recent)
		}
		for n, k := range keys[1:] {
			if old := time.Since(keys[n].Activates); old > simRetain+2*simSkew+2*simPoll {
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
	time.Sleep(4 * simPoll)
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
