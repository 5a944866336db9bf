package sealed_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The tests that SECURITY.md names for its promises are there.
func TestPromisesNameTheirTests(t *testing.T) {
	page, err := os.ReadFile("SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9]+)`").FindAllStringSubmatch(string(page), -1)
	if len(named) < 10 {
		t.Fatalf("SECURITY.md names %d tests", len(named))
	}
	var code strings.Builder
	for _, folder := range []string{".", "revoke", "keystore"} {
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
	for _, name := range named {
		if !strings.Contains(code.String(), "func "+name[1]+"(") {
			t.Errorf("SECURITY.md names %s, which is not there", name[1])
		}
	}
}
