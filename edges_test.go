package sealed_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

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

// Flush, Push, and the headers' details.
type recordingPusher struct {
	*httptest.ResponseRecorder
	target string
	opts   *http.PushOptions
}

func (p *recordingPusher) Push(target string, opts *http.PushOptions) error {
	p.target, p.opts = target, opts
	return nil
}

func TestWriter(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	p := &recordingPusher{ResponseRecorder: httptest.NewRecorder()}
	opts := &http.PushOptions{Method: "GET"}
	m.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := w.(http.Pusher).Push("/x", opts); err != nil {
			t.Error(err)
		}
	})).ServeHTTP(p, httptest.NewRequest("GET", "/", nil))
	if p.target != "/x" || p.opts != opts {
		t.Errorf("pushed %q", p.target)
	}
	w := httptest.NewRecorder()
	m.Handler(http.HandlerFunc(func(inner http.ResponseWriter, _ *http.Request) {
		if inner.(http.Flusher).Flush(); !w.Flushed {
			t.Error("Flush did not reach the server's writer")
		}
	})).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))

	for cache, want := range map[string]string{"no-store, max-age=0": "no-store, max-age=0", "max-age=0,\tprivate\t": "max-age=0,\tprivate\t"} {
		res := newBrowser(t).visit(m, func(w http.ResponseWriter, r *http.Request) {
			set(t, m, r)
			w.Header()["Cache-Control"] = []string{cache}
		})
		if got := res.Header["Cache-Control"]; len(got) != 1 || got[0] != want {
			t.Errorf("Cache-Control %q, want %q", got, want)
		}
	}
	// The handler's own slice is left alone; spaces before our name do not hide it.
	lines := []string{" " + name + "=planted", name + ".31=planted", "a=1", name + ".0=1", name + ".01=1", name + ".+1=1", name + ".32=1", name + ".99=1"}
	kept := append([]string(nil), lines...)
	res := newBrowser(t).visit(m, func(w http.ResponseWriter, r *http.Request) {
		set(t, m, r)
		w.Header()["Set-Cookie"] = lines
	})
	if got := res.Header["Set-Cookie"]; strings.Join(got[:len(got)-1], "|") != strings.Join(kept[2:], "|") {
		t.Errorf("Set-Cookie %q", got)
	}
	if diff := cmp.Diff(kept, lines); diff != "" {
		t.Errorf("the handler's slice was changed:\n%s", diff)
	}
	// A session can be read after the headers are sent.
	b := newBrowser(t)
	b.login(m, "alice")
	b.visit(m, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(204)
		if s, err := m.Get(r.Context()); err != nil || s.User != "alice" {
			t.Errorf("Get: %+v, %v", s, err)
		}
		if _, err := m.Info(r.Context()); err != nil {
			t.Errorf("Info: %v", err)
		}
	})
	// A form that was parsed outside stays the server's to delete.
	r := httptest.NewRequest("POST", "/", strings.NewReader("--b\r\nContent-Disposition: form-data; name=f; filename=f\r\n\r\nx\r\n--b--\r\n"))
	r.Header.Set("Content-Type", "multipart/form-data; boundary=b")
	if err := r.ParseMultipartForm(1); err != nil {
		t.Fatal(err)
	}
	m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { r.MultipartForm = nil })).ServeHTTP(httptest.NewRecorder(), r)
	if r.MultipartForm == nil {
		t.Error("the outer form was lost")
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
