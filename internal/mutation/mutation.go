// Package mutation checks that a test catches mistakes: it makes each of a list of
// deliberate ones in a copy of a package, and has the test run on that.
package mutation

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Mutations are deliberate mistakes by name. Each is a list of edits: a file, what
// stands in it once, and what takes its place.
type Mutations map[string][][3]string

// Catch runs a test of the package in the working directory on mutants of that
// package, with args. It must fail for each, and not for another reason than a check
// of its own.
func Catch(t *testing.T, test string, mutations Mutations, args ...string) {
	t.Helper()
	folder, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(mutations)) {
		t.Run(name, func(t *testing.T) {
			compiled := filepath.Join(t.TempDir(), "mutant.test")
			build := exec.Command("go", "test", "-c", "-o", compiled, "-overlay", overlay(t, folder, mutations[name]), ".")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("the mutant does not compile: %v\n%s", err, out)
			}
			run := exec.Command(compiled, append([]string{"-test.run", "^" + test + "$", "-test.timeout", "5m"}, args...)...)
			out, err := run.CombinedOutput()
			if err == nil {
				t.Fatalf("the mutant survives %q", args)
			}
			complaint := regexp.MustCompile(`(?m)^ +\w+_test\.go:\d+: .*$`).FindString(string(out))
			if complaint == "" || strings.Contains(string(out), "panic: ") {
				t.Fatalf("%s ended otherwise than by a check: %v\n%s", test, err, out)
			}
			t.Log("caught:", strings.TrimSpace(complaint))
		})
	}
}

// overlay returns the file that tells the compiler of the changed sources.
func overlay(t *testing.T, folder string, edits [][3]string) string {
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
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(scratch, "overlay.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
