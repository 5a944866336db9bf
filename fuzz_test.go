package sealed_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"example.com/sealed"
)

// anyData is a session type that takes any CBOR map and keeps its bytes, so
// that a test can see them.
type anyData struct{ raw cbor.RawMessage }

func (d anyData) MarshalCBOR() ([]byte, error) {
	if d.raw == nil {
		return []byte{0xa0}, nil
	}
	return d.raw, nil
}

func (d *anyData) UnmarshalCBOR(b []byte) error {
	if b[0]&0xe0 != 0xa0 {
		return errors.New("not a map")
	}
	// Strictly, as the package's own decoder would: it leaves this type alone.
	mode, err := cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden}.DecMode()
	if err != nil {
		return err
	}
	var m map[any]any
	if err := mode.Unmarshal(b, &m); err != nil {
		return err
	}
	d.raw = bytes.Clone(b)
	return nil
}

// getAny reads a session, as it stands in the record, and its info.
func getAny(m *sealed.Manager[anyData], cookie string) (data cbor.RawMessage, info sealed.Info, err error) {
	request(m, func(_ http.ResponseWriter, r *http.Request) {
		var s anyData
		if s, err = m.Get(r.Context()); err == nil {
			info, err = m.Info(r.Context())
		}
		data = s.raw
	}, cookie)
	return data, info, err
}

func loadVectors(t testing.TB) vectors {
	b, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(b, &v); err != nil || len(v.Accept) == 0 || len(v.Refuse) == 0 {
		t.Fatalf("no vectors: %v", err)
	}
	return v
}

