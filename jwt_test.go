package sealed_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"example.com/sealed"
	"example.com/sealed/sealedtest"
)

var challengeParam = regexp.MustCompile(`challenge="([^"]*)"`)

// A registrar has a session that waits for its key to be registered.
type registrar struct {
	m         *sealed.Manager[Session]
	cookie    string
	challenge string
}

func newRegistrar(t testing.TB) *registrar {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, DeviceBinding: &sealed.DeviceBinding{}})
	w := httptest.NewRecorder()
	serveTo(w, m, func(_ http.ResponseWriter, r *http.Request) {
		if err := m.Update(r.Context(), func(s *Session) { s.User = "alice" }); err != nil {
			t.Fatal(err)
		}
	})
	res := w.Result()
	return &registrar{m, cookieOf(res), challengeParam.FindStringSubmatch(res.Header.Get("Secure-Session-Registration"))[1]}
}

// post sends a token, as a registration or, with an identifier, as a refresh.
func (g *registrar) post(id, token string) *http.Response {
	r := httptest.NewRequest("POST", "/device-binding", nil)
	r.Header.Set("Cookie", g.cookie)
	r.Header["Secure-Session-Response"] = []string{token}
	if id != "" {
		r.Header["Sec-Secure-Session-Id"] = []string{id}
	}
	w := httptest.NewRecorder()
	g.m.Handler(http.NotFoundHandler()).ServeHTTP(w, r)
	return w.Result()
}

type members = map[string]any

