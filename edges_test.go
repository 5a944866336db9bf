package sealed_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/sealed"
)

func TestRing(t *testing.T) {
	// A refused Revoke changes nothing.
	ring, first := ringAndKey(t)
	m := mustNew(t, ring, sealed.Config[Session]{})
	b := newBrowser(t)
	b.login(m, "alice")
	if err := ring.Revoke(first.ID()); err == nil {
		t.Error("the only key was revoked")
	}
	if got := states(ring); got != first.ID()+" primary" {
		t.Errorf("keys %s", got)
	}
	if _, _, err := b.get(m); err != nil {
		t.Error(err)
	}
	// Remove removes one.
	second, third := sealed.GenerateKey(), sealed.GenerateKey()
	ring, _ = sealed.NewKeyring(first, second, third)
	if err := ring.Remove(second.ID()); err != nil {
		t.Error(err)
	}
	if got, want := states(ring), first.ID()+" primary, "+third.ID()+" retiring"; got != want {
		t.Errorf("keys %s, want %s", got, want)
	}
	if _, err := sealed.ParseKeyring(first.Text() + "\v" + second.Text() + "\f" + third.Text()); err != nil {
		t.Error(err)
	}
	// A key seals in the millisecond that it was made; times are wall times.
	synctest.Test(t, func(t *testing.T) {
		ring := mustRing(t)
		m := mustNew(t, ring, sealed.Config[Session]{})
		time.Sleep(500 * time.Microsecond)
		key, _ := ring.Rotate(0)
		token, _ := m.Seal(Session{User: "alice"})
		if _, info, err := m.Open(t.Context(), token); err != nil || info.KeyID != key.ID() {
			t.Errorf("sealed with %s, want %s: %v", info.KeyID, key.ID(), err)
		}
	})
	if _, err := ring.Rotate(0); err != nil {
		t.Fatal(err)
	}
	if s := ring.Keys()[0].Created.String(); strings.Contains(s, "m=") { // not in a bubble: its clock has none
		t.Errorf("Created has a monotonic reading: %s", s)
	}
}

func TestWeakness(t *testing.T) {
	random := mustHex(t, sha256Hex("a test vector")) // no byte twice in a row
	with := func(at int, b ...byte) []byte {
		return append(append(append([]byte(nil), random[:at]...), b...), random[at+len(b):]...)
	}
	distinct := func(n int) []byte {
		var s []byte
		for i := range n {
			s = append(s, byte(i*37+200))
		}
		for i := 0; len(s) < 32; i += 3 {
			s = append(s, s[i%n])
		}
		return s
	}
	pairs := append([]byte(nil), random...)
	for i := 0; i < 16; i += 2 {
		pairs[i+1] = pairs[i]
	}
	steps := make([]byte, 32)
	for i := range steps {
		steps[i] = byte(i*7 + 200)
	}
	low, high := make([]byte, 32), make([]byte, 32)
	for i := range low {
		low[i], high[i] = random[i]%0x7f, random[i]|0x20
	}
	low[3] = 1
	high[3] = 0xf0
	run := func(at, n int) []byte { return with(at, bytes.Repeat([]byte{0xf7}, n)...) }
	for _, tt := range []struct {
		what   string
		secret []byte
		ok     bool
	}{
		{"31 bytes", random[:31], false},
		{"a varied passphrase", []byte("Zx9!kQ2@vB7#mN4$pL8%tR1^wS6&yH3*"), false},
		{"one with a space and a tilde", []byte("Zx9!kQ2@vB7#mN4$pL8 tR1^wS6&yH3~"), false},
		{"steps of 7", steps, false},
		{"8 equal at the start", run(0, 8), false},
		{"8 equal inside", run(9, 8), false},
		{"7 equal inside", run(9, 7), true},
		{"8 pairs", pairs, true},
		{"16 distinct", distinct(16), false},
		{"17 distinct", distinct(17), true},
		{"below DEL", low, true},
		{"above space", high, true},
	} {
		if _, err := sealed.ParseKey(keyText(tt.secret)); (err == nil) != tt.ok {
			t.Errorf("%s: %v, want accepted: %v", tt.what, err, tt.ok)
		}
	}
}

// A read does not send what would not fit.
func TestResealFits(t *testing.T) {
	ring := mustRing(t)
	wide := mustNew(t, ring, sealed.Config[Session]{Cookie: sealed.Cookie{Name: "__Secure-s"}})
	narrow := mustNew(t, ring, sealed.Config[Session]{Cookie: sealed.Cookie{Name: "__Secure-s", Path: "/" + strings.Repeat("p", 900)}})
	res := request(wide, func(_ http.ResponseWriter, r *http.Request) {
		if err := wide.Update(r.Context(), func(s *Session) { s.Flash = strings.Repeat("x", 2600) }); err != nil {
			t.Error(err)
		}
	})
	cookie := strings.SplitN(res.Header.Get("Set-Cookie"), ";", 2)[0]
	if _, err := ring.Rotate(0); err != nil {
		t.Fatal(err)
	}
	if _, res, err := getWith(narrow, cookie); err != nil || setsCookie(res) {
		t.Errorf("%v, %d Set-Cookie lines, want none", err, len(res.Header["Set-Cookie"]))
	}
}

// Key changes during a request.
func TestKeyDuringRequest(t *testing.T) {
	for _, revoke := range []bool{true, false} {
		var rec recorder
		ring, key := ringAndKey(t)
		m := mustNew(t, ring, sealed.Config[Session]{Observe: rec.observe})
		b := newBrowser(t)
		b.login(m, "alice")
		rec.take()
		res := b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
			m.Get(r.Context())
			ring.Rotate(0)
			if revoke {
				ring.Revoke(key.ID())
			} else {
				ring.Remove(key.ID())
			}
		})
		if setsCookie(res) {
			t.Errorf("the cookie was touched: %q", res.Header["Set-Cookie"])
		}
		if revoke {
			rec.want(t, "revoked", "opened", "rejected revoked key")
		} else {
			rec.want(t, "removed", "opened", "rejected unknown key")
		}
	}
	// A prefetched page reseals too; other purposes are use.
	synctest.Test(t, func(t *testing.T) {
		ring := mustRing(t)
		m := mustNew(t, ring, sealed.Config[Session]{IdleTimeout: time.Hour})
		b := newBrowser(t)
		b.login(m, "alice")
		ring.Rotate(0)
		read := func(_ http.ResponseWriter, r *http.Request) { m.Get(r.Context()) }
		if res := b.visit(m, read, "Sec-Purpose", "prefetch"); !setsCookie(res) {
			t.Error("not sealed anew on a prefetched page")
		}
		time.Sleep(20 * time.Minute)
		if res := b.visit(m, read, "Sec-Purpose", "preview"); !setsCookie(res) {
			t.Error("a use was not recorded")
		}
	})
}
