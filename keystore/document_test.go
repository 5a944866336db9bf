package keystore_test

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"iter"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/chacha20poly1305"

	"example.com/sealed"
	"example.com/sealed/keystore"
)

var update = flag.Bool("update", false, "write testdata/vectors.json, from the steps of FORMAT.md")

const vectorFile = "testdata/vectors.json"

// documentVectors is testdata/vectors.json: see FORMAT.md.
type documentVectors struct {
	Comment  string           `json:"comment"`
	Wrapping string           `json:"wrapping"`
	Accept   []documentVector `json:"accept"`
	Refuse   []documentVector `json:"refuse"`
}

type documentVector struct {
	Name     string      `json:"name"`
	Document string      `json:"document"`
	Revision uint64      `json:"revision,omitempty"`
	Keys     []keyVector `json:"keys,omitempty"`
	Reason   string      `json:"reason,omitempty"` // part of the error
}

type keyVector struct {
	Key       string `json:"key"`
	Created   int64  `json:"created"`
	Activates int64  `json:"activates"`
	Revoked   bool   `json:"revoked,omitempty"`
}

func vectorSecret(s string) []byte {
	sum := sha256.Sum256([]byte("sealed test vector: " + s))
	return sum[:]
}

func keyText(secret []byte) string {
	return "sealed-key-1-" + base64.RawURLEncoding.EncodeToString(secret)
}