// FuzzOpen: no text panics or opens, unless it is a token letter for letter.
func FuzzOpen(f *testing.F) {
	v := loadVectors(f)
	key, err := sealed.ParseKey(v.Keys[0].Text)
	if err != nil {
		f.Fatal(err)
	}
	m := mustNew(f, ringOf(f, key), sealed.Config[anyData]{})
	for _, x := range append(v.Accept, v.Refuse...) {
		f.Add(x.Token)
	}
	token, err := m.Seal(anyData{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(token)
	f.Fuzz(func(t *testing.T, text string) {
		s, info, err := m.Open(t.Context(), text)
		if err != nil {
			if s.raw != nil || info.KeyID != "" {
				t.Errorf("an error with data: %v", err)
			}
			return
		}
		raw, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil || base64.RawURLEncoding.EncodeToString(raw) != text {
			t.Errorf("%q opened, but is not what its bytes encode to", text)
		}
	})
}

// FuzzRecord: whatever plaintext opens encodes to the same bytes again. The
// fuzzer has the key, as an attacker who stole it, or another implementation.
func FuzzRecord(f *testing.F) {
	ring, key := ringAndKey(f)
	m := mustNew(f, ring, sealed.Config[anyData]{Lifetime: 400 * 24 * 3600e9})
	forge := newForger(f, key)
	for _, x := range append(loadVectors(f).Accept, loadVectors(f).Refuse...) {
		f.Add(mustHex(f, x.Plaintext))
	}
	f.Fuzz(func(t *testing.T, plain []byte) {
		// Bring the record's time to the present, or nothing would open.
		if len(plain) > 27 && plain[18] == 0x1b {
			plain = append(plain[:18:18], append(deterministic(t, time.Now().UnixMilli()), plain[27:]...)...)
		}
		s, info, err := m.Open(t.Context(), forge.token(plain, "", purpose))
		if err != nil {
			return
		}
		again := plaintext(t, info.ID, info.Created.UnixMilli(), info.LastUsed.Sub(info.Created).Milliseconds(), expiresField(plain), s.raw)
		if plain[0] == 0x86 { // extensions follow: none, or padding
			again[0] = 0x86
			rest, ok := bytes.CutPrefix(plain, again)
			var ext map[uint64][]byte
			if !ok || cbor.Unmarshal(rest, &ext) != nil || len(ext) > 1 || len(ext) == 1 && ext[0] == nil {
				t.Errorf("%x opened, with the extensions %x", plain, rest)
			}
			if b := deterministic(t, ext); !bytes.Equal(b, rest) {
				t.Errorf("the extensions %x encode to %x", rest, b)
			}
			return
		}
		if !bytes.Equal(again, plain) {
			t.Errorf("%x opened, but encodes to %x", plain, again)
		}
	})
}

// FuzzBoundRecord: a record with extensions is refused, or is what deterministic encoding
// makes of it; one with a binding never opens without a proof.
func FuzzBoundRecord(f *testing.F) {
	ring, key := ringAndKey(f)
	m := mustNew(f, ring, sealed.Config[anyData]{
		Lifetime: 400 * 24 * 3600e9, DeviceBinding: &sealed.DeviceBinding{}, Subject: func(anyData) string { return "somebody" },
	})
	forge := newForger(f, key)
	v := loadVectors(f)
	for _, x := range append(v.Accept, v.Refuse...) {
		f.Add(mustHex(f, x.Plaintext))
	}
	binding := [16]byte{1}
	f.Add(plaintext(f, [16]byte{2}, time.Now().UnixMilli(), 0, hourMs, map[int]any{1: "x"}, map[int]any{0: []byte("pad"), 1: binding[:]}))
	f.Add(plaintext(f, [16]byte{2}, time.Now().UnixMilli(), 0, hourMs, []any{1, []any{2}, cbor.Tag{Number: 1, Content: 5}}, map[int]any{1: binding[:]}))
	f.Fuzz(func(t *testing.T, plain []byte) {
		if len(plain) > 27 && plain[18] == 0x1b {
			plain = append(plain[:18:18], append(deterministic(t, time.Now().UnixMilli()), plain[27:]...)...)
		}
		_, info, err := getAny(m, name+"="+forge.token(plain, name, purpose))
		unproven := errors.Is(err, sealed.ErrUnproven)
		if err != nil && !unproven {
			return
		}
		if info.Bound {
			t.Errorf("%x is bound, without a proof", plain)
		}
		if plain[0] != 0x86 {
			if unproven {
				t.Errorf("%x is unproven, without a binding", plain)
			}
			return
		}
		var record []cbor.RawMessage
		var extensions map[uint64][]byte
		if cbor.Unmarshal(plain, &record) != nil || cbor.Unmarshal(record[5], &extensions) != nil {
			t.Fatalf("%x opened", plain)
		}
		b := extensions[1]
		if unproven != (len(b) == 16 && [16]byte(b) != [16]byte{}) || !bytes.Equal(deterministic(t, extensions), record[5]) {
			t.Errorf("%x: unproven %v, with the extensions %x", plain, unproven, record[5])
		}
	})
}

// FuzzCookieHeader: no header panics, changes a cookie it should leave, or hides
// a good cookie that comes first.
func FuzzCookieHeader(f *testing.F) {
	ring := mustRing(f)
	m := mustNew(f, ring, sealed.Config[Session]{Cookie: sealed.Cookie{MaxChunks: 3}})
	res := request(m, func(_ http.ResponseWriter, r *http.Request) {
		m.Update(r.Context(), func(s *Session) { s.User, s.Flash = "alice", strings.Repeat("x", 3500) })
	})
	good := strings.Split(cookieOf(res), "; ")
	if len(good) != 2 {
		f.Fatalf("%d cookies, want 2", len(good))
	}
	for _, s := range []string{"", ";", name, name + "=", name + "=2.x", name + ".1=x; " + name + ".2=y", "a=b; c=d", strings.Join(good, ";"), good[1], name + "=3.x;" + name + ".31=;" + name + ".32="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		if _, res, _ := getWith(m, header); setsCookie(res) {
			t.Errorf("reading %q set %q", header, res.Header["Set-Cookie"])
		}
		if s, _, err := getWith(m, strings.Join(good, "; ")+"; "+header); s.User != "alice" {
			t.Errorf("%q hides the good cookie before it: %v", header, err)
		}
	})
}

// expiresField reads the fourth field of a record.
func expiresField(plain []byte) int64 {
	var fields []any
	if err := cbor.Unmarshal(plain, &fields); err != nil || len(fields) < 4 {
		return -1
	}
	n, _ := fields[3].(uint64)
	return int64(n)
}
