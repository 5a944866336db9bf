package sealed_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"

	"example.com/sealed"
)

func TestKeyText(t *testing.T) {
	for range 100 {
		key := sealed.GenerateKey()
		text := key.Text()
		if len(text) != len("sealed-key-1-")+43 {
			t.Fatalf("Text has %d characters", len(text))
		}
		parsed, err := sealed.ParseKey(text)
		if err != nil {
			t.Fatal(err)
		}
		if parsed.Text() != text || parsed.ID() != key.ID() || len(key.ID()) != 8 {
			t.Fatal("a key does not survive Text and ParseKey")
		}
	}
}

func TestParseKeyRefuses(t *testing.T) {
	good := sealed.GenerateKey().Text()
	random := mustHex(t, sha256Hex("a test vector"))
	pattern := append(append([]byte(nil), random[:16]...), random[:16]...)
	for name, text := range map[string]string{
		"empty":            "",
		"no prefix":        strings.TrimPrefix(good, "sealed-key-1-"),
		"other version":    strings.Replace(good, "-1-", "-2-", 1),
		"upper case":       strings.ToUpper(good),
		"short":            good[:len(good)-1],
		"long":             good + "A",
		"padded":           good + "=",
		"a line break":     good[:30] + "\n" + good[30:],
		"a line break end": good + "\n",
		"a space":          good[:30] + " " + good[31:],
		"standard base64":  "sealed-key-1-" + strings.Repeat("+/", 21) + "A",
		"loose bits":       keyText(random)[:55] + "B", // the last character has two bits that must be 0
		"16 bytes":         keyText(random[:16]),
		"33 bytes":         keyText(append(random, 1)),
		"zeros":            keyText(make([]byte, 32)),
		"counting":         keyText([]byte("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f")),
		"a passphrase":     keyText([]byte("correct horse battery staple 123")),
		"repeated":         keyText(pattern),
		"filled up":        keyText(append(append([]byte(nil), random[:20]...), make([]byte, 12)...)),
	} {
		key, err := sealed.ParseKey(text)
		if err == nil {
			t.Errorf("%s: accepted as %v", name, key)
			continue
		}
		if len(text) > 20 && strings.Contains(err.Error(), text[13:20]) {
			t.Errorf("%s: the error shows the text: %v", name, err)
		}
	}
}

// A secret never shows, whatever prints it, alone or inside other values.
func TestKeyNeverPrints(t *testing.T) {
	key := sealed.GenerateKey()
	ring, err := sealed.NewKeyring(key, sealed.GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	m := mustNew(t, ring, sealed.Config[Session]{})
	encoded := strings.TrimPrefix(key.Text(), "sealed-key-1-")
	secret, _ := base64.RawURLEncoding.DecodeString(encoded)
	derived := newForger(t, key).derive("sealed/v1 aead", 32)

	var out bytes.Buffer
	type holder struct {
		private sealed.Key
		Public  sealed.Key
		Pointer *sealed.Key
		Slice   []sealed.Key
		Map     map[string]sealed.Key
		Any     any
		Ring    *sealed.Keyring
		Manager *sealed.Manager[Session]
	}
	h := holder{key, key, &key, []sealed.Key{key}, map[string]sealed.Key{"k": key}, key, ring, m}
	for _, v := range []any{key, &key, h, &h, []any{key}, ring, *m, ring.Keys(), struct{ h holder }{h}} {
		for _, verb := range []string{"v", "+v", "#v", "s", "q", "x", "X", "d", "o", "b", "c", "U", "e", "T", "t", "p", "w", "020x", "# x"} {
			fmt.Fprintf(&out, "%"+verb+"\n", v)
		}
		fmt.Fprintln(&out, v)
		for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
			slog.New(handler).Info("log", "value", v, slog.Group("g", "v", v))
		}
		if b, err := json.Marshal(v); err == nil {
			out.Write(b)
		} else {
			fmt.Fprintln(&out, err)
		}
		fmt.Fprintln(&out, xml.NewEncoder(&out).Encode(v), gob.NewEncoder(&out).Encode(v))
		if b, err := cbor.Marshal(v); err == nil {
			out.Write(b)
		}
		func() {
			defer func() { fmt.Fprint(&out, recover()) }()
			panic(v)
		}()
	}
	_, err = sealed.NewKeyring(key, key)
	fmt.Fprintln(&out, err, errors.Join(ring.Add(key, time.Time{}), ring.Revoke(key.Text())))
	if !strings.Contains(out.String(), "sealed key "+key.ID()) {
		t.Error("a printed key does not show its ID")
	}
	printed := out.String()
	for name, needle := range map[string]string{
		"text": encoded, "raw bytes": string(secret), "hex": fmt.Sprintf("%x", secret), "HEX": fmt.Sprintf("%X", secret),
		"spaced hex": fmt.Sprintf("% x", secret), "list": strings.Trim(fmt.Sprint(secret), "[]"), "part of a list": strings.Trim(fmt.Sprint(secret[:8]), "[]"),
		"derived": strings.Trim(fmt.Sprint(derived[:8]), "[]"), "derived hex": fmt.Sprintf("%x", derived[:8]), "go syntax": strings.Trim(fmt.Sprintf("%#v", secret[:4]), "[]byte{}"),
		"base64": base64.StdEncoding.EncodeToString(secret),
	} {
		if strings.Contains(printed, needle) {
			t.Errorf("the secret shows as %s", name)
		}
	}
}

