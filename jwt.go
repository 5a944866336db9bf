package sealed

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"math/big"
	"strings"
)

// This file reads what a browser signs with a device's key: a JSON Web Token (RFC 7519) in
// the compact serialization (RFC 7515, section 3.1), by ES256 or RS256. Of its headers alg, typ and jwk
// count. It names no key to fetch, no algorithm that the key is not for, and none is
// obeyed that must be understood.

const (
	maxJWT    = 4096 // bytes; a 4096-bit RSA key with its signature needs 2,700
	minRSA    = 2048 // bits
	maxRSA    = 4096
	exponent  = 65537
	p256Bytes = 32
)

// The algorithms, as COSE numbers them (RFC 9053, section 2.1; RFC 8812, section 2).
const (
	algES256 = -7
	algRS256 = -257
)

// A deviceKey is the public half of a key that a device has.
type deviceKey struct {
	alg int64
	// bytes is an uncompressed point (SEC 1, section 2.3.3) for ES256. For RS256 it is the
	// modulus, big-endian; the public exponent is always 65537.
	bytes []byte

	ecdsa *ecdsa.PublicKey
	rsa   *rsa.PublicKey
}

// A jwt is a token whose signature was not checked.
type jwt struct {
	alg       int64
	key       *deviceKey // from the header, if it has one
	challenge string     // the claim jti
	signed    string
	signature []byte
}

// parseJWT reads a token of the type dbsc+jwt.
func parseJWT(text string) (*jwt, bool) {
	if len(text) > maxJWT {
		return nil, false
	}
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return nil, false
	}
	header, ok1 := decodeObject(parts[0])
	claims, ok2 := decodeObject(parts[1])
	signature, err := appendDecoded(nil, parts[2])
	if !ok1 || !ok2 || err != nil {
		return nil, false
	}
	j := &jwt{signed: text[:len(parts[0])+1+len(parts[1])], signature: signature}
	if _, critical := header["crit"]; critical || member(header, "typ") != "dbsc+jwt" {
		return nil, false
	}
	switch member(header, "alg") {
	case "ES256":
		j.alg = algES256
	case "RS256":
		j.alg = algRS256
	default:
		return nil, false
	}
	if j.challenge = member(claims, "jti"); j.challenge == "" {
		return nil, false
	}
	if raw, ok := header["jwk"]; ok {
		if j.key, ok = parseJWK(raw, j.alg); !ok {
			return nil, false
		}
	}
	return j, true
}

// verify reports whether the token was signed with the key's other half.
func (j *jwt) verify(k *deviceKey) bool {
	if j.alg != k.alg {
		return false
	}
	sum := sha256.Sum256([]byte(j.signed))
	if k.alg == algRS256 {
		return rsa.VerifyPKCS1v15(k.rsa, crypto.SHA256, sum[:], j.signature) == nil
	}
	if len(j.signature) != 2*p256Bytes { // RFC 7518, section 3.4
		return false
	}
	r, s := new(big.Int).SetBytes(j.signature[:p256Bytes]), new(big.Int).SetBytes(j.signature[p256Bytes:])
	return ecdsa.Verify(k.ecdsa, sum[:], r, s)
}

// parseJWK reads a public key for an algorithm (RFC 7518, section 6).
func parseJWK(raw json.RawMessage, alg int64) (*deviceKey, bool) {
	members, ok := parseObject(raw)
	if !ok {
		return nil, false
	}
	number := func(name string) []byte {
		b, err := appendDecoded(nil, member(members, name))
		if err != nil {
			return nil
		}
		return b
	}
	switch kty := member(members, "kty"); {
	case alg == algES256 && kty == "EC" && member(members, "crv") == "P-256":
		x, y := number("x"), number("y")
		if len(x) != p256Bytes || len(y) != p256Bytes {
			return nil, false
		}
		return parseDeviceKey(alg, append(append([]byte{4}, x...), y...))
	case alg == algRS256 && kty == "RSA":
		n, e := number("n"), number("e")
		if !bytes.Equal(e, big.NewInt(exponent).Bytes()) {
			return nil, false
		}
		return parseDeviceKey(alg, n)
	}
	return nil, false
}

// parseDeviceKey reads the bytes of a deviceKey, and checks the key.
func parseDeviceKey(alg int64, b []byte) (*deviceKey, bool) {
	k := &deviceKey{alg: alg, bytes: b}
	switch alg {
	case algES256:
		var err error
		k.ecdsa, err = ecdsa.ParseUncompressedPublicKey(elliptic.P256(), b) // it is on the curve
		return k, err == nil
	case algRS256:
		if len(b) == 0 || len(b) > maxRSA/8 || b[0] == 0 {
			return nil, false
		}
		k.rsa = &rsa.PublicKey{N: new(big.Int).SetBytes(b), E: exponent}
		return k, k.rsa.N.BitLen() >= minRSA && k.rsa.N.Bit(0) == 1
	}
	return nil, false
}

// decodeObject decodes a part of a token.
func decodeObject(part string) (map[string]json.RawMessage, bool) {
	b, err := appendDecoded(nil, part)
	if err != nil {
		return nil, false
	}
	return parseObject(b)
}

// parseObject reads one JSON object. No name occurs twice (RFC 7515, section 4), and names
// are compared as they are, which encoding/json does not do for structs.
func parseObject(b []byte) (map[string]json.RawMessage, bool) {
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, false
	}
	members := map[string]json.RawMessage{}
	for d.More() {
		name, err := d.Token()
		text, ok := name.(string)
		if _, twice := members[text]; err != nil || !ok || twice {
			return nil, false
		}
		var value json.RawMessage
		if d.Decode(&value) != nil {
			return nil, false
		}
		members[text] = value
	}
	if _, err := d.Token(); err != nil { // the closing brace
		return nil, false
	}
	return members, len(bytes.TrimSpace(b[d.InputOffset():])) == 0
}

// member returns a member that is a string, "" if there is none.
func member(members map[string]json.RawMessage, name string) string {
	raw := members[name]
	if len(raw) == 0 || raw[0] != '"' {
		return ""
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}
