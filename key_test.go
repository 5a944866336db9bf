package sealed_test

import (
	"bytes"
	"encoding/base64"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"example.com/sealed"
)

func TestKeySurvivesTextAndParseKey(t *testing.T) {
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

// parseKeyRefuses checks that no text is a key, and that no error shows it.
func parseKeyRefuses(t *testing.T, texts map[string]string) {
	t.Helper()
	for name, text := range texts {
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

func TestParseKeyRefusesAllButTheOneTextOfAKey(t *testing.T) {
	good := sealed.GenerateKey().Text()
	random := mustHex(t, sha256Hex("a test vector"))
	parseKeyRefuses(t, map[string]string{
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
	})
}

func TestParseKeyRefusesSecretsThatCannotBeRandom(t *testing.T) {
	random := mustHex(t, sha256Hex("a test vector"))
	pattern := append(append([]byte(nil), random[:16]...), random[:16]...)
	parseKeyRefuses(t, map[string]string{
		"zeros":        keyText(make([]byte, 32)),
		"counting":     keyText([]byte("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f")),
		"a passphrase": keyText([]byte("correct horse battery staple 123")),
		"repeated":     keyText(pattern),
		"filled up":    keyText(append(append([]byte(nil), random[:20]...), make([]byte, 12)...)),
	})
}

// parseKeyAccepts checks whether a secret passes for random.
func parseKeyAccepts(t *testing.T, ok bool, what string, secret []byte) {
	t.Helper()
	if _, err := sealed.ParseKey(keyText(secret)); (err == nil) != ok {
		t.Errorf("%s: %v, want accepted: %v", what, err, ok)
	}
}

func TestParseKeyRefuses31Bytes(t *testing.T) {
	parseKeyAccepts(t, false, "31 bytes", mustHex(t, sha256Hex("a test vector"))[:31])
}

func TestParseKeyRefusesPrintableASCIIOnly(t *testing.T) {
	random := mustHex(t, sha256Hex("a test vector"))
	low, high := make([]byte, 32), make([]byte, 32)
	for i := range low {
		low[i], high[i] = random[i]%0x7f, random[i]|0x20
	}
	low[3] = 1
	high[3] = 0xf0
	parseKeyAccepts(t, false, "a varied passphrase", []byte("Zx9!kQ2@vB7#mN4$pL8%tR1^wS6&yH3*"))
	parseKeyAccepts(t, false, "one with a space and a tilde", []byte("Zx9!kQ2@vB7#mN4$pL8 tR1^wS6&yH3~"))
	parseKeyAccepts(t, true, "below DEL", low)
	parseKeyAccepts(t, true, "above space", high)
}

func TestParseKeyRefusesAnArithmeticProgression(t *testing.T) {
	steps := make([]byte, 32)
	for i := range steps {
		steps[i] = byte(i*7 + 200)
	}
	parseKeyAccepts(t, false, "steps of 7", steps)
}

func TestParseKeyRefuses8EqualBytesInARow(t *testing.T) {
	random := mustHex(t, sha256Hex("a test vector")) // no byte twice in a row
	run := func(at, n int) []byte {
		return append(append(append([]byte(nil), random[:at]...), bytes.Repeat([]byte{0xf7}, n)...), random[at+n:]...)
	}
	pairs := append([]byte(nil), random...)
	for i := 0; i < 16; i += 2 {
		pairs[i+1] = pairs[i]
	}
	parseKeyAccepts(t, false, "8 equal at the start", run(0, 8))
	parseKeyAccepts(t, false, "8 equal inside", run(9, 8))
	parseKeyAccepts(t, true, "7 equal inside", run(9, 7))
	parseKeyAccepts(t, true, "8 pairs", pairs)
}

func TestParseKeyRefuses16DistinctBytes(t *testing.T) {
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
	parseKeyAccepts(t, false, "16 distinct", distinct(16))
	parseKeyAccepts(t, true, "17 distinct", distinct(17))
}

func TestZeroKeyHasNoText(t *testing.T) {
	if text := (sealed.Key{}).Text(); text != "" {
		t.Errorf("the zero Key has the text %q", text)
	}
}

// Alone or inside other values.
func TestSecretNeverShowsWhateverPrintsIt(t *testing.T) {
	key := sealed.GenerateKey()
	ring := ringOf(t, key, sealed.GenerateKey())
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
	_, err := sealed.NewKeyring(key, key)
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
