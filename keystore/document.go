package keystore

import (
	"bytes"
	"cmp"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/crypto/chacha20poly1305"

	"example.com/sealed"
)

// This file is the document of FORMAT.md, its bytes and how they are sealed. It
// knows no clock and no store.

const (
	documentVersion = 1
	documentHeader  = 1 + 4 + 8 // version, wrapping key's ID, revision
	documentPurpose = "sealed/v1 keystore"
	keyPrefix       = "sealed-key-1-"

	maxDocument = 1 << 20 // bytes; more is not read
	maxKeys     = 1000    // fit into it
	maxMilli    = 1<<48 - 1
)

// An entry is one key of the document. Times are Unix time in milliseconds by
// the clock of the instance that set them. They never change, so that all
// instances agree on them: only revoked is set, once, or to a later time by an
// instance that did not know.
type entry struct {
	key       sealed.Key
	created   int64
	activates int64
	revoked   int64 // 0: it is not
}

func (e entry) id() string { return e.key.ID() }

// immediate reports whether the key was made for use at once: the first of all, and
// one that replaces a compromised key. All others are published before they seal.
func (e entry) immediate() bool { return e.activates == e.created }

// entryWire is an entry in the document.
type entryWire struct {
	_         struct{} `cbor:",toarray"`
	Secret    []byte
	Created   uint64
	Activates uint64
	Revoked   uint64
}

// A document is what a store holds, opened.
type document struct {
	entries    []entry // see merge
	revision   uint64  // grows with every write
	wrappingID string  // of the key it is sealed under; "" for no document
}

// A wrapper seals and opens documents. Its first key seals, all open.
type wrapper []wrappingKey

type wrappingKey struct {
	id   string
	aead cipher.AEAD
}

// ParseWrapping reads wrapping keys in the form of [sealed.Key.Text], separated
// by white space or commas. The error names the position of a bad key, never its
// text.
func ParseWrapping(text string) ([]sealed.Key, error) {
	var keys []sealed.Key
	for i, field := range strings.FieldsFunc(text, func(c rune) bool { return strings.ContainsRune(", \t\r\n\v\f", c) }) {
		k, err := sealed.ParseKey(field)
		if err != nil {
			return nil, fmt.Errorf("keystore: wrapping key %d: %w", i+1, err)
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, errors.New("keystore: no wrapping key given; make one with \"sealed key\", or sealed.GenerateKey, and keep it")
	}
	return keys, nil
}

func newWrapper(keys []sealed.Key) (wrapper, error) {
	if len(keys) == 0 {
		return nil, errors.New("keystore: no wrapping key given")
	}
	var w wrapper
	for _, k := range keys {
		secret, err := secretOf(k)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(w, func(x wrappingKey) bool { return x.id == k.ID() }) {
			return nil, fmt.Errorf("keystore: two wrapping keys with the ID %s", k.ID())
		}
		// The info separates this from the key's other use, should somebody
		// take a session key for it (RFC 5869, section 3.2).
		derived, err := hkdf.Key(sha256.New, secret, nil, documentPurpose, chacha20poly1305.KeySize)
		if err != nil {
			return nil, fmt.Errorf("keystore: %w", err)
		}
		aead, err := chacha20poly1305.NewX(derived)
		if err != nil {
			return nil, fmt.Errorf("keystore: XChaCha20-Poly1305 is not available: %w", err)
		}
		w = append(w, wrappingKey{k.ID(), aead})
	}
	return w, nil
}

func secretOf(k sealed.Key) ([]byte, error) {
	secret, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(k.Text(), keyPrefix))
	if err != nil || len(secret) == 0 {
		return nil, errors.New("keystore: the zero Key is no key")
	}
	return secret, nil
}

var (
	encoding = must(cbor.CoreDetEncOptions().EncMode())
	decoding = must(cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		IndefLength:      cbor.IndefLengthForbidden,
		TagsMd:           cbor.TagsForbidden,
		MaxArrayElements: maxKeys,
		MaxNestedLevels:  4,
	}.DecMode())
)

// must is for options that are constants.
func must[M any](mode M, err error) M {
	if err != nil {
		panic(err)
	}
	return mode
}