func TestParseKeyring(t *testing.T) {
	a, b, c := sealed.GenerateKey(), sealed.GenerateKey(), sealed.GenerateKey()
	ring, err := sealed.ParseKeyring("\n " + a.Text() + ",\t" + b.Text() + "\r\n" + c.Text() + "\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []sealed.KeyInfo{
		{ID: a.ID(), State: sealed.KeyPrimary},
		{ID: b.ID(), State: sealed.KeyRetiring},
		{ID: c.ID(), State: sealed.KeyRetiring},
	}
	if diff := cmp.Diff(want, ring.Keys()); diff != "" {
		t.Errorf("Keys (-want +got):\n%s", diff)
	}
	for name, text := range map[string]string{
		"empty": "", "only separators": " ,\n", "one bad": a.Text() + " " + b.Text()[:40], "twice": a.Text() + " " + a.Text(),
	} {
		_, err := sealed.ParseKeyring(text)
		if err == nil || strings.Contains(err.Error(), a.Text()[13:]) || strings.Contains(err.Error(), b.Text()[13:40]) {
			t.Errorf("%s: error %v, want one without the text", name, err)
		}
		if name == "one bad" && !strings.Contains(err.Error(), "key 2 of 2") {
			t.Errorf("%s: error %v does not say which key", name, err)
		}
	}
	if _, err := sealed.NewKeyring(sealed.Key{}); err == nil {
		t.Error("NewKeyring took the zero Key")
	}
	if text := (sealed.Key{}).Text(); text != "" {
		t.Errorf("the zero Key has the text %q", text)
	}
}

func states(ring *sealed.Keyring) string {
	var s []string
	for _, k := range ring.Keys() {
		s = append(s, k.ID+" "+string(k.State))
	}
	return strings.Join(s, ", ")
}

// A key opens before it seals; no session is lost at any step.
func TestRotate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring, first := ringAndKey(t)
		m := mustNew(t, ring, sealed.Config[Session]{})
		b := newBrowser(t)
		b.login(m, "alice")
		second, err := ring.Rotate(time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		check := func(want string) {
			t.Helper()
			if got := states(ring); got != want {
				t.Errorf("keys %s, want %s", got, want)
			}
		}
		check(second.ID() + " pending, " + first.ID() + " primary")
		info := ring.Keys()[0]
		if now := time.Now(); !info.Created.Equal(now) || !info.Activates.Equal(now.Add(time.Hour)) {
			t.Errorf("created %v, activates %v", info.Created, info.Activates)
		}

		// Another instance already seals with it: this one opens that, and
		// seals changes with it too, but nothing else.
		other, _ := sealed.NewKeyring(second)
		b2 := newBrowser(t)
		b2.login(mustNew(t, other, sealed.Config[Session]{}), "bob")
		if _, res, err := b2.get(m); err != nil || setsCookie(res) {
			t.Errorf("a session under a pending key: error %v, cookie %v; want neither", err, setsCookie(res))
		}
		b2.update(m, func(s *Session) { s.Flash = "x" })
		if got := b2.info(m).KeyID; got != second.ID() {
			t.Errorf("sealed back to %s from the newer key %s", got, second.ID())
		}
		if _, res, err := b.get(m); err != nil || setsCookie(res) || b.info(m).KeyID != first.ID() {
			t.Errorf("before the activation: %v, cookie %v, want no change", err, setsCookie(res))
		}

		time.Sleep(time.Hour)
		check(second.ID() + " primary, " + first.ID() + " retiring")
		before := b.info(m) // reads, so it reseals
		after := b.info(m)
		if before.KeyID != first.ID() || after.KeyID != second.ID() {
			t.Errorf("sealed with %s, then %s; want anew with the primary", before.KeyID, after.KeyID)
		}
		after.KeyID = before.KeyID
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("sealing anew changed the session (-before +after):\n%s", diff)
		}
		if _, res, _ := b.get(m); setsCookie(res) {
			t.Error("sealed anew twice")
		}
		if err := ring.Remove(first.ID()); err != nil {
			t.Fatal(err)
		}
		if s, _, err := b.get(m); err != nil || s.User != "alice" {
			t.Errorf("after the old key is gone: %+v, %v", s, err)
		}
		if _, err := ring.Rotate(-1); err == nil {
			t.Error("Rotate took a negative lead")
		}
		// Twice in one instant: the later call is the newer.
		_, _ = ring.Rotate(0)
		last, _ := ring.Rotate(0)
		if got := ring.Keys()[0]; got.ID != last.ID() || got.State != sealed.KeyPrimary {
			t.Errorf("after two rotations the primary is %+v, want %s", got, last.ID())
		}
	})
}

