package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fxamacker/cbor/v2"
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
	for _, lead := range leads {
		r := run(t, env, "", "keys", "rotate", "-lead", lead, file)
		r.want(t, 0, "Added ")
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

// A session to look into.
type session struct {
	User  string    `cbor:"1,keyasint,omitempty"`
	Cart  []string  `cbor:"2,keyasint,omitempty"`
	Since time.Time `cbor:"3,keyasint,omitzero"`
	Bytes []byte    `cbor:"4,keyasint,omitempty"`
}

// setCookies returns the Set-Cookie lines of a new session.
func setCookies(t *testing.T, m *sealed.Manager[session], s session) []string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if err := m.Update(r.Context(), func(x *session) { *x = s }); err != nil {
			t.Fatal(err)
		}
	})).ServeHTTP(w, httptest.NewRequest("GET", "https://shop.example/", nil))
	return w.Result().Header["Set-Cookie"]
}

// pair returns "name=value" of a Set-Cookie line.
func pair(line string) string {
	pair, _, _ := strings.Cut(line, ";")
	return pair
}

func mustManager(t *testing.T, ring *sealed.Keyring, config sealed.Config[session]) *sealed.Manager[session] {
	t.Helper()
	config.Lifetime = 90 * time.Minute
	m, err := sealed.New(ring, config)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

type vectors struct {
	Now  int64
	Keys []struct{ Text string }

	Accept, Refuse []struct {
		Name, Cookie, Purpose, Token, Data, Reason, ID string
	}
}

// The vectors of FORMAT.md hold the command to the same format as the library.
func TestVectors(t *testing.T) {
	text, err := os.ReadFile("../../testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Accept) < 9 || len(v.Refuse) < 20 {
		t.Fatalf("%d and %d vectors", len(v.Accept), len(v.Refuse))
	}
	var keys []string
	for _, k := range v.Keys {
		keys = append(keys, k.Text)
	}
	env := []string{"SESSION_KEYS=" + strings.Join(keys, " ")}
	for _, x := range v.Accept {
		t.Run(x.Name, func(t *testing.T) {
			// They are of the year 2000, and have expired.
			r := run(t, env, x.Token, "inspect", "-name", x.Cookie, "-purpose", x.Purpose)
			r.want(t, 1, "expired ", x.ID, "as JSON")
		})
	}
	for _, x := range v.Refuse {
		t.Run(x.Name, func(t *testing.T) {
			r := run(t, env, x.Token, "inspect", "-name", x.Cookie, "-purpose", x.Purpose)
			r.want(t, 1)
			// One that is refused for its time opens; all others show no data.
			late := x.Reason == "expired" || x.Reason == "idle" || x.Reason == "not yet valid"
			if shows := strings.Contains(r.out, "as JSON"); shows != late {
				t.Errorf("shows data: %v, want %v (%s)\n%s", shows, late, x.Reason, r.out)
			}
		})
	}
}

func TestInspect(t *testing.T) {
	key, old := sealed.GenerateKey(), sealed.GenerateKey()
	ring, err := sealed.NewKeyring(key, old)
	if err != nil {
		t.Fatal(err)
	}
	oldRing, err := sealed.NewKeyring(old)
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"SESSION_KEYS=" + key.Text() + ", " + old.Text()}
	alice := session{User: "alice", Cart: []string{"mug", "tea"}, Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Bytes: []byte{1, 2, 255}}
	line := setCookies(t, mustManager(t, ring, sealed.Config[session]{}), alice)[0]
	name, value, _ := strings.Cut(pair(line), "=")
	oldValue := strings.TrimPrefix(pair(setCookies(t, mustManager(t, oldRing, sealed.Config[session]{}), alice)[0]), name+"=")
	bearer, err := mustManager(t, ring, sealed.Config[session]{}).Seal(alice)
	if err != nil {
		t.Fatal(err)
	}
	good := []string{
		key.ID() + ", primary", "alice", `"mug"`, "(in 1 h)", "it opens", `"1":"alice"`, `"4":"AQL/"`, "h'0102ff'", "2026-01-02T03:04:05Z",
	}
	purposed := mustManager(t, ring, sealed.Config[session]{Purpose: "admin"})
	purposedValue := strings.TrimPrefix(pair(setCookies(t, purposed, alice)[0]), name+"=")
	chunked := mustManager(t, ring, sealed.Config[session]{Cookie: sealed.Cookie{MaxChunks: 4}})
	lines := setCookies(t, chunked, session{User: "alice", Bytes: bytes.Repeat([]byte("0123456789"), 700)})
	if len(lines) < 3 {
		t.Fatalf("the large session takes %d cookies", len(lines))
	}
	var whole []string
	for _, l := range lines {
		whole = append(whole, pair(l))
	}

	for title, tc := range map[string]struct {
		stdin string
		args  []string
		code  int
		parts []string
	}{
		"a value":                  {value + "\n", nil, 0, good},
		"a Cookie header":          {"Cookie: theme=dark; " + name + "=" + value + "; _ga=1\n", nil, 0, good},
		"a Set-Cookie header":      {"Set-Cookie: " + line, nil, 0, good},
		"pairs":                    {"theme=dark; " + name + "=" + value, nil, 0, good},
		"in quotes":                {"cookie: " + name + "=\"" + value + "\"", nil, 0, good},
		"a request":                {"GET / HTTP/1.1\r\nHost: shop.example\r\nCookie: " + name + "=" + value + "\r\nAccept: */*\r\n\r\n", nil, 0, good},
		"curl -v":                  {"* Connected\n> Cookie: " + name + "=" + value + "\n>\n< HTTP/2 200\n", nil, 0, good},
		"split":                    {"Cookie: " + strings.Join(whole, "; "), nil, 0, []string{"alice", "in " + fmt.Sprint(len(lines)) + " pieces", "it opens"}},
		"split, in any order":      {"Cookie: " + whole[2] + "; " + whole[0] + "; " + strings.Join(append(whole[3:], whole[1]), "; "), nil, 0, []string{"it opens"}},
		"split, one missing":       {"Cookie: " + whole[0] + "; " + whole[2], nil, 1, []string{"no " + name + ".1"}},
		"split, the first alone":   {strings.TrimPrefix(whole[0], name+"="), []string{"-name", ""}, 1, []string{"paste the whole header"}},
		"two sessions":             {"Cookie: " + name + "=" + value + "; " + name + "=" + oldValue, nil, 0, append(good, old.ID()+", retiring")},
		"a retiring key":           {oldValue, nil, 0, []string{old.ID() + ", retiring", "it opens"}},
		"a token of Seal":          {bearer, []string{"-name", ""}, 0, []string{"not in a cookie", "alice", "it opens"}},
		"a token of Seal, unnamed": {bearer, nil, 1, []string{"Manager.Seal"}},
		"another name":             {"sid=" + value, nil, 1, []string{`"sid"`, `for the cookie "__Host-session"`}},
		"another name, asked for":  {"sid=" + value, []string{"-name", name}, 1, []string{"no cookie", `"sid"`}},
		"a purpose":                {purposedValue, []string{"-purpose", "admin"}, 0, []string{"alice"}},
		"another purpose":          {purposedValue, []string{"-purpose", "shop"}, 1, []string{"does not authenticate", "-purpose"}},
		"a purpose too many":       {value, []string{"-purpose", "shop"}, 1, []string{"without a purpose"}},
		"changed":                  {value[:80] + flipped(value[80]) + value[81:], nil, 1, []string{"does not authenticate", "changed"}},
		"cut off":                  {value[:len(value)-8], nil, 1, []string{"does not authenticate", "cut off"}},
		"cut off early":            {value[:40], nil, 1, []string{"30 bytes", "cut off"}},
		"an unknown key":           {strings.TrimPrefix(pair(setCookies(t, mustManager(t, mustRing(t), sealed.Config[session]{}), alice)[0]), name+"="), nil, 1, []string{"unknown key", key.ID() + " (primary)", old.ID() + " (retiring)"}},
		"not base64":               {value[:20] + "+" + value[20:], nil, 1, []string{"base64url", "character 21"}},
		"another version":          {"Ag" + value[2:], nil, 1, []string{"version 2"}},
		"padding":                  {value + "==", nil, 1, []string{"character " + fmt.Sprint(len(value)+1), "'='"}},
		"nothing":                  {"", nil, 1, []string{"empty"}},
		"no cookie of ours":        {"Cookie: theme=dark; _ga=1", nil, 1, []string{`"theme"`, `"_ga"`, "-name"}},
		"no cookie at all":         {"Cookie:\n", nil, 1, []string{"no cookie"}},
		"too much":                 {strings.Repeat("A", 1<<20+1), nil, 1, []string{"longer than"}},
		"binary":                   {"\x00\xff\x1b[31m;=;=\x01", nil, 1, nil},
		"a name that is evil":      {"Cookie: \x1b]0;gotcha\x07\x1b[31mevil=2.AQAA", nil, 1, []string{"gotcha"}},
		"a thousand cookies":       {"Cookie: " + manyCookies(60000), nil, 1, nil},
	} {
		t.Run(title, func(t *testing.T) {
			r := run(t, env, tc.stdin, append([]string{"inspect"}, tc.args...)...)
			r.want(t, tc.code, tc.parts...)
			if tc.code != 0 && strings.Contains(r.out, "alice") {
				t.Error("data of a token that does not open")
			}
			if strings.ContainsAny(r.out+r.err, "\x1b\x00\x07") {
				t.Errorf("control characters reach the terminal: %q", r.out+r.err)
			}
		})
	}
}

