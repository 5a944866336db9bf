package keystore

import (
	"crypto/rand"
	"math/big"
	"slices"
	"time"

	"example.com/sealed"
)

// This file decides which keys there should be at a time. What it decides follows
// from the document and the time alone, so that all instances come to the same.

// plan returns what the document should hold at the time now: entries, as merge
// has sorted them, less those that no session can need, with a new key in the
// place of a compromised one, and with a successor to the one that seals.
func plan(entries []entry, now int64, p Policy) []entry {
	return withSuccessor(withPrimary(prune(entries, now, p.Retain), now, p.Lead), now, p)
}

// prune drops the keys whose successor was activated so long ago that no session
// under them can be left. Until then a revoked key keeps its mark. A successor
// counts if it was revoked as well: what one instance has dropped must never seem
// needed again, or another one that was cut off could bring back a key without its
// mark. So it is the times that decide, which nobody changes.
func prune(entries []entry, now int64, retain time.Duration) []entry {
	var kept []entry
	for i, e := range entries {
		gone := slices.ContainsFunc(entries[i+1:], func(later entry) bool {
			return later.activates > e.activates && later.activates+retain.Milliseconds() <= now
		})
		if !gone {
			kept = append(kept, e)
		}
	}
	return kept
}

// withPrimary adds a new key if there is none that seals, or if it was revoked:
// the older ones were there to be stolen as well. Sessions under the revoked key
// are lost anyway, so the new one need not wait to be known.
//
// A key that was revoked before its time has never sealed. The one before it goes
// on until a successor takes over, for lead after that time at most: prune counts
// on it.
func withPrimary(entries []entry, now int64, lead time.Duration) []entry {
	from := now
	for _, e := range slices.Backward(entries) {
		if e.activates > now && !e.immediate() {
			continue
		}
		if e.revoked == 0 {
			return entries
		}
		if e.revoked < e.activates && !e.immediate() && now-e.activates < lead.Milliseconds() {
			continue
		}
		from = max(now, e.activates)
		break
	}
	return add(entries, from, from)
}

// withSuccessor adds the key that is to follow the one that seals, unless it is
// there. Keys that somebody has dated further ahead stay, and do not count.
func withSuccessor(entries []entry, now int64, p Policy) []entry {
	sealing, _ := sealing(entries, now)
	due := min(sealing.activates, now) + p.RotateEvery.Milliseconds()
	for _, e := range entries {
		if e.revoked != 0 && e.activates > sealing.activates {
			due = min(due, e.activates) // when a successor was promised: see withPrimary
		}
	}
	due = max(due, now+p.Lead.Milliseconds())
	// What another instance has planned, by a clock and at a time of its own, is
	// near enough.
	planned := slices.ContainsFunc(entries, func(e entry) bool {
		return e.revoked == 0 && e.activates > now && e.activates <= due+p.Lead.Milliseconds() && !e.immediate()
	})
	if planned {
		return entries
	}
	// Two instances that cannot see each other's should not give one time to
	// two keys: then each could take another for the newer.
	spread := jitter(min(time.Second, p.RotateEvery/100))
	return add(entries, now, due+spread.Milliseconds())
}

// sealing returns the key that seals at the time now.
func sealing(entries []entry, now int64) (entry, bool) {
	for _, e := range slices.Backward(entries) {
		if e.revoked == 0 && (e.activates <= now || e.immediate()) {
			return e, true
		}
	}
	return entry{}, false
}

// add adds a new key. Neither its ID nor its activation occurs in entries.
func add(entries []entry, created, activates int64) []entry {
	fresh := created == activates
	for slices.ContainsFunc(entries, func(e entry) bool { return e.activates == activates }) {
		activates++
	}
	if fresh {
		created = activates
	}
	for {
		key := sealed.GenerateKey()
		if find(entries, key.ID()) < 0 {
			return merge(entries, []entry{{key: key, created: created, activates: activates}})
		}
	}
}

// jitter returns a random duration of at most d.
func jitter(d time.Duration) time.Duration {
	n, err := rand.Int(rand.Reader, big.NewInt(int64(d)+1))
	if err != nil {
		return d // crypto/rand ends the program before it fails
	}
	return time.Duration(n.Int64())
}

// revoke marks keys as revoked, and returns the IDs that entries do not have.
func revoke(entries []entry, now int64, ids []string) (marked []entry, unknown []string) {
	marked = slices.Clone(entries)
	for _, id := range ids {
		i := find(marked, id)
		switch {
		case i < 0:
			unknown = append(unknown, id)
		case marked[i].revoked == 0:
			marked[i].revoked = now
		}
	}
	return marked, unknown
}
