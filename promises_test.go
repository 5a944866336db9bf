package sealed_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The tests that SECURITY.md and docs/asvs.md name are there.
func TestPromisesNameTheirTests(t *testing.T) {
	var code strings.Builder
	for _, folder := range []string{".", "revoke", "keystore", "pgstore"} {
		files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			code.Write(text)
		}
	}
	for _, page := range []string{"SECURITY.md", "docs/asvs.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		named := regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9]+)`").FindAllStringSubmatch(string(text), -1)
		if len(named) < 10 {
			t.Fatalf("%s names %d tests", page, len(named))
		}
		for _, name := range named {
			if !strings.Contains(code.String(), "func "+name[1]+"(") {
				t.Errorf("%s names %s, which is not there", page, name[1])
			}
		}
	}
}
