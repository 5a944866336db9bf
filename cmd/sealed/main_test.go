package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/sealed"
	"example.com/sealed/internal/commandtest"
	"example.com/sealed/keystore"
)

func TestMain(m *testing.M) { commandtest.Main(m) }

func TestKey(t *testing.T) {
	r := commandtest.Run(t, nil, "", "key")
	r.Want(t, 0)
	if _, err := sealed.ParseKey(strings.TrimSuffix(r.Out, "\n")); err != nil {
		t.Errorf("what it prints is no key: %v", err)
	}
	if again := commandtest.Run(t, nil, "", "key"); again.Out == r.Out {
		t.Error("two keys are equal")
	}
}

func TestHelpAndUsage(t *testing.T) {
	for _, args := range [][]string{{"-h"}, {"help"}, {"key", "-h"}, {"keys", "-h"}, {"keys", "rotate", "FILE", "-h"}, {"inspect", "--help"}} {
		r := commandtest.Run(t, nil, "", args...)
		if r.Code != 0 || !strings.HasPrefix(r.Out, "Usage: sealed") || r.Err != "" {
			t.Errorf("%q: code %d, %d bytes of help, complaint %q", args, r.Code, len(r.Out), r.Err)
		}
	}
	if r := commandtest.Run(t, nil, "", "-h"); strings.Contains(r.Out, "revocations list") {
		t.Error("help names what this program cannot do")
	}
	for _, args := range [][]string{
		{}, {"kez"}, {"key", "more"}, {"keys"}, {"keys", "lisp"}, {"keys", "list"}, {"keys", "revoke", "FILE"},
		{"keys", "list", "FILE", "0011aabb"}, {"keys", "rotate", "-all", "FILE"}, {"keys", "list", "-lead", "3h", "FILE"}, {"keys", "revoke", "-retain", "3h", "FILE", "0011aabb"}, {"keys", "rotate", "-lead", "soon", "FILE"},
		{"keys", "prune", "-retain", "999999999999d", "FILE"}, {"inspect", "AQAA"}, {"inspect", "-nome", "x"}, {"inspect", "-name", strings.Repeat("x", 256)},
	} {
		r := commandtest.Run(t, nil, "", args...)
		if r.Code != 2 || r.Out != "" || r.Err == "" {
			t.Errorf("%q: code %d, output %q, complaint %q, want 2 and a complaint only", args, r.Code, r.Out, r.Err)
		}
	}
}

