package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The README's program, in each browser: log in, come again, log out.
func TestReadmeInBrowsers(t *testing.T) {
	address := startReadme(t)
	inEachBrowser(t, func(t *testing.T, name string) {
		p := browsers[name](t, options{}).tab()
		defer p.close()
		p.visit("http://" + address + "/")
		p.want("body", "Hello, nobody.")
		p.fill("[name=user]", "bob")
		p.click("button")
		p.becomes("p", "Hello, bob, visit 1.")
		p.visit("http://" + address + "/")
		p.want("p", "Hello, bob, visit 2.")
		p.click("button")
		p.becomes("p", "Hello, nobody.")
	})
}

// startReadme runs the README's program, on a free port of localhost.
func startReadme(t *testing.T) (address string) {
	t.Helper()
	page, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, program, _ := strings.Cut(string(page), "```go\npackage main\n")
	program, _, found := strings.Cut(program, "\n```\n")
	_, port, _ := strings.Cut(freeAddress(t), ":")
	address = "localhost:" + port
	if !found || !strings.Contains(program, "localhost:8080") {
		t.Fatal("README.md has no program on localhost:8080")
	}
	program = "package main\n" + strings.Replace(program, "localhost:8080", address, 1)
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "main.go"), []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"mod", "init", "hello"}, {"mod", "edit", "-require", "example.com/sealed@v0.0.0", "-replace", "example.com/sealed=" + root}, {"mod", "tidy"}, {"build", "-o", "hello"},
	} {
		cmd := exec.Command("go", args...)
		cmd.Dir = folder
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %v: %v\n%s", args, err, out)
		}
	}
	key, err := exec.Command(filepath.Join(folder, "hello"), "key").Output()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(folder, "hello"))
	cmd.Env = append(os.Environ(), "SESSION_KEYS="+string(key))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if !listens(address) {
		t.Fatal("the program does not listen")
	}
	return address
}
