package sealed_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"example.com/sealed"
)

// sealedToken returns a token, its bytes, and a function that checks that another
// text is refused.
func sealedToken(t *testing.T) (token string, raw []byte, refused func(what, token string)) {
	t.Helper()
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	token, err := m.Seal(Session{User: "alice", Cart: []string{"mug"}})
	if err != nil {
		t.Fatal(err)
	}
	raw, err = base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	return token, raw, func(what, token string) {
		t.Helper()
		if s, _, err := m.Open(t.Context(), token); !errors.Is(err, sealed.ErrInvalid) || s.User != "" {
			t.Errorf("%s: %+v, %v, want ErrInvalid", what, s, err)
		}
	}
}

func TestEveryBitOfTokenCounts(t *testing.T) {
	token, raw, refused := sealedToken(t)
	for i := range len(raw) * 8 {
		flipped := append([]byte(nil), raw...)
		flipped[i/8] ^= 1 << (i % 8)
		refused(fmt.Sprintf("bit %d of the bytes", i), base64.RawURLEncoding.EncodeToString(flipped))
	}
	for i := range len(token) * 8 {
		flipped := []byte(token)
		flipped[i/8] ^= 1 << (i % 8)
		refused(fmt.Sprintf("bit %d of the text", i), string(flipped))
	}
}

func TestPartOfTokenIsRefused(t *testing.T) {
	token, raw, refused := sealedToken(t)
	for i := range len(token) {
		refused(fmt.Sprintf("the first %d characters", i), token[:i])
		refused(fmt.Sprintf("without the first %d characters", i+1), token[i+1:])
	}
	for i := range raw {
		refused(fmt.Sprintf("the first %d bytes", i), base64.RawURLEncoding.EncodeToString(raw[:i]))
	}
}

func TestTokenWithMoreCharactersIsRefused(t *testing.T) {
	token, _, refused := sealedToken(t)
	for i := range len(token) {
		for _, c := range []string{"\n", "\r", "\r\n", " ", "=", "A", "."} {
			refused(fmt.Sprintf("%q at %d", c, i), token[:i]+c+token[i:])
		}
	}
	refused("padded", token+"=")
	refused("twice", token+token)
}

// wantCookie checks what a manager makes of a forged token in its cookie: alice's
// session, or the error. It must leave the cookie as it is.
func wantCookie(t *testing.T, m *sealed.Manager[Session], what, token string, want error) {
	t.Helper()
	s, res, err := getWith(m, name+"="+token)
	if !errors.Is(err, want) || (err == nil) != (s.User == "alice") {
		t.Errorf("%s: %+v, %v, want %v", what, s, err, want)
	}
	if setsCookie(res) {
		t.Errorf("%s: the cookie was changed: %q", what, res.Header["Set-Cookie"])
	}
}

func TestTokenOfAnotherKeyNamePurposeOrVersionIsRefused(t *testing.T) {
	m, f, _ := mustForge(t, sealed.Config[Session]{})
	stranger := newForger(t, sealed.GenerateKey())
	good := plaintext(t, [16]byte{1, 2, 3}, time.Now().UnixMilli(), 0, hourMs, Session{User: "alice"})
	unknownVersion, err := base64.RawURLEncoding.DecodeString(f.token(good, name, purpose))
	if err != nil {
		t.Fatal(err)
	}
	unknownVersion[0] = 2
	for _, tt := range []struct {
		what  string
		token string
		want  error
	}{
		{"a good one", f.token(good, name, purpose), nil},
		{"another key", stranger.token(good, name, purpose), sealed.ErrInvalid},
		{"another name", f.token(good, "__Host-other", ""), sealed.ErrInvalid},
		{"a shorter name, the rest as purpose", f.token(good, name[:6], name[6:]), sealed.ErrInvalid},
		{"another purpose", f.token(good, name, "x"), sealed.ErrInvalid},
		{"another version", base64.RawURLEncoding.EncodeToString(unknownVersion), sealed.ErrInvalid},
	} {
		wantCookie(t, m, tt.what, tt.token, tt.want)
	}
}

func TestNonceIsRandom(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	seen := map[string]bool{}
	for range 50 {
		token, err := m.Seal(Session{User: "alice"})
		if err != nil {
			t.Fatal(err)
		}
		raw, _ := base64.RawURLEncoding.DecodeString(token)
		for i := 5; i < 29; i += 4 { // each part of it
			part := fmt.Sprint(i, raw[i:i+4])
			if seen[part] {
				t.Fatalf("nonce bytes %d to %d repeat", i, i+4)
			}
			seen[part] = true
		}
	}
}

// longestToken seals the longest session that Seal takes, and returns how long its
// text is.
func longestToken(t *testing.T, m *sealed.Manager[Session]) (token string, n int) {
	t.Helper()
	n = 49152 - 45 - 33 - 20 // 45 around the record; its head; the map, key and string head of the data
	limit := n + 100
	token, err := m.Seal(Session{Flash: strings.Repeat("x", n)})
	for ; err == nil && len(token) < 65536; n++ {
		if n == limit {
			t.Fatalf("a text of %d bytes makes a token of only %d characters", n, len(token))
		}
		token, err = m.Seal(Session{Flash: strings.Repeat("x", n+1)})
	}
	if err != nil || len(token) != 65536 {
		t.Fatalf("%d characters, %v", len(token), err)
	}
	return token, n
}

func TestTokenOf64KiBOpens(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	token, _ := longestToken(t, m)
	if _, _, err := m.Open(t.Context(), token); err != nil {
		t.Errorf("a token of 64 KiB: %v", err)
	}
}

func TestTokenOver64KiBIsNotSealed(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	_, n := longestToken(t, m)
	if _, err := m.Seal(Session{Flash: strings.Repeat("x", n+1)}); !errors.Is(err, sealed.ErrTooLarge) {
		t.Errorf("one byte more: %v", err)
	}
}

func TestTokenOver64KiBIsNotOpened(t *testing.T) {
	m, f, _ := mustForge(t, sealed.Config[Session]{})
	_, n := longestToken(t, m)
	long := f.token(plaintext(t, [16]byte{1}, time.Now().UnixMilli(), 0, hourMs, Session{Flash: strings.Repeat("x", n+1)}), "", purpose)
	if _, _, err := m.Open(t.Context(), long); !errors.Is(err, sealed.ErrInvalid) {
		t.Errorf("a good token of %d characters: %v, want ErrInvalid", len(long), err)
	}
}

// Neither the token's text nor its bytes hold anything of the session in the clear.
func TestTokenShowsNothingOfTheSession(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user})
	b := newBrowser(t)
	b.update(m, func(s *Session) { s.User, s.Flash = "alice@shop.example", "a message for her" })
	text := strings.TrimPrefix(b.cookie(), name+"=")
	token, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	id := b.info(m).ID
	for what, secret := range map[string]string{"the user": "alice", "data": "message", "the ID": string(id[:])} {
		if strings.Contains(text, secret) || bytes.Contains(token, []byte(secret)) {
			t.Errorf("the token shows %s", what)
		}
	}
}
