package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fxamacker/cbor/v2"

	"example.com/sealed"
	"example.com/sealed/internal/commandtest"
	"example.com/sealed/keystore"
)

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
	Bound []struct {
		Name, Cookie, Result string
		Lines                []string
	}
	Device []struct{ Name, Kind, Token, ID string }
}

func loadVectors(t *testing.T) (v vectors) {
	t.Helper()
	text, err := os.ReadFile("../../testdata/vectors.json")
	if err == nil {
		err = json.Unmarshal(text, &v)
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// The vectors of FORMAT.md hold the command to the same format as the library.
func TestVectors(t *testing.T) {
	v := loadVectors(t)
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
			r := commandtest.Run(t, env, x.Token, "inspect", "-name", x.Cookie, "-purpose", x.Purpose)
			r.Want(t, 1, "expired ", x.ID, "as JSON")
		})
	}
	for _, x := range v.Refuse {
		t.Run(x.Name, func(t *testing.T) {
			r := commandtest.Run(t, env, x.Token, "inspect", "-name", x.Cookie, "-purpose", x.Purpose)
			r.Want(t, 1)
			// One that is refused for its time opens; all others show no data.
			late := x.Reason == "expired" || x.Reason == "idle" || x.Reason == "not yet valid"
			if shows := strings.Contains(r.Out, "as JSON"); shows != late {
				t.Errorf("shows data: %v, want %v (%s)\n%s", shows, late, x.Reason, r.Out)
			}
		})
	}
}