// seal makes the document of a revision. Its header is bound to it, so that no
// store can pass one document off as a later one of the same keys; that it hands
// out an older one whole is told by the revision, to those who have seen a later.
func (k wrappingKey) seal(entries []entry, revision uint64) ([]byte, error) {
	if len(entries) > maxKeys {
		return nil, fmt.Errorf("keystore: %d keys are more than a document holds, %d: rotate less often, or retain for less long", len(entries), maxKeys)
	}
	wire := make([]entryWire, len(entries))
	for i, e := range entries {
		secret, err := secretOf(e.key)
		if err != nil {
			return nil, err
		}
		wire[i] = entryWire{Secret: secret, Created: uint64(e.created), Activates: uint64(e.activates), Revoked: uint64(e.revoked)}
	}
	plaintext, err := encoding.Marshal(wire)
	if err != nil {
		return nil, fmt.Errorf("keystore: %w", err)
	}
	id, err := hex.DecodeString(k.id)
	if err != nil {
		return nil, fmt.Errorf("keystore: %w", err)
	}
	sealed := append([]byte{documentVersion}, id...)
	sealed = binary.BigEndian.AppendUint64(sealed, revision)
	associated := append([]byte(documentPurpose), sealed...)
	nonce := make([]byte, chacha20poly1305.NonceSizeX)
	rand.Read(nonce)
	return k.aead.Seal(append(sealed, nonce...), nonce, plaintext, associated), nil
}

// open opens what seal made, and the empty document for none.
func (w wrapper) open(b []byte) (document, error) {
	if b == nil {
		return document{}, nil
	}
	if len(b) < documentHeader+chacha20poly1305.NonceSizeX+chacha20poly1305.Overhead || b[0] != documentVersion {
		return document{}, errors.New("keystore: this is no key document of version 1")
	}
	header, nonce, ciphertext := b[:documentHeader], b[documentHeader:][:chacha20poly1305.NonceSizeX], b[documentHeader+chacha20poly1305.NonceSizeX:]
	id := hex.EncodeToString(header[1:5])
	i := slices.IndexFunc(w, func(k wrappingKey) bool { return k.id == id })
	if i < 0 {
		return document{}, fmt.Errorf("keystore: the document is sealed under another wrapping key, %s", id)
	}
	plaintext, err := w[i].aead.Open(nil, nonce, ciphertext, append([]byte(documentPurpose), header...))
	if err != nil {
		return document{}, errors.New("keystore: the document was changed, or is damaged")
	}
	entries, err := decodeEntries(plaintext)
	return document{entries, binary.BigEndian.Uint64(header[5:]), id}, err
}

func decodeEntries(plaintext []byte) ([]entry, error) {
	var wire []entryWire
	err := decoding.Unmarshal(plaintext, &wire)
	if err == nil {
		// There is one way to write a list: nothing that CBOR lets pass for it.
		var again []byte
		if again, err = encoding.Marshal(wire); wire == nil || !bytes.Equal(again, plaintext) {
			err = errors.New("another encoding")
		}
	}
	if err != nil {
		return nil, errors.New("keystore: the document's contents are no list of keys")
	}
	entries := make([]entry, len(wire))
	for i, x := range wire {
		key, err := sealed.ParseKey(keyPrefix + base64.RawURLEncoding.EncodeToString(x.Secret))
		if err != nil {
			return nil, fmt.Errorf("keystore: key %d of the document: %w", i+1, err)
		}
		if max(x.Created, x.Activates, x.Revoked) > maxMilli {
			return nil, fmt.Errorf("keystore: key %d of the document has a time out of range", i+1)
		}
		entries[i] = entry{key, int64(x.Created), int64(x.Activates), int64(x.Revoked)}
	}
	return merge(entries, nil), nil
}

// merge returns the union of two lists in the order of activation. Of two entries
// of one key the later revocation wins: nothing that was revoked comes back.
func merge(a, b []entry) []entry {
	var union []entry
	for _, e := range slices.Concat(a, b) {
		if i := find(union, e.id()); i >= 0 {
			union[i].revoked = max(union[i].revoked, e.revoked)
			continue
		}
		union = append(union, e)
	}
	slices.SortFunc(union, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.activates, b.activates), cmp.Compare(a.id(), b.id()))
	})
	return union
}

// find returns the index of the key with that ID, or -1.
func find(entries []entry, id string) int {
	return slices.IndexFunc(entries, func(e entry) bool { return e.id() == id })
}

func equal(a, b []entry) bool {
	return slices.EqualFunc(a, b, func(x, y entry) bool {
		return x.id() == y.id() && x.created == y.created && x.activates == y.activates && x.revoked == y.revoked
	})
}
