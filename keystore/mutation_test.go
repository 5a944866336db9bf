package keystore_test

import (
	"testing"

	"example.com/sealed/internal/mutation"
)

var mutations = mutation.Mutations{
	"a lead of zero": {
		{"due = max(due, now+p.Lead.Milliseconds())", "due = now + 1"},
		{"now+lead.Milliseconds()", "now+min(1, lead.Milliseconds())"},
	},
	"no union with what was known": {{"merge(d.entries, s.known)", "merge(d.entries, nil)"}},
	"a blind write in place of compare-and-swap": {
		{"_, failed = c.store.Save(ctx, next, version)", "_, version, _ = c.store.Load(ctx)\n_, failed = c.store.Save(ctx, next, version)"},
	},
	"sealing with a key that was not read back": {
		{"return want, nil", "s.adopt(want)\nreturn want, nil"},
	},
	"no reading again when a write has timed out": {
		{"_, failed = c.store.Save(ctx, next, version)", "if _, failed = c.store.Save(ctx, next, version); failed != nil && !errors.Is(failed, ErrConflict) {\nreturn failed\n}"},
	},
	"no retry on conflict": {
		{"_, failed = c.store.Save(ctx, next, version)", "if _, failed = c.store.Save(ctx, next, version); errors.Is(failed, ErrConflict) {\nreturn nil\n}"},
	},
	"a revocation that is not merged":              {{"max(union[i].revoked, e.revoked)", "union[i].revoked"}},
	"a revoked key that goes on in the ring":       {{"e.revoked != 0,", "false,"}},
	"a key dropped before its sessions have ended": {{"later.activates+retain.Milliseconds() <= now", "later.activates <= now"}},
	"keys that are never dropped":                  {{"later.activates+retain.Milliseconds() <= now", "false"}},
	"no question about an unknown key":             {{"s.feed.OnUnknownKey(s.unknownKey)", "_ = s.unknownKey"}},
	"a ring that never expires":                    {{"s.feed.ExpireAt(asked.Add(s.policy.MaxStale))", "_ = asked"}},
	"a ring that is not told of news":              {{"s.confirm(d, asked)", "if s.Status().Revision == 0 { s.confirm(d, asked) }"}},
	"a new key for one that has never sealed":      {{"e.revoked < e.activates && !e.immediate() &&", "false &&"}},
	"no new key for a compromised one":             {{"withSuccessor(withPrimary(prune(entries, now, p.Retain), now, p.Lead), now, p)", "withSuccessor(prune(entries, now, p.Retain), now, p)"}},
}

// Every mutation must fail the simulation, or that would prove nothing. The seeds
// are few: a mutation that needs more is not caught often enough.
func TestSimulationCatchesMutations(t *testing.T) {
	mutation.Catch(t, "TestSimulation", mutations, "-seeds", "300")
}