// The same for what device binding adds.
func TestDeviceVectors(t *testing.T) {
	v := loadVectors(t)
	if len(v.Bound) < 10 || len(v.Device) < 8 {
		t.Fatalf("%d and %d vectors", len(v.Bound), len(v.Device))
	}
	env := []string{"SESSION_KEYS=" + v.Keys[0].Text}
	for _, x := range v.Bound {
		// The session's cookie alone.
		i := slices.IndexFunc(x.Lines, func(line string) bool { return strings.HasPrefix(line, x.Cookie+"=") })
		session, _, _ := strings.Cut(x.Lines[i], ";")
		r := commandtest.Run(t, env, session, "inspect")
		want := []string{"as JSON", "to a device's key"}
		switch {
		case strings.HasPrefix(x.Name, "not bound"):
			want = want[:1]
		case x.Result == "refused":
			want = []string{"no session"}
		}
		r.Want(t, 1, want...)
	}
	for _, x := range v.Device {
		r := commandtest.Run(t, env, "__Host-session-proof-07db0000="+x.Token, "inspect")
		r.Want(t, 1, x.ID, "of device binding")
		if !strings.HasPrefix(x.Name, "sealed as") {
			r.Want(t, 1, x.Kind+" of device binding")
		}
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
	bearer, err := mustManager(t, ring, sealed.Config[session]{Purpose: "link"}).Seal(alice)
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
		"curl's file of cookies":   {"# Netscape HTTP Cookie File\n\n#HttpOnly_localhost\tFALSE\t/\tTRUE\t0\t" + name + "\t" + value + "\n", nil, 0, good},
		"curl -v":                  {"* Connected\n> Cookie: " + name + "=" + value + "\n>\n< HTTP/2 200\n", nil, 0, good},
		"split":                    {"Cookie: " + strings.Join(whole, "; "), nil, 0, []string{"alice", "in " + fmt.Sprint(len(lines)) + " pieces", "it opens"}},
		"split, in any order":      {"Cookie: " + whole[2] + "; " + whole[0] + "; " + strings.Join(append(whole[3:], whole[1]), "; "), nil, 0, []string{"it opens"}},
		"split, one missing":       {"Cookie: " + whole[0] + "; " + whole[2], nil, 1, []string{"no " + name + ".1"}},
		"split, the first alone":   {strings.TrimPrefix(whole[0], name+"="), []string{"-name", ""}, 1, []string{"paste the whole header"}},
		"two sessions":             {"Cookie: " + name + "=" + value + "; " + name + "=" + oldValue, nil, 0, append(good, old.ID()+", retiring")},
		"a retiring key":           {oldValue, nil, 0, []string{old.ID() + ", retiring", "it opens"}},
		"a token of Seal":          {bearer, []string{"-name", "", "-purpose", "link"}, 0, []string{"not in a cookie", "alice", "it opens"}},
		"a token of Seal, unnamed": {bearer, []string{"-purpose", "link"}, 1, []string{"Manager.Seal"}},
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
			r := commandtest.Run(t, env, tc.stdin, append([]string{"inspect"}, tc.args...)...)
			r.Want(t, tc.code, tc.parts...)
			if tc.code != 0 && strings.Contains(r.Out, "alice") {
				t.Error("data of a token that does not open")
			}
			if strings.ContainsAny(r.Out+r.Err, "\x1b\x00\x07") {
				t.Errorf("control characters reach the terminal: %q", r.Out+r.Err)
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
	r := commandtest.Run(t, []string{"SESSION_KEYS=" + key.Text()}, "Set-Cookie: "+line, "inspect")
	r.Want(t, 0, "gotcha", "end")
	for _, c := range "\x1b\x07\u202e\u009b\r" {
		if strings.ContainsRune(r.Out, c) {
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
	ring, feed := sealed.NewSyncedKeyring()
	if err := feed.Replace(d.Keys); err != nil {
		t.Fatal(err)
	}
	line := "Set-Cookie: " + setCookies(t, mustManager(t, ring, sealed.Config[session]{}), session{User: "alice"})[0]
	commandtest.Run(t, env, line, "inspect", "-keys", file).Want(t, 0, "alice", ids[0]+", primary")
	commandtest.Run(t, nil, line, "inspect", "-keys", file).Want(t, 1, "SESSION_WRAPPING_KEY")
	commandtest.Run(t, env, line, "inspect").Want(t, 1, "SESSION_KEYS", "-keys")
	commandtest.Run(t, env, line, "inspect", "-keys", file+"x").Want(t, 1, "no file")

	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte(d.Keys[0].Key.Text()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	commandtest.Run(t, nil, line, "inspect", "-keys", text).Want(t, 0, "alice")
	if err := os.Chmod(text, 0o644); err != nil {
		t.Fatal(err)
	}
	commandtest.Run(t, nil, line, "inspect", "-keys", text).Want(t, 1, "chmod 600")

	// Under a revoked key a cookie opens no more, and one still wants to see it.
	commandtest.Run(t, env, "", "keys", "revoke", file, ids[0]).Want(t, 0)
	commandtest.Run(t, env, line, "inspect", "-keys", file).Want(t, 1, ids[0]+", revoked", "alice", "revoked key")
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
	commandtest.Run(t, []string{"SESSION_KEYS=" + key.Text()}, "Set-Cookie: "+line, "inspect").Want(t, 1, "expired ", "days ago", "alice", "2000-01-01 01:30:00")
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
	m, err := sealed.New(ring, sealed.Config[deep]{Purpose: "link"})
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
	commandtest.Run(t, env, token, "inspect", "-name", "", "-purpose", "link").Want(t, 0, `[1, 2]: "alice"`)
	if token, err = m.Seal(deep{Both: map[any]string{1: "number", "1": "text"}}); err != nil {
		t.Fatal(err)
	}
	commandtest.Run(t, env, token, "inspect", "-name", "", "-purpose", "link").Want(t, 0, `"1":`, `:"number"`, `:"text"`)
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
	token, err := mustManager(t, ring, sealed.Config[session]{Purpose: "link"}).Seal(session{})
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"inspect", "-name", ""}, {"key"}} {
		cmd := exec.Command(commandtest.Binary(), args...)
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
		r := commandtest.Run(t, []string{"SESSION_KEYS=" + key.Text()}, "Cookie: "+name+"=2."+value[:i]+"; "+name+".1="+value[i:], "inspect")
		r.Want(t, 0, "alice", "in 2 pieces")
		if n := strings.Count(r.Out, "version"); n != 1 {
			t.Errorf("%d reports of one session:\n%s", n, r.Out)
		}
		return
	}
	t.Fatal("no token has what this test looks for")
}