// manyCookies returns cookies that each claim to be split over 16.
func manyCookies(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "a%d=16.AQ;", i)
	}
	return b.String()
}

func flipped(c byte) string {
	if c == 'A' {
		return "B"
	}
	return "A"
}

func mustRing(t *testing.T) *sealed.Keyring {
	t.Helper()
	ring, err := sealed.NewKeyring(sealed.GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// What a visitor wrote into a session does not move the operator's cursor.
func TestInspectIsSafeForTerminals(t *testing.T) {
	key := sealed.GenerateKey()
	ring, err := sealed.NewKeyring(key)
	if err != nil {
		t.Fatal(err)
	}
	evil := "\x1b]0;gotcha\x07\u202e\u009b2Jend\r\n"
	line := setCookies(t, mustManager(t, ring, sealed.Config[session]{}), session{User: evil})[0]
	r := run(t, []string{"SESSION_KEYS=" + key.Text()}, "Set-Cookie: "+line, "inspect")
	r.want(t, 0, "gotcha", "end")
	for _, c := range "\x1b\x07\u202e\u009b\r" {
		if strings.ContainsRune(r.out, c) {
			t.Errorf("%U reaches the terminal", c)
		}
	}
}

func TestInspectKeysFromFiles(t *testing.T) {
	file, env, ids := keyFile(t, "0s")
	wrapping, err := keystore.ParseWrapping(strings.TrimPrefix(env[0], "SESSION_WRAPPING_KEY="))
	if err != nil {
		t.Fatal(err)
	}
	d, err := keystore.Read(t.Context(), keystore.NewFile(file), wrapping)
	if err != nil {
		t.Fatal(err)
	}
	var ring sealed.Keyring
	if err := ring.Replace(d.Keys); err != nil {
		t.Fatal(err)
	}
	line := "Set-Cookie: " + setCookies(t, mustManager(t, &ring, sealed.Config[session]{}), session{User: "alice"})[0]
	run(t, env, line, "inspect", "-keys", file).want(t, 0, "alice", ids[0]+", primary")
	run(t, nil, line, "inspect", "-keys", file).want(t, 1, "SESSION_WRAPPING_KEY")
	run(t, env, line, "inspect").want(t, 1, "SESSION_KEYS", "-keys")
	run(t, env, line, "inspect", "-keys", file+"x").want(t, 1, "no file")

	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte(d.Keys[0].Key.Text()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, nil, line, "inspect", "-keys", text).want(t, 0, "alice")
	if err := os.Chmod(text, 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, nil, line, "inspect", "-keys", text).want(t, 1, "chmod 600")

	// Under a revoked key a cookie opens no more, and one still wants to see it.
	run(t, env, "", "keys", "revoke", file, ids[0]).want(t, 0)
	run(t, env, line, "inspect", "-keys", file).want(t, 1, ids[0]+", revoked", "alice", "revoked key")
}

func TestInspectExpired(t *testing.T) {
	var line string
	key := sealed.GenerateKey()
	synctest.Test(t, func(t *testing.T) { // its clock starts in the year 2000
		ring, err := sealed.NewKeyring(key)
		if err != nil {
			t.Fatal(err)
		}
		line = setCookies(t, mustManager(t, ring, sealed.Config[session]{}), session{User: "alice"})[0]
	})
	run(t, []string{"SESSION_KEYS=" + key.Text()}, "Set-Cookie: "+line, "inspect").want(t, 1, "expired ", "days ago", "alice", "2000-01-01 01:30:00")
}

// What the library opens, the command shows: the deepest nesting, and keys that no
// map in Go has.
func TestInspectShowsWhatTheLibraryOpens(t *testing.T) {
	key := sealed.GenerateKey()
	ring, err := sealed.NewKeyring(key)
	if err != nil {
		t.Fatal(err)
	}
	type deep struct {
		Map  map[[2]int]string
		Deep cbor.RawMessage
		Both map[any]string
	}
	m, err := sealed.New(ring, sealed.Config[deep]{})
	if err != nil {
		t.Fatal(err)
	}
	nested := append(bytes.Repeat([]byte{0x81}, 31), 0x01) // within the struct, 32 levels
	token, err := m.Seal(deep{Map: map[[2]int]string{{1, 2}: "alice"}, Deep: nested})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := m.Open(t.Context(), token); err != nil {
		t.Fatalf("the library does not open it: %v", err)
	}
	env := []string{"SESSION_KEYS=" + key.Text()}
	run(t, env, token, "inspect", "-name", "").want(t, 0, `[1, 2]: "alice"`)
	if token, err = m.Seal(deep{Both: map[any]string{1: "number", "1": "text"}}); err != nil {
		t.Fatal(err)
	}
	run(t, env, token, "inspect", "-name", "").want(t, 0, `"1":`, `:"number"`, `:"text"`)
}

func TestOutputThatFails(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatalf("this test needs /dev/full: %v", err)
	}
	defer full.Close()
	key := sealed.GenerateKey()
	ring, err := sealed.NewKeyring(key)
	if err != nil {
		t.Fatal(err)
	}
	token, err := mustManager(t, ring, sealed.Config[session]{}).Seal(session{})
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"inspect", "-name", ""}, {"key"}} {
		cmd := exec.Command(binary, args...)
		cmd.Env, cmd.Stdin, cmd.Stdout = []string{"SESSION_KEYS=" + key.Text()}, strings.NewReader(token), full
		if err := cmd.Run(); err == nil {
			t.Errorf("%q on a full disk ends with 0", args)
		}
	}
}

// A further part of a session that is split may begin as a token does.
func TestInspectPartThatLooksLikeAToken(t *testing.T) {
	key := sealed.GenerateKey()
	ring, err := sealed.NewKeyring(key)
	if err != nil {
		t.Fatal(err)
	}
	m := mustManager(t, ring, sealed.Config[session]{})
	for range 1000 { // about every second token has a place for it
		name, value, _ := strings.Cut(pair(setCookies(t, m, session{User: "alice"})[0]), "=")
		at := regexp.MustCompile(`A[Q-Za-f]`).FindStringIndex(value[10:])
		if at == nil {
			continue
		}
		i := 10 + at[0]
		r := run(t, []string{"SESSION_KEYS=" + key.Text()}, "Cookie: "+name+"=2."+value[:i]+"; "+name+".1="+value[i:], "inspect")
		r.want(t, 0, "alice", "in 2 pieces")
		if n := strings.Count(r.out, "version"); n != 1 {
			t.Errorf("%d reports of one session:\n%s", n, r.out)
		}
		return
	}
	t.Fatal("no token has what this test looks for")
}