// A session under a retiring key that is not read stays as it is.
func TestResealOnlyWhenRead(t *testing.T) {
	ring := mustRing(t)
	m := mustNew(t, ring, sealed.Config[Session]{})
	b := newBrowser(t)
	b.login(m, "alice")
	if _, err := ring.Rotate(0); err != nil {
		t.Fatal(err)
	}
	if res := b.visit(m, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }); setsCookie(res) {
		t.Error("sealed anew without being read")
	}
}

func TestAdd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c, d := sealed.GenerateKey(), sealed.GenerateKey(), sealed.GenerateKey(), sealed.GenerateKey()
		ring, _ := sealed.NewKeyring(a)
		now := time.Now()
		for _, err := range []error{ring.Add(b, now.Add(time.Minute)), ring.Add(c, now.Add(-time.Minute)), ring.Add(d, time.Time{})} {
			if err != nil {
				t.Error(err)
			}
		}
		want := b.ID() + " pending, " + c.ID() + " primary, " + a.ID() + " retiring, " + d.ID() + " retiring"
		if got := states(ring); got != want {
			t.Errorf("keys %s, want %s", got, want)
		}
		if err := ring.Add(b, now); err == nil {
			t.Error("a key was added twice")
		}
		if err := ring.Add(sealed.Key{}, now); err == nil {
			t.Error("the zero Key was added")
		}
		time.Sleep(time.Minute)
		if got := ring.Keys()[0].State; got != sealed.KeyPrimary {
			t.Errorf("at its activation the key is %s", got)
		}
	})
}

func TestRevokeAndRemoveKey(t *testing.T) {
	ring, first := ringAndKey(t)
	m := mustNew(t, ring, sealed.Config[Session]{})
	b := newBrowser(t)
	b.login(m, "alice")
	for _, f := range []func(string) error{ring.Revoke, ring.Remove} {
		if err := f(first.ID()); err == nil {
			t.Error("the only key could be taken away")
		}
		if err := f("no such ID"); err == nil {
			t.Error("an unknown ID is no error")
		}
	}
	second, _ := ring.Rotate(0)
	if err := ring.Revoke(first.ID()); err != nil {
		t.Fatal(err)
	}
	b.wantErr(m, sealed.ErrInvalid)
	if err := ring.Add(first, time.Time{}); err == nil {
		t.Error("a revoked key was added again")
	}
	if got, want := states(ring), second.ID()+" primary, "+first.ID()+" revoked"; got != want {
		t.Errorf("keys %s, want %s", got, want)
	}
	if err := ring.Remove(second.ID()); err == nil {
		t.Error("the only usable key could be removed")
	}
	if err := ring.Remove(first.ID()); err != nil {
		t.Error(err)
	}

	// Without an active key, the next to be active seals.
	pending, _ := ring.Rotate(time.Hour)
	if _, err := ring.Rotate(2 * time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := ring.Revoke(second.ID()); err != nil {
		t.Fatal(err)
	}
	b.login(m, "alice")
	if got := b.info(m).KeyID; got != pending.ID() {
		t.Errorf("sealed with %s, want %s, which is next", got, pending.ID())
	}
}

// A request that was under way when its key was revoked cannot carry a forged
// session over to a good key.
func TestKeyRevokedDuringRequest(t *testing.T) {
	for name, change := range map[string]func(*sealed.Manager[Session], context.Context) error{
		"read": func(*sealed.Manager[Session], context.Context) error { return nil },
		"update": func(m *sealed.Manager[Session], ctx context.Context) error {
			return m.Update(ctx, func(s *Session) { s.Flash = "x" })
		},
		"renew": (*sealed.Manager[Session]).Renew,
	} {
		for _, early := range []bool{true, false} {
			ring, key := ringAndKey(t)
			m := mustNew(t, ring, sealed.Config[Session]{})
			b := newBrowser(t)
			b.login(m, "mallory")
			b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
				if _, err := m.Get(r.Context()); err != nil {
					t.Error(err)
				}
				if _, err := ring.Rotate(0); err != nil {
					t.Error(err)
				}
				if !early {
					change(m, r.Context())
				}
				if err := ring.Revoke(key.ID()); err != nil {
					t.Error(err)
				}
				if early {
					if err := change(m, r.Context()); name == "renew" && !errors.Is(err, sealed.ErrInvalid) {
						t.Errorf("Renew: %v, want ErrInvalid", err)
					}
				}
			})
			if s, _, err := b.get(m); s.User != "" {
				t.Errorf("%s, early %v: the forged session lives on: %+v, %v", name, early, s, err)
			}
		}
	}
}

// Requests are served while keys come and go.
func TestRingIsConcurrent(t *testing.T) {
	ring := mustRing(t)
	m := mustNew(t, ring, sealed.Config[Session]{})
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			b := newBrowser(t)
			b.login(m, "alice")
			for {
				select {
				case <-done:
					return
				default:
				}
				if s, _, err := b.get(m); err != nil || s.User != "alice" {
					t.Errorf("%+v, %v", s, err)
					return
				}
			}
		})
	}
	for range 100 {
		if _, err := ring.Rotate(0); err != nil {
			t.Error(err)
		}
		ring.Keys()
	}
	close(done)
	wg.Wait()
}
