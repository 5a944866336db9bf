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

// Mutations are deliberate mistakes by name. Each is a list of edits: what stands once
// in the package, in whatever file, and what takes its place.
type Mutations map[string][][2]string

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
func overlay(t *testing.T, folder string, edits [][2]string) string {
	t.Helper()
	scratch := t.TempDir()
	sources, replace := sources(t, folder), map[string]string{}
	for _, edit := range edits {
		file := holder(t, sources, edit[0])
		sources[file] = strings.Replace(sources[file], edit[0], edit[1], 1)
		replace[file] = filepath.Join(scratch, filepath.Base(file))
		if err := os.WriteFile(replace[file], []byte(sources[file]), 0o600); err != nil {
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

// sources returns the package's source files, without its tests, by path.
func sources(t *testing.T, folder string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	sources := map[string]string{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		sources[file] = string(source)
	}
	return sources
}

// holder returns the one file that has text, once.
func holder(t *testing.T, sources map[string]string, text string) (file string) {
	t.Helper()
	n := 0
	for path, source := range sources {
		if found := strings.Count(source, text); found > 0 {
			file, n = path, n+found
		}
	}
	if n != 1 {
		t.Fatalf("%q stands %d times in the package, want once: the mutation must follow the code", text, n)
	}
	return file
}