// token signs a header and claims as they are.
func token(t testing.TB, key crypto.Signer, header, claims any) string {
	t.Helper()
	var parts []string
	for _, part := range []any{header, claims} {
		text, ok := part.(string)
		if !ok {
			b, err := json.Marshal(part)
			if err != nil {
				t.Fatal(err)
			}
			text = string(b)
		}
		parts = append(parts, b64([]byte(text)))
	}
	signed := strings.Join(parts, ".")
	sum := sha256.Sum256([]byte(signed))
	var signature []byte
	var err error
	if k, ok := key.(*ecdsa.PrivateKey); ok {
		var r, s *big.Int
		if r, s, err = ecdsa.Sign(rand.Reader, k, sum[:]); err == nil {
			signature = append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
		}
	} else {
		signature, err = key.Sign(rand.Reader, sum[:], crypto.SHA256)
	}
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + b64(signature)
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// What a browser's token may be, and nothing else, registers a key.
func TestTokensForRegistration(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := ec.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	x, y := point[1:33], point[33:]
	rsaKeys := map[int]*rsa.PrivateKey{}
	for _, bits := range []int{1536, 2048, 4096, 4352} {
		if rsaKeys[bits], err = rsa.GenerateKey(rand.Reader, bits); err != nil {
			t.Fatal(err)
		}
	}
	g := newRegistrar(t)
	ecJWK := func() members { return members{"kty": "EC", "crv": "P-256", "x": b64(x), "y": b64(y)} }
	rsaJWK := func(bits int) members {
		return members{"kty": "RSA", "n": b64(rsaKeys[bits].N.Bytes()), "e": "AQAB"}
	}
	header := func(alg string, jwk any) members { return members{"alg": alg, "typ": "dbsc+jwt", "jwk": jwk} }
	with := func(m members, name string, value any) members { m[name] = value; return m }
	claims := members{"jti": g.challenge}
	good := func() string { return token(t, ec, header("ES256", ecJWK()), claims) }
	text := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	parts := strings.Split(good(), ".")
	der, err := ec.Sign(rand.Reader, make([]byte, 32), crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	offCurve := bytes.Clone(y)
	offCurve[31] ^= 1

	for what, tt := range map[string]struct {
		token string
		ok    bool
	}{
		"ES256":                              {good(), true},
		"in quotes":                          {`"` + good() + `"`, true},
		"RS256 of 2048 bits":                 {token(t, rsaKeys[2048], header("RS256", rsaJWK(2048)), claims), true},
		"RS256 of 4096 bits":                 {token(t, rsaKeys[4096], header("RS256", rsaJWK(4096)), claims), true},
		"more claims and headers":            {token(t, ec, with(header("ES256", ecJWK()), "kid", "1"), members{"jti": g.challenge, "aud": "x", "iat": 5}), true},
		"white space":                        {token(t, ec, " "+text(header("ES256", ecJWK()))+"\n", claims), true},
		"no token":                           {"", false},
		"two parts":                          {parts[0] + "." + parts[1], false},
		"four parts":                         {good() + ".", false},
		"alg none":                           {token(t, ec, header("none", ecJWK()), claims), false},
		"no signature":                       {parts[0] + "." + parts[1] + ".", false},
		"alg ES384":                          {token(t, ec, header("ES384", ecJWK()), claims), false},
		"alg HS256":                          {token(t, ec, header("HS256", ecJWK()), claims), false},
		"alg es256":                          {token(t, ec, header("es256", ecJWK()), claims), false},
		"alg of the other kind of key":       {token(t, ec, header("RS256", ecJWK()), claims), false},
		"RSA key for ES256":                  {token(t, rsaKeys[2048], header("ES256", rsaJWK(2048)), claims), false},
		"typ JWT":                            {token(t, ec, with(header("ES256", ecJWK()), "typ", "JWT"), claims), false},
		"no typ":                             {token(t, ec, members{"alg": "ES256", "jwk": ecJWK()}, claims), false},
		"names in capitals":                  {token(t, ec, members{"ALG": "ES256", "TYP": "dbsc+jwt", "JWK": ecJWK()}, claims), false},
		"crit":                               {token(t, ec, with(header("ES256", ecJWK()), "crit", []string{"b64"}), claims), false},
		"a name twice":                       {token(t, ec, `{"alg":"ES256","alg":"ES256","typ":"dbsc+jwt","jwk":`+text(ecJWK())+`}`, claims), false},
		"a claim twice":                      {token(t, ec, header("ES256", ecJWK()), `{"jti":"x","jti":"`+g.challenge+`"}`), false},
		"data after the header":              {token(t, ec, text(header("ES256", ecJWK()))+"{}", claims), false},
		"a header cut off":                   {token(t, ec, strings.TrimSuffix(text(header("ES256", ecJWK())), "}"), claims), false},
		"a header that is a list":            {token(t, ec, "[]", claims), false},
		"no jwk":                             {token(t, ec, members{"alg": "ES256", "typ": "dbsc+jwt"}, claims), false},
		"a jwk that is text":                 {token(t, ec, header("ES256", "x"), claims), false},
		"a jwk by address":                   {token(t, ec, members{"alg": "ES256", "typ": "dbsc+jwt", "jku": "https://evil.test"}, claims), false},
		"crv P-384":                          {token(t, ec, header("ES256", with(ecJWK(), "crv", "P-384")), claims), false},
		"a point off the curve":              {token(t, ec, header("ES256", with(ecJWK(), "y", b64(offCurve))), claims), false},
		"the point zero":                     {token(t, ec, header("ES256", with(with(ecJWK(), "x", b64(make([]byte, 32))), "y", b64(make([]byte, 32)))), claims), false},
		"a coordinate too short":             {token(t, ec, header("ES256", with(ecJWK(), "x", b64(x[:31]))), claims), false},
		"a coordinate too long":              {token(t, ec, header("ES256", with(ecJWK(), "x", b64(append([]byte{0}, x...)))), claims), false},
		"RSA of 1536 bits":                   {token(t, rsaKeys[1536], header("RS256", rsaJWK(1536)), claims), false},
		"RSA of 4352 bits":                   {token(t, rsaKeys[4352], header("RS256", rsaJWK(4352)), claims), false},
		"an exponent of 3":                   {token(t, rsaKeys[2048], header("RS256", with(rsaJWK(2048), "e", "Aw")), claims), false},
		"a modulus with a zero before it":    {token(t, rsaKeys[2048], header("RS256", with(rsaJWK(2048), "n", b64(append([]byte{0}, rsaKeys[2048].N.Bytes()...)))), claims), false},
		"an even modulus":                    {token(t, rsaKeys[2048], header("RS256", with(rsaJWK(2048), "n", b64(new(big.Int).Lsh(big.NewInt(1), 2047).Bytes()))), claims), false},
		"a signature in DER":                 {parts[0] + "." + parts[1] + "." + b64(der), false},
		"a signature of zeros":               {parts[0] + "." + parts[1] + "." + b64(make([]byte, 64)), false},
		"another token's signature":          {parts[0] + "." + parts[1] + "." + strings.Split(token(t, ec, header("ES256", ecJWK()), members{"jti": "x"}), ".")[2], false},
		"padding":                            {parts[0] + "." + parts[1] + "." + parts[2] + "=", false},
		"a line break":                       {parts[0] + "." + parts[1] + "\n." + parts[2], false},
		"another challenge":                  {token(t, ec, header("ES256", ecJWK()), members{"jti": "x"}), false},
		"a challenge that is a number":       {token(t, ec, header("ES256", ecJWK()), members{"jti": 5}), false},
		"no challenge":                       {token(t, ec, header("ES256", ecJWK()), members{}), false},
		"more than 4 KiB":                    {token(t, ec, with(header("ES256", ecJWK()), "kid", strings.Repeat("x", 3000)), claims), false},
		"another key's signature":            {token(t, must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), header("ES256", ecJWK()), claims), false},
		"a key of another curve":             {token(t, ec, header("ES256", members{"kty": "OKP", "crv": "Ed25519", "x": b64(x)}), claims), false},
		"deeply nested":                      {token(t, ec, `{"alg":"ES256","typ":"dbsc+jwt","jwk":`+strings.Repeat("[", 1000)+`}`, claims), false},
		"the session's cookie for challenge": {token(t, ec, header("ES256", ecJWK()), members{"jti": strings.TrimPrefix(g.cookie, name+"=")}), false},
	} {
		res := g.post("", tt.token)
		if (res.StatusCode == http.StatusOK) != tt.ok || setsCookie(res) != tt.ok {
			t.Errorf("%s: %s, want accepted: %v", what, res.Status, tt.ok)
		}
		if res.Header.Get("Cache-Control") != "no-store" || res.Header.Get("Cross-Origin-Resource-Policy") != "same-origin" {
			t.Errorf("%s: headers %v", what, res.Header)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// What is sent to the route panics nothing, and registers nothing without a signature.
func FuzzDeviceRoute(f *testing.F) {
	g := newRegistrar(f)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	for _, withKey := range []bool{true, false} {
		token, err := sealedtest.SignChallenge(key, "challenge", withKey)
		if err != nil {
			f.Fatal(err)
		}
		f.Add("", token, "")
		f.Add(g.challenge, token, g.challenge)
	}
	signed, err := sealedtest.SignChallenge(key, g.challenge, true)
	if err != nil {
		f.Fatal(err)
	}
	res := g.post("", signed)
	var told struct {
		ID string `json:"session_identifier"`
	}
	if err := json.NewDecoder(res.Body).Decode(&told); err != nil || res.StatusCode != 200 {
		f.Fatal(res.Status, err)
	}
	f.Add(told.ID, signed, cookieOf(res))
	f.Fuzz(func(t *testing.T, id, token, proof string) {
		r := httptest.NewRequest("POST", "/device-binding", nil)
		r.Header["Cookie"] = []string{g.cookie, proofCookie + "01234567=" + proof}
		r.Header["Secure-Session-Response"] = []string{token}
		r.Header["Sec-Secure-Session-Id"] = []string{id}
		w := httptest.NewRecorder()
		g.m.Handler(http.NotFoundHandler()).ServeHTTP(w, r)
		if w.Code == http.StatusOK && strings.Contains(w.Body.String(), "credentials") && token != signed && token != `"`+signed+`"` {
			t.Errorf("a token of %d bytes was accepted", len(token))
		}
	})
}
