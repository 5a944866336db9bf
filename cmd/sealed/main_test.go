package main_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/sealed"
	"example.com/sealed/keystore"
)

// binary is the command as users have it.
var binary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		folder, err := os.MkdirTemp("", "sealed-test")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(folder)
		binary = filepath.Join(folder, "sealed")
		if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// A result is what a run of the command did.
type result struct {
	out, err string
	code     int
}

// run runs the command with an environment of its own.
func run(t *testing.T, env []string, stdin string, args ...string) result {
	t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Env = append([]string{"TZ=UTC"}, env...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	r := result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
	if strings.Contains(r.err, "goroutine ") {
		t.Fatalf("the command panicked:\n%s", r.err)
	}
	for _, secret := range append(env, stdin) {
		for _, text := range regexp.MustCompile(`sealed-key-1-\S{20,}`).FindAllString(secret, -1) {
			if strings.Contains(r.out+r.err, strings.TrimRight(text, ",")) {
				t.Errorf("%q printed a key", args)
			}
		}
	}
	return r
}

// want checks the exit code, and parts of what was printed.
func (r result) want(t *testing.T, code int, parts ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d", r.code, code)
	}
	for _, part := range parts {
		if !strings.Contains(r.out+r.err, part) {
			t.Errorf("no %q in what was printed", part)
		}
	}
	if t.Failed() {
		t.Logf("standard output:\n%s\nstandard error:\n%s", r.out, r.err)
	}
}

func TestKey(t *testing.T) {
	r := run(t, nil, "", "key")
	r.want(t, 0)
	if _, err := sealed.ParseKey(strings.TrimSuffix(r.out, "\n")); err != nil {
		t.Errorf("what it prints is no key: %v", err)
	}
	if again := run(t, nil, "", "key"); again.out == r.out {
		t.Error("two keys are equal")
	}
}

func TestHelpAndUsage(t *testing.T) {
	for _, args := range [][]string{{"-h"}, {"help"}, {"key", "-h"}, {"keys", "-h"}, {"keys", "rotate", "FILE", "-h"}, {"inspect", "--help"}} {
		r := run(t, nil, "", args...)
		if r.code != 0 || !strings.HasPrefix(r.out, "Usage: sealed") || r.err != "" {
			t.Errorf("%q: code %d, %d bytes of help, complaint %q", args, r.code, len(r.out), r.err)
		}
	}
	for _, args := range [][]string{
		{}, {"kez"}, {"key", "more"}, {"keys"}, {"keys", "lisp"}, {"keys", "list"}, {"keys", "revoke", "FILE"},
		{"keys", "list", "FILE", "0011aabb"}, {"keys", "rotate", "-all", "FILE"}, {"keys", "list", "-lead", "3h", "FILE"}, {"keys", "revoke", "-retain", "3h", "FILE", "0011aabb"}, {"keys", "rotate", "-lead", "soon", "FILE"},
		{"keys", "prune", "-retain", "999999999999d", "FILE"}, {"inspect", "AQAA"}, {"inspect", "-nome", "x"}, {"inspect", "-name", strings.Repeat("x", 256)},
	} {
		r := run(t, nil, "", args...)
		if r.code != 2 || r.out != "" || r.err == "" {
			t.Errorf("%q: code %d, output %q, complaint %q, want 2 and a complaint only", args, r.code, r.out, r.err)
		}
	}
}

// A key on the command line is refused, and not repeated.
func TestKeyOnTheCommandLine(t *testing.T) {
	text := sealed.GenerateKey().Text()
	for _, args := range [][]string{{text}, {"inspect", text}, {"keys", "revoke", "FILE", text}, {"inspect", "-keys", text}, {"inspect", "-keys=" + text}} {
		r := run(t, nil, "", args...)
		r.want(t, 2, "command line")
		if strings.Contains(r.out+r.err, text) {
			t.Error("the key was repeated")
		}
	}
}

// keyFile makes a key file with some keys, and returns it, the environment with
// its wrapping key, and the IDs.
func keyFile(t *testing.T, leads ...string) (file string, env, ids []string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "keys")
	env = []string{"SESSION_WRAPPING_KEY=" + sealed.GenerateKey().Text()}
	for n, lead := range leads {
		r := run(t, env, "", "keys", "init", file)
		if n == 0 {
			r.want(t, 0, "Made ")
		} else {
			r.want(t, 1, "holds keys already")
			r = run(t, env, "", "keys", "rotate", "-lead", lead, file)
			r.want(t, 0, "Added ")
		}
		ids = append(ids, regexp.MustCompile(`[0-9a-f]{8}`).FindString(r.out))
	}
	return file, env, ids
}