// A key on the command line is refused, and not repeated.
func TestKeyOnTheCommandLine(t *testing.T) {
	text := sealed.GenerateKey().Text()
	for _, args := range [][]string{{text}, {"inspect", text}, {"keys", "revoke", "FILE", text}, {"inspect", "-keys", text}, {"inspect", "-keys=" + text}} {
		r := commandtest.Run(t, nil, "", args...)
		r.Want(t, 2, "command line")
		if strings.Contains(r.Out+r.Err, text) {
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
		r := commandtest.Run(t, env, "", "keys", "init", file)
		if n == 0 {
			r.Want(t, 0, "Made ")
		} else {
			r.Want(t, 1, "holds keys already")
			r = commandtest.Run(t, env, "", "keys", "rotate", "-lead", lead, file)
			r.Want(t, 0, "Added ")
		}
		ids = append(ids, regexp.MustCompile(`[0-9a-f]{8}`).FindString(r.Out))
	}
	return file, env, ids
}

func TestKeys(t *testing.T) {
	file, env, ids := keyFile(t, "24h", "0s", "2d")
	r := commandtest.Run(t, env, "", "keys", "list", file)
	r.Want(t, 0, "KEY", "STATE", "SEALS FROM", "Revision 3")
	var states []string
	for _, m := range regexp.MustCompile(`(?m)^([0-9a-f]{8})  (\w+)`).FindAllStringSubmatch(r.Out, -1) {
		states = append(states, m[1]+" "+m[2])
	}
	if diff := cmp.Diff([]string{ids[2] + " pending", ids[1] + " primary", ids[0] + " retiring"}, states); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
	if !strings.Contains(r.Out, "(in 2 days)") {
		t.Errorf("the pending key does not seal in two days:\n%s", r.Out)
	}

	commandtest.Run(t, env, "", "keys", "revoke", file, "01234567").Want(t, 1, "01234567")
	r = commandtest.Run(t, env, "", "keys", "revoke", file, ids[1])
	r.Want(t, 0, "Revoked "+ids[1], "Added ")
	r = commandtest.Run(t, env, "", "keys", "list", file)
	r.Want(t, 0, ids[1]+"  revoked", ids[2]+"  pending", ids[0]+"  retiring", "primary")
	commandtest.Run(t, env, "", "keys", "revoke", "-all", file).Want(t, 0, ids[0], ids[2])
	r = commandtest.Run(t, env, "", "keys", "list", file)
	if got := strings.Count(r.Out, "revoked"); got != 4 {
		t.Errorf("%d keys are revoked, want 4 of 5:\n%s", got, r.Out)
	}
	commandtest.Run(t, env, "", "keys", "prune", file).Want(t, 0, "Nothing")
	commandtest.Run(t, env, "", "keys", "prune", "-retain", "1ms", file).Want(t, 0, "Dropped", ids[0])
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
	commandtest.Run(t, env, "", "keys", "revoke", file, ids[0]).Want(t, 0)
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
	commandtest.Run(t, nil, "", "keys", "list", file).Want(t, 1, "SESSION_WRAPPING_KEY", "-wrapping")
	commandtest.Run(t, other, "", "keys", "list", file).Want(t, 1, "another wrapping key")
	commandtest.Run(t, other, "", "keys", "rotate", file).Want(t, 1, "another wrapping key")
	commandtest.Run(t, []string{"SESSION_WRAPPING_KEY=nonsense"}, "", "keys", "list", file).Want(t, 1, "wrapping key 1")
	for _, command := range []string{"list", "prune"} {
		commandtest.Run(t, env, "", "keys", command, file+"x").Want(t, 1, "no file")
	}
	commandtest.Run(t, env, "", "keys", "rotate", file+"x").Want(t, 1, "sealed keys init")
	commandtest.Run(t, env, "", "keys", "revoke", file+"x", "00000000").Want(t, 1, "no file")
	if _, err := os.Stat(file + "x"); err == nil {
		t.Error("a command made a file")
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"list", "rotate", "prune"} {
		commandtest.Run(t, env, "", "keys", command, file).Want(t, 1, "chmod 600")
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
	commandtest.Run(t, nil, "", "keys", "list", "-wrapping", wrapping, file).Want(t, 0, ids[0])
	// It is for programs to seal it under another, when all can open it.
	commandtest.Run(t, nil, "", "keys", "rotate", "-wrapping", wrapping, file).Want(t, 0, "Added")
	commandtest.Run(t, env, "", "keys", "list", file).Want(t, 0, "Revision 2", sealed.Key.ID(must(sealed.ParseKey(old))))
	keys, err := keystore.Open(t.Context(), keystore.NewFile(file), []sealed.Key{next, must(sealed.ParseKey(old))}, keystore.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	keys.Close()
	commandtest.Run(t, nil, "", "keys", "list", "-wrapping", wrapping, file).Want(t, 0, next.ID())
	commandtest.Run(t, env, "", "keys", "list", file).Want(t, 1, "another wrapping key")
	// A secret manager may print it into a pipe.
	cmd := exec.Command("bash", "-c", `exec "$0" keys list -wrapping <(printf %s "$KEY") "$1"`, commandtest.Binary(), file)
	cmd.Env = append(os.Environ(), "KEY="+next.Text())
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), ids[0]) {
		t.Errorf("with the wrapping key from a pipe: %v\n%s", err, out)
	}
	if err := os.Chmod(wrapping, 0o640); err != nil {
		t.Fatal(err)
	}
	commandtest.Run(t, nil, "", "keys", "list", "-wrapping", wrapping, file).Want(t, 1, "chmod 600")
}

func must(k sealed.Key, err error) sealed.Key {
	if err != nil {
		panic(err)
	}
	return k
}
