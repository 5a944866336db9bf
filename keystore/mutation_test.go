package keystore_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A mutation breaks the package in one way. Each entry of edits is a file, what
// stands in it once, and what takes its place.
var mutations = []struct {
	name  string
	edits [][3]string
}{
	{"a lead of zero", [][3]string{
		{"schedule.go", "due = max(due, now+p.Lead.Milliseconds())", "due = now + 1"},
		{"exchange.go", "now+lead.Milliseconds()", "now+min(1, lead.Milliseconds())"},
	}},
	{"no union with what was known", [][3]string{{"syncer.go", "merge(d.entries, s.known)", "merge(d.entries, nil)"}}},
	{"a blind write in place of compare-and-swap", [][3]string{
		{"exchange.go", "_, failed = c.store.Save(ctx, next, version)", "_, version, _ = c.store.Load(ctx)\n_, failed = c.store.Save(ctx, next, version)"},
	}},
	{"sealing with a key that was not read back", [][3]string{
		{"syncer.go", "return want, nil", "s.take(want)\nreturn want, nil"},
	}},
	{"no reading again when a write has timed out", [][3]string{
		{"exchange.go", "_, failed = c.store.Save(ctx, next, version)", "if _, failed = c.store.Save(ctx, next, version); failed != nil && !errors.Is(failed, ErrConflict) {\nreturn failed\n}"},
	}},
	{"no retry on conflict", [][3]string{
		{"exchange.go", "_, failed = c.store.Save(ctx, next, version)", "if _, failed = c.store.Save(ctx, next, version); errors.Is(failed, ErrConflict) {\nreturn nil\n}"},
	}},
	{"a revocation that is not merged", [][3]string{{"document.go", "max(union[i].revoked, e.revoked)", "union[i].revoked"}}},
	{"a revoked key that goes on in the ring", [][3]string{{"exchange.go", "e.revoked != 0,", "false,"}}},
	{"a key dropped before its sessions have ended", [][3]string{{"schedule.go", "later.activates+retain.Milliseconds() <= now", "later.activates <= now"}}},
	{"keys that are never dropped", [][3]string{{"schedule.go", "later.activates+retain.Milliseconds() <= now", "false"}}},
	{"no question about an unknown key", [][3]string{{"syncer.go", "s.ring.OnUnknownKey(s.unknownKey)", "_ = s.unknownKey"}}},
	{"a ring that never expires", [][3]string{{"syncer.go", "s.ring.ExpireAt(asked.Add(s.policy.MaxStale))", "_ = asked"}}},
	{"a ring that is not told of news", [][3]string{{"syncer.go", "s.confirm(d, asked)", "if s.Status().Read.IsZero() { s.confirm(d, asked) }"}}},
	{"a fresh key for one that has never sealed", [][3]string{{"schedule.go", "e.revoked < e.activates && !e.fresh() &&", "false &&"}}},
	{"no fresh key for a compromised one", [][3]string{{"schedule.go", "withSuccessor(withPrimary(prune(entries, now, p.Retain), now, p.Lead), now, p)", "withSuccessor(prune(entries, now, p.Retain), now, p)"}}},
}

// Every mutation must fail the simulation, or that would prove nothing. The seeds
// are few: a mutation that needs more is not caught often enough.
func TestSimulationCatchesMutations(t *testing.T) {
	simulation := exec.Command("go", "list", "-f", "{{.Dir}}", ".")
	out, err := simulation.Output()
	if err != nil {
		t.Fatal(err)
	}
	folder := strings.TrimSpace(string(out))
	for _, m := range mutations {
		t.Run(m.name, func(t *testing.T) {
			overlay := mutate(t, folder, m.edits)
			compiled := filepath.Join(t.TempDir(), "mutant.test")
			if out, err := exec.Command("go", "test", "-c", "-o", compiled, "-overlay", overlay, ".").CombinedOutput(); err != nil {
				t.Fatalf("the mutant does not compile: %v\n%s", err, out)
			}
			out, err := exec.Command(compiled, "-test.run", "^TestSimulation$", "-test.timeout", "5m", "-seeds", "300").CombinedOutput()
			if err == nil {
				t.Fatal("the mutant survives 300 seeds")
			}
			_, broken, ok := strings.Cut(string(out), "seed ")
			if !ok {
				t.Fatalf("the simulation ended otherwise than by a broken rule: %v\n%s", err, out)
			}
			broken, _, _ = strings.Cut(broken, "\n")
			t.Log("caught: seed", broken)
		})
	}
}

// mutate returns the file that tells the compiler of the changed sources.
func mutate(t *testing.T, folder string, edits [][3]string) string {
	t.Helper()
	scratch := t.TempDir()
	replace := map[string]string{}
	for _, edit := range edits {
		original := filepath.Join(folder, edit[0])
		from := original
		if replace[original] != "" {
			from = replace[original]
		}
		source, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(source), edit[1]); n != 1 {
			t.Fatalf("%s has %q %d times, want once: the mutation must follow the code", edit[0], edit[1], n)
		}
		replace[original] = filepath.Join(scratch, edit[0])
		if err := os.WriteFile(replace[original], []byte(strings.Replace(string(source), edit[1], edit[2], 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(scratch, "overlay.json")
	if err := os.WriteFile(path, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