func TestKeys(t *testing.T) {
	file, env, ids := keyFile(t, "24h", "0s", "2d")
	r := run(t, env, "", "keys", "list", file)
	r.want(t, 0, "KEY", "STATE", "SEALS FROM", "Revision 3")
	var states []string
	for _, m := range regexp.MustCompile(`(?m)^([0-9a-f]{8})  (\w+)`).FindAllStringSubmatch(r.out, -1) {
		states = append(states, m[1]+" "+m[2])
	}
	if diff := cmp.Diff([]string{ids[2] + " pending", ids[1] + " primary", ids[0] + " retiring"}, states); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
	if !strings.Contains(r.out, "(in 2 days)") {
		t.Errorf("the pending key does not seal in two days:\n%s", r.out)
	}

	run(t, env, "", "keys", "revoke", file, "01234567").want(t, 1, "01234567")
	r = run(t, env, "", "keys", "revoke", file, ids[1])
	r.want(t, 0, "Revoked "+ids[1], "Added ")
	r = run(t, env, "", "keys", "list", file)
	r.want(t, 0, ids[1]+"  revoked", ids[2]+"  pending", ids[0]+"  retiring", "primary")
	run(t, env, "", "keys", "revoke", "-all", file).want(t, 0, ids[0], ids[2])
	r = run(t, env, "", "keys", "list", file)
	if got := strings.Count(r.out, "revoked"); got != 4 {
		t.Errorf("%d keys are revoked, want 4 of 5:\n%s", got, r.out)
	}
	run(t, env, "", "keys", "prune", file).want(t, 0, "Nothing")
	run(t, env, "", "keys", "prune", "-retain", "1ms", file).want(t, 0, "Dropped", ids[0])
}

// A program that runs takes up what the command does.
func TestKeysOfARunningProgram(t *testing.T) {
	file, env, ids := keyFile(t, "0s")
	wrapping, err := keystore.ParseWrapping(strings.TrimPrefix(env[0], "SESSION_WRAPPING_KEY="))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := keystore.Open(t.Context(), keystore.NewFile(file), wrapping, keystore.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	defer keys.Close()
	run(t, env, "", "keys", "revoke", file, ids[0]).want(t, 0)
	if err := keys.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, k := range keys.Status().Keys {
		if k.ID == ids[0] && k.State != sealed.KeyRevoked {
			t.Errorf("the program has the key as %s", k.State)
		}
	}
}

func TestKeysErrors(t *testing.T) {
	file, env, _ := keyFile(t, "0s")
	other := []string{"SESSION_WRAPPING_KEY=" + sealed.GenerateKey().Text()}
	run(t, nil, "", "keys", "list", file).want(t, 1, "SESSION_WRAPPING_KEY", "-wrapping")
	run(t, other, "", "keys", "list", file).want(t, 1, "another wrapping key")
	run(t, other, "", "keys", "rotate", file).want(t, 1, "another wrapping key")
	run(t, []string{"SESSION_WRAPPING_KEY=nonsense"}, "", "keys", "list", file).want(t, 1, "wrapping key 1")
	for _, command := range []string{"list", "prune"} {
		run(t, env, "", "keys", command, file+"x").want(t, 1, "no file")
	}
	run(t, env, "", "keys", "rotate", file+"x").want(t, 1, "sealed keys init")
	run(t, env, "", "keys", "revoke", file+"x", "00000000").want(t, 1, "no file")
	if _, err := os.Stat(file + "x"); err == nil {
		t.Error("a command made a file")
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"list", "rotate", "prune"} {
		run(t, env, "", "keys", command, file).want(t, 1, "chmod 600")
	}
}

func TestWrappingFile(t *testing.T) {
	file, env, ids := keyFile(t, "0s")
	wrapping := filepath.Join(t.TempDir(), "wrapping")
	next := sealed.GenerateKey()
	old := strings.TrimPrefix(env[0], "SESSION_WRAPPING_KEY=")
	if err := os.WriteFile(wrapping, []byte(next.Text()+"\n"+old+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, nil, "", "keys", "list", "-wrapping", wrapping, file).want(t, 0, ids[0])
	// It is for programs to seal it under another, when all can open it.
	run(t, nil, "", "keys", "rotate", "-wrapping", wrapping, file).want(t, 0, "Added")
	run(t, env, "", "keys", "list", file).want(t, 0, "Revision 2", sealed.Key.ID(must(sealed.ParseKey(old))))
	keys, err := keystore.Open(t.Context(), keystore.NewFile(file), []sealed.Key{next, must(sealed.ParseKey(old))}, keystore.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	keys.Close()
	run(t, nil, "", "keys", "list", "-wrapping", wrapping, file).want(t, 0, next.ID())
	run(t, env, "", "keys", "list", file).want(t, 1, "another wrapping key")
	// A secret manager may print it into a pipe.
	cmd := exec.Command("bash", "-c", `exec "$0" keys list -wrapping <(printf %s "$KEY") "$1"`, binary, file)
	cmd.Env = append(os.Environ(), "KEY="+next.Text())
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), ids[0]) {
		t.Errorf("with the wrapping key from a pipe: %v\n%s", err, out)
	}
	if err := os.Chmod(wrapping, 0o640); err != nil {
		t.Fatal(err)
	}
	run(t, nil, "", "keys", "list", "-wrapping", wrapping, file).want(t, 1, "chmod 600")
}

func must(k sealed.Key, err error) sealed.Key {
	if err != nil {
		panic(err)
	}
	return k
}