// forge makes a document from FORMAT.md, without the package.
func forge(t *testing.T, wrapping, plaintext []byte, revision uint64) []byte {
	t.Helper()
	derive := func(info string, n int) []byte {
		b, err := hkdf.Key(sha256.New, wrapping, nil, info, n)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	header := append([]byte{1}, derive("sealed/v1 key id", 4)...)
	header = binary.BigEndian.AppendUint64(header, revision)
	aead, err := chacha20poly1305.NewX(derive("sealed/v1 keystore", 32))
	if err != nil {
		t.Fatal(err)
	}
	nonce := vectorSecret("nonce")[:24]
	document := append(bytes.Clone(header), nonce...)
	return aead.Seal(document, nonce, plaintext, append([]byte("sealed/v1 keystore"), header...))
}

func mustCBOR(t *testing.T, v any) []byte {
	t.Helper()
	b, err := cbor.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func makeVectors(t *testing.T) documentVectors {
	wrapping := vectorSecret("wrapping key")
	one, two, three := vectorSecret("key 1"), vectorSecret("key 2"), vectorSecret("key 3")
	const created, second, third int64 = 946684800000, 949276800000, 951868800000
	v := documentVectors{
		Comment:  "Test vectors of FORMAT.md. The keys are published here: never use them.",
		Wrapping: keyText(wrapping),
	}
	accept := func(name string, revision uint64, plaintext []byte, keys ...keyVector) {
		v.Accept = append(v.Accept, documentVector{Name: name, Revision: revision, Keys: keys, Document: hex.EncodeToString(forge(t, wrapping, plaintext, revision))})
	}
	list := mustCBOR(t, []any{[]any{one, created, created, 0}})
	accept("the first key", 1, list, keyVector{keyText(one), created, created, false})
	accept("a revoked key, the primary and its successor", 1<<40, mustCBOR(t, []any{
		[]any{one, created, created, second + 5}, []any{two, created, second, 0}, []any{three, second, third, 0},
	}), keyVector{keyText(one), created, created, true}, keyVector{keyText(two), created, second, false}, keyVector{keyText(three), second, third, false})
	accept("no key", 7, mustCBOR(t, []any{}))

	refuse := func(name, reason string, document []byte) {
		v.Refuse = append(v.Refuse, documentVector{Name: name, Reason: reason, Document: hex.EncodeToString(document)})
	}
	refuseList := func(name, reason string, plaintext []byte) { refuse(name, reason, forge(t, wrapping, plaintext, 1)) }
	good := forge(t, wrapping, list, 1)
	changed := func(i int) []byte {
		b := bytes.Clone(good)
		b[i] ^= 1
		return b
	}
	refuse("nothing", "no key document", []byte{})
	refuse("too short for a tag", "no key document", good[:52])
	refuse("cut off", "damaged", good[:len(good)-1])
	refuse("another version", "no key document", changed(0))
	refuse("another wrapping key's ID", "another wrapping key", changed(1))
	refuse("another revision", "damaged", changed(12))
	refuse("another nonce", "damaged", changed(13))
	refuse("another ciphertext", "damaged", changed(40))
	refuse("another tag", "damaged", changed(len(good)-1))
	refuse("sealed under another key of that ID", "damaged", append(bytes.Clone(good[:13]), forge(t, one, list, 1)[13:]...))
	refuseList("no list", "no list of keys", mustCBOR(t, map[string]int{}))
	refuseList("a byte behind the list", "no list of keys", append(bytes.Clone(list), 0))
	refuseList("a list of indefinite length", "no list of keys", append(append([]byte{0x9f}, list[1:]...), 0xff))
	refuseList("null", "no list of keys", []byte{0xf6})
	refuseList("a time that is null", "no list of keys", mustCBOR(t, []any{[]any{one, created, nil, 0}}))
	refuseList("a time that is longer than it need be", "no list of keys", append(mustCBOR(t, []any{[]any{one, created, created, 0}})[:54], 0x18, 0x00))
	refuseList("a secret that is a list", "no list of keys", mustCBOR(t, []any{[]any{slices.Collect(numbers(one)), created, created, 0}}))
	refuseList("three elements", "no list of keys", mustCBOR(t, []any{[]any{one, created, created}}))
	refuseList("five elements", "no list of keys", mustCBOR(t, []any{[]any{one, created, created, 0, 0}}))
	refuseList("a negative time", "no list of keys", mustCBOR(t, []any{[]any{one, created, -1, 0}}))
	refuseList("a time out of range", "out of range", mustCBOR(t, []any{[]any{one, created, uint64(1) << 48, 0}}))
	refuseList("a secret of 31 bytes", "31", mustCBOR(t, []any{[]any{one[:31], created, created, 0}}))
	refuseList("a secret that is not random", "random", mustCBOR(t, []any{[]any{make([]byte, 32), created, created, 0}}))
	refuseList("1001 keys", "no list of keys", mustCBOR(t, make([][]any, 1001)))
	return v
}

// numbers yields bytes as numbers, which CBOR has no bytes for.
func numbers(b []byte) iter.Seq[int] {
	return func(yield func(int) bool) {
		for _, x := range b {
			if !yield(int(x)) {
				return
			}
		}
	}
}

func TestVectors(t *testing.T) {
	want := makeVectors(t)
	text, err := json.MarshalIndent(want, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, '\n')
	if *update {
		if err := os.WriteFile(vectorFile, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(text), string(got)); diff != "" {
		t.Fatalf("%s is not what FORMAT.md says; run go test -run Vectors . -args -update (-want +got):\n%s", vectorFile, diff)
	}
	wrapping, err := keystore.ParseWrapping(want.Wrapping)
	if err != nil {
		t.Fatal(err)
	}
	read := func(t *testing.T, v documentVector) (keystore.Document, error) {
		b, err := hex.DecodeString(v.Document)
		if err != nil {
			t.Fatal(err)
		}
		var m keystore.Memory
		if _, err := m.Save(t.Context(), b, ""); err != nil {
			t.Fatal(err)
		}
		return keystore.Read(t.Context(), &m, wrapping)
	}
	for _, v := range want.Accept {
		t.Run(v.Name, func(t *testing.T) {
			d, err := read(t, v)
			if err != nil {
				t.Fatal(err)
			}
			if d.Revision != v.Revision || d.WrappingKeyID != wrapping[0].ID() {
				t.Errorf("revision %d under %s, want %d under %s", d.Revision, d.WrappingKeyID, v.Revision, wrapping[0].ID())
			}
			var keys []keyVector
			for _, k := range d.Keys {
				keys = append(keys, keyVector{k.Key.Text(), k.Created.UnixMilli(), k.Activates.UnixMilli(), k.Revoked})
			}
			if diff := cmp.Diff(v.Keys, keys); diff != "" {
				t.Errorf("keys (-want +got):\n%s", diff)
			}
		})
	}
	for _, v := range want.Refuse {
		t.Run(v.Name, func(t *testing.T) {
			_, err := read(t, v)
			if err == nil || !strings.HasPrefix(err.Error(), "keystore: ") || !strings.Contains(err.Error(), v.Reason) {
				t.Errorf("error %v, want one with %q", err, v.Reason)
			}
		})
	}
	if len(want.Accept) < 3 || len(want.Refuse) < 20 {
		t.Errorf("%d and %d vectors", len(want.Accept), len(want.Refuse))
	}
}

// What the package writes is in the form of FORMAT.md, and shows no secret.
func TestDocumentFollowsTheFormat(t *testing.T) {
	var m keystore.Memory
	wrapping := []sealed.Key{sealed.GenerateKey()}
	before := time.Now().UnixMilli()
	id, err := keystore.Init(t.Context(), &m, wrapping)
	if err != nil {
		t.Fatal(err)
	}
	document, _, err := m.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	secret, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(wrapping[0].Text(), "sealed-key-1-"))
	if err != nil {
		t.Fatal(err)
	}
	aeadKey, err := hkdf.Key(sha256.New, secret, nil, "sealed/v1 keystore", 32)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := chacha20poly1305.NewX(aeadKey)
	if err != nil {
		t.Fatal(err)
	}
	plaintext, err := aead.Open(nil, document[13:37], document[37:], append([]byte("sealed/v1 keystore"), document[:13]...))
	if err != nil {
		t.Fatal(err)
	}
	var list [][]any
	if err := cbor.Unmarshal(plaintext, &list); err != nil {
		t.Fatal(err)
	}
	if len(list) != 1 || len(list[0]) != 4 {
		t.Fatalf("the plaintext is %d keys, %v", len(list), cmp.Diff(1, len(list)))
	}
	key, err := sealed.ParseKey(keyText(list[0][0].([]byte)))
	if err != nil || key.ID() != id {
		t.Errorf("the key is %v, %v, want %s", key, err, id)
	}
	created, activates := list[0][1].(uint64), list[0][2].(uint64)
	if int64(created) < before || created != activates {
		t.Errorf("the first key was created at %d and seals from %d, want one time, from %d on", created, activates, before)
	}
	if document[0] != 1 || hex.EncodeToString(document[1:5]) != wrapping[0].ID() || binary.BigEndian.Uint64(document[5:13]) != 1 {
		t.Errorf("the header is %x", document[:13])
	}
	if secret := list[0][0].([]byte); bytes.Contains(document, secret) || bytes.Contains(document, []byte(key.Text())) {
		t.Error("the document shows the key")
	}
}

// FuzzDocument: no document from a store ends the program, and none that was not
// sealed under the wrapping key is read.
func FuzzDocument(f *testing.F) {
	wrapping, err := keystore.ParseWrapping(keyText(vectorSecret("wrapping key")))
	if err != nil {
		f.Fatal(err)
	}
	text, err := os.ReadFile(vectorFile)
	if err != nil {
		f.Fatal(err)
	}
	var v documentVectors
	if err := json.Unmarshal(text, &v); err != nil || len(v.Refuse) == 0 {
		f.Fatal("no seeds: ", err)
	}
	known := map[string]bool{}
	for _, x := range append(v.Accept, v.Refuse...) {
		b, err := hex.DecodeString(x.Document)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		known[string(b)] = x.Reason == ""
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m keystore.Memory
		if _, err := m.Save(t.Context(), b, ""); err != nil {
			t.Fatal(err)
		}
		if _, err := keystore.Read(t.Context(), &m, wrapping); (err == nil) != known[string(b)] {
			t.Errorf("%x: %v", b, err)
		}
	})
}
