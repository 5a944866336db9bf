package snippets

import (
	"encoding/json"
	"fmt"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Each block of Go in the documentation compiles: a program by itself, declarations with
// the other blocks of their page, and statements and fields of a Config among the names of the prelude.
func TestCodeOfTheDocumentationCompiles(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	pages = append(pages, "../../README.md", "../../FORMAT.md", "../../SECURITY.md", "../../CONTRIBUTING.md")
	overlay := map[string]string{} // of go build: files that are not there
	var packages []string
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		base := strings.TrimSuffix(filepath.Base(page), ".md")
		var declarations []string
		for i, block := range blocks(string(text)) {
			name := fmt.Sprintf("%s_%d", strings.ReplaceAll(strings.ToLower(base), "-", "_"), i+1)
			files := map[string]string{"page.go": block}
			if !strings.HasPrefix(block, "package ") {
				files = wrapped(t, name, block, &declarations)
			}
			packages = append(packages, "./"+name)
			for file, code := range files {
				real := filepath.Join(t.TempDir(), file)
				if err := os.WriteFile(real, []byte(code), 0o600); err != nil {
					t.Fatal(err)
				}
				there, err := filepath.Abs(filepath.Join(name, file))
				if err != nil {
					t.Fatal(err)
				}
				overlay[there] = real
			}
		}
	}
	if len(packages) < 15 {
		t.Fatalf("%d blocks of code", len(packages))
	}
	replace, err := json.Marshal(map[string]any{"Replace": overlay})
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(t.TempDir(), "overlay.json")
	if err := os.WriteFile(list, replace, 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", append([]string{"build", "-overlay", list}, packages...)...)
	if out, err := build.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// blocks returns the blocks of Go in a page.
func blocks(page string) (all []string) {
	for _, m := range regexp.MustCompile("(?ms)^ *```go\n(.*?)^ *```$").FindAllStringSubmatch(page, -1) {
		all = append(all, m[1])
	}
	return all
}

var (
	declares = regexp.MustCompile(`^(?:type|func|var|const) `)
	field    = regexp.MustCompile(`^\s*[A-Z]\w*: `)
	assigned = regexp.MustCompile(`(?m)^(\w+(?:, \w+)*) := `)
	comment  = regexp.MustCompile(`//.*`)
	ofType   = regexp.MustCompile(`(?m)^type (\w+) `)
)

// wrapped makes a package of a block that is none: page.go has what the page declares, code.go
// the block, and prelude.go the rest of the names.
func wrapped(t *testing.T, name, block string, declarations *[]string) map[string]string {
	t.Helper()
	prelude, err := os.ReadFile("prelude.go")
	if err != nil {
		t.Fatal(err)
	}
	var code string
	switch {
	case declares.MatchString(block):
		*declarations = append(*declarations, block)
	case field.MatchString(block):
		code = "var _ = sealed.Config[Session]{\n" + block + "\n}\n"
	case strings.HasPrefix(block, "sealed.Config"):
		code = "var _ = " + block
	default:
		code = "func _() {\n" + block
		for _, m := range assigned.FindAllStringSubmatch(block, -1) {
			code += "_ = []any{" + m[1] + "}\n" // which it may not use
		}
		code += "}\n"
	}
	page := strings.Join(*declarations, "\n")
	for _, m := range ofType.FindAllStringSubmatch(page, -1) {
		if m[1] == "Session" {
			prelude = regexp.MustCompile(`(?s)// Session is the application's.*?\n}\n`).ReplaceAll(prelude, nil)
		}
	}
	imports := importsOf(t, prelude)
	return map[string]string{
		"prelude.go": strings.Replace(string(prelude), "package snippets", "package "+name, 1),
		"page.go":    "package " + name + "\n" + used(imports, page) + page,
		"code.go":    "package " + name + "\n" + used(imports, code) + code,
	}
}

// importsOf returns the import paths of a file, and some of the standard library, by the
// names of their packages.
func importsOf(t *testing.T, file []byte) map[string]string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "", file, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{"os": `"os"`, "errors": `"errors"`, "fmt": `"fmt"`, "signal": `"os/signal"`, "syscall": `"syscall"`}
	versions := regexp.MustCompile(`/v\d+"$`)
	for _, spec := range f.Imports {
		path := versions.ReplaceAllString(spec.Path.Value, `"`)
		name := strings.TrimPrefix(strings.Trim(path[strings.LastIndex(path, "/")+1:], `"`), "go-")
		all[name] = spec.Path.Value
	}
	return all
}

// used returns the imports that code uses.
func used(imports map[string]string, code string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(imports)) {
		if regexp.MustCompile(`\b` + name + `\.[A-Z]`).MatchString(comment.ReplaceAllString(code, "")) {
			b.WriteString("import " + imports[name] + "\n")
		}
	}
	return b.String()
}
