package sealed_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/sealed"
	"example.com/sealed/revoke"
	"example.com/sealed/sealedtest"
)

// Attacks that others have suffered, one test each, with where it is described. The rules
// that stop them have tests of their own.

// attacked returns a manager with a revocation list.
func attacked(t *testing.T) *sealed.Manager[Session] {
	return mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user, Revocations: revoke.NewList()})
}

// Session fixation: the attacker plants a cookie of their own, and the victim logs in with
// it (CVE-2022-25896, passport).
func TestAttackFixationByAPlantedSession(t *testing.T) {
	m := attacked(t)
	attacker := newBrowser(t)
	attacker.update(m, func(s *Session) { s.Cart = []string{"mug"} })
	planted := attacker.info(m).ID
	victim := attacker.clone()
	victim.login(m, "victim")
	if victim.info(m).ID == planted {
		t.Error("the victim's session has the ID that was planted")
	}
	if s, _, err := attacker.get(m); err == nil && s.User != "" {
		t.Errorf("the attacker is %q", s.User)
	}
	if err := m.RevokeSession(t.Context(), planted); err != nil {
		t.Fatal(err)
	}
	if s, _, err := victim.get(m); err != nil || s.User != "victim" {
		t.Errorf("after the planted session has ended, the victim is %q, %v", s.User, err)
	}
}

// Session fixation: the client chooses the session's ID (CVE-2024-38513, fiber).
func TestAttackFixationByAChosenID(t *testing.T) {
	m := attacked(t)
	const chosen = name + "=00000000000000000000000000000001"
	ids := map[sealed.ID]bool{}
	for range 2 {
		res := request(m, func(_ http.ResponseWriter, r *http.Request) { set(t, m, r) }, chosen)
		request(m, func(_ http.ResponseWriter, r *http.Request) {
			info, err := m.Info(r.Context())
			if err != nil {
				t.Error(err)
			}
			ids[info.ID] = true
		}, cookieOf(res))
	}
	if len(ids) != 2 {
		t.Errorf("from one cookie of the client's: %v, want two IDs", ids)
	}
	if s, _, err := getWith(m, chosen); err == nil || s.User != "" {
		t.Errorf("the chosen text opens %+v, %v", s, err)
	}
}

// A request that was under way at the logout saves the session again when it ends
// (CVE-2025-46336, rack-session).
func TestAttackRequestUnderWayRestoresASession(t *testing.T) {
	for _, changesFirst := range []bool{false, true} {
		m := attacked(t)
		b := newBrowser(t)
		b.login(m, "alice")
		thief := b.clone()
		slow := thief.visit(m, func(_ http.ResponseWriter, r *http.Request) {
			change := func() error { return m.Update(r.Context(), func(s *Session) { s.Flash = "still here" }) }
			if changesFirst {
				if err := change(); err != nil {
					t.Error(err)
				}
			} else if _, err := m.Get(r.Context()); err != nil {
				t.Error(err)
			}
			b.visit(m, func(_ http.ResponseWriter, r *http.Request) { destroy(t, m, r) })
			if changesFirst {
				return
			}
			if err := change(); !errors.Is(err, sealed.ErrRevoked) {
				t.Errorf("Update after the logout: %v", err)
			}
		})
		if setsCookie(slow) {
			t.Errorf("a change first: %v: the slow response sets %q", changesFirst, slow.Header["Set-Cookie"])
		}
		thief.wantErr(m, sealed.ErrRevoked)
	}
}

// Logout deletes the cookie only, and a copy of it works on (CWE-613; the Rails security
// guide calls it a replay attack on cookie stores).
func TestAttackCopyAfterLogout(t *testing.T) {
	m := attacked(t)
	b := newBrowser(t)
	b.login(m, "alice")
	thief := b.clone()
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) { destroy(t, m, r) })
	thief.wantErr(m, sealed.ErrRevoked)
}

// A cookie that was copied is used from another machine, for as long as the session lasts
// (the reason for Device Bound Session Credentials, W3C).
func TestAttackStolenCookie(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fleet) {
		d := f.device()
		browser := logIn(t, d, "alice")
		thief, half := d.Thief(deviceSite), d.Thief(deviceSite, proofCookie)
		wantPage(t, "the session's cookie alone", half, "/", unproven)
		time.Sleep(proofTime + time.Minute)
		wantPage(t, "all cookies, after the proof", thief, "/", unproven)
		wantPage(t, "the visitor", browser, "/", "user=alice")
	})
}

// The signature's algorithm is taken from the token: none, or the public key as the secret of
// an HMAC (CVE-2015-9235, jsonwebtoken; RFC 8725, section 2.1).
func TestAttackAlgorithmConfusion(t *testing.T) {
	bubble(t, nil, func(t *testing.T, f *fleet) {
		d := f.device()
		plain, challenge := logInPlain(t, f, d)
		good, err := sealedtest.SignChallenge(d.Key, challenge, true)
		if err != nil {
			t.Fatal(err)
		}
		header, claims, _ := strings.Cut(good, ".")
		claims, _, _ = strings.Cut(claims, ".")
		parsed := decodeJSON(t, header)
		forged := func(alg string, secret []byte) string {
			parsed["alg"] = alg
			signed := encodeJSON(t, parsed) + "." + claims
			if secret == nil {
				return signed + "."
			}
			mac := hmac.New(sha256.New, secret)
			mac.Write([]byte(signed))
			return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
		}
		der, err := x509.MarshalPKIXPublicKey(d.Key.Public())
		if err != nil {
			t.Fatal(err)
		}
		point, err := d.Key.Public().(*ecdsa.PublicKey).Bytes()
		if err != nil {
			t.Fatal(err)
		}
		jwk, err := json.Marshal(parsed["jwk"])
		if err != nil {
			t.Fatal(err)
		}
		for what, token := range map[string]string{
			"none": forged("none", nil), "None": forged("None", nil), "the point": forged("HS256", point), "DER": forged("HS256", der),
			"PEM": forged("HS256", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), "JWK": forged("HS256", jwk), "no secret": forged("HS256", []byte{}),
		} {
			if res := registerWith(t, plain, token); res.StatusCode == http.StatusOK || setsCookie(res) {
				t.Errorf("%s: status %d", what, res.StatusCode)
			}
		}
		if res := registerWith(t, plain, good); res.StatusCode != http.StatusOK || !setsCookie(res) {
			t.Errorf("a good signature: status %d", res.StatusCode)
		}
	})
}

// registerWith sends a registration's token.
func registerWith(t *testing.T, c *http.Client, token string) *http.Response {
	t.Helper()
	r, err := http.NewRequest("POST", deviceSite+"/device-binding", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Secure-Session-Response", `"`+token+`"`)
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// A token of another kind under the same key is taken for a session (CVE-2023-48309,
// next-auth; RFC 8725, section 2.8).
func TestAttackTokenOfAnotherKind(t *testing.T) {
	ring := mustRing(t)
	manager := func(cookie, purpose string) *sealed.Manager[Session] {
		return mustNew(t, ring, sealed.Config[Session]{Cookie: sealed.Cookie{Name: cookie}, Purpose: purpose})
	}
	cookieValue := func(m *sealed.Manager[Session]) string {
		_, value, _ := strings.Cut(aliceCookie(t, m), "=")
		return value
	}
	site := manager("__Host-site", "site")
	link, err := manager("__Host-site", "password reset").Seal(Session{User: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	own, err := site.Seal(Session{User: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	for what, token := range map[string]string{
		"a cookie of another purpose":   cookieValue(manager("__Host-site", "admin")),
		"a cookie of another name":      cookieValue(manager("__Host-other", "site")),
		"a link of another purpose":     link,
		"a link with the cookie's name": own,
	} {
		if s, _, err := getWith(site, "__Host-site="+token); !errors.Is(err, sealed.ErrInvalid) || s.User != "" {
			t.Errorf("%s is a session: %+v, %v", what, s, err)
		}
	}
	for what, token := range map[string]string{"a session": cookieValue(site), "a link of another purpose": link} {
		if s, _, err := site.Open(context.Background(), token); !errors.Is(err, sealed.ErrInvalid) || s.User != "" {
			t.Errorf("%s is a link: %+v, %v", what, s, err)
		}
	}
}

// aliceCookie returns the Cookie line of a browser that has logged alice in.
func aliceCookie(t *testing.T, m *sealed.Manager[Session]) string {
	t.Helper()
	b := newBrowser(t)
	b.login(m, "alice")
	return b.cookie()
}

// The answer to a changed token tells something of its plaintext (CVE-2010-3332, ASP.NET).
func TestAttackPaddingOracle(t *testing.T) {
	m := attacked(t)
	b := newBrowser(t)
	b.login(m, "alice")
	token := strings.TrimPrefix(b.cookie(), name+"=")
	answers := map[string]int{}
	for i := 8; i < len(token)-1; i++ { // after the version and the key's ID
		changed := "A"
		if token[i] == 'A' {
			changed = "B"
		}
		_, res, err := getWith(m, name+"="+token[:i]+changed+token[i+1:])
		if !errors.Is(err, sealed.ErrInvalid) {
			t.Errorf("changed at %d: %v", i, err)
		}
		answers[fmt.Sprint(err, res.StatusCode, res.Header)]++
	}
	if len(answers) != 1 {
		t.Errorf("%d different answers to changed tokens: %v", len(answers), answers)
	}
}

// The length of the ciphertext tells about the plaintext where it is compressed
// (CVE-2012-4929, CRIME).
func TestAttackCompressionOracle(t *testing.T) {
	m := attacked(t)
	length := func(guess string) int {
		b := newBrowser(t)
		b.update(m, func(s *Session) { s.User, s.Flash = "secret-of-the-session", guess })
		return len(b.cookie())
	}
	if right, wrong := length("secret-of-the-session"), length("a guess that is wrong"); right != wrong {
		t.Errorf("a right guess gives %d bytes, a wrong one %d", right, wrong)
	}
}

// A secret that everybody knows, or can guess, forges any session (CVE-2023-27524,
// Superset; RFC 8725, section 2.2).
func TestAttackGuessableKey(t *testing.T) {
	random := mustHex(t, sha256Hex("a test vector"))
	steps := make([]byte, 32)
	for i := range steps {
		steps[i] = byte(i*7 + 200)
	}
	for reason, secret := range map[string][]byte{
		"printable text":         []byte("Zx9!kQ2@vB7#mN4$pL8%tR1^wS6&yH3*"),
		"count up or repeat":     steps,
		"filled up":              append(random[:24:24], make([]byte, 8)...),
		"repeat a short pattern": append(random[:16:16], random[:16]...),
	} {
		if _, err := sealed.ParseKey(keyText(secret)); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s: %v", reason, err)
		}
	}
	if _, err := sealed.ParseKey(keyText(random)); err != nil {
		t.Errorf("a random key: %v", err)
	}
	if _, err := sealed.New[Session](nil, sealed.Config[Session]{}); err == nil {
		t.Error("there is a key by default")
	}
}

// A cookie without a name is read as one with ours (CVE-2023-23934, Werkzeug), and so are
// names that come close (CVE-2022-31629 and CVE-2020-7070, PHP; "Cookie Chaos", PortSwigger 2025).
func TestAttackCookieWhoseNameIsNotOurs(t *testing.T) {
	m, f, _ := mustForge(t, sealed.Config[Session]{})
	value := strings.TrimPrefix(userCookie(f, 1, "attacker", time.Now().UnixMilli(), 0), name)
	for _, near := range []string{
		"=" + name, "= " + name, "..Host-session", "__host-session", "__HOST-session", "%5F%5FHost-session", `"__Host-session"`, "$__Host-session",
		"\u2000__Host-session", "\u00a0__Host-session", "\x85__Host-session", "$Version=1,__Host-session", "a=b, __Host-session",
	} {
		if s, _, err := getWith(m, near+value); s.User != "" || !errors.Is(err, sealed.ErrNoSession) {
			t.Errorf("%q: user %q, %v", near, s.User, err)
		}
	}
}

// A site next door sets a cookie of the same name for the parent domain, and shadows the
// session (RFC 6265, section 8.6). Browsers keep no such cookie for a name with __Host-, the default; for
// other names a valid session of the attacker's own would win if it was used later.
func TestAttackCookieFromNextDoor(t *testing.T) {
	m, f, _ := mustForge(t, sealed.Config[Session]{})
	now, minute := time.Now().UnixMilli(), time.Minute.Milliseconds()
	own := userCookie(f, 1, "alice", now-50*minute, 0)
	garbage := name + "=AQ" + strings.Repeat("A", 100)
	expired := userCookie(f, 2, "attacker", now-61*minute, 59*minute) // but used later
	wantUser(t, m, "garbage around it", []string{garbage, own, garbage}, "alice")
	wantUser(t, m, "an expired session before it", []string{expired, own}, "alice")
	wantUser(t, m, "an expired session after it", []string{own, expired}, "alice")
	b := newBrowser(t)
	if line := b.login(m, "bob").Header.Get("Set-Cookie"); !strings.HasPrefix(line, "__Host-") || strings.Contains(line, "Domain") {
		t.Errorf("by default the cookie could be tossed: %s", line)
	}
}

// A cookie's name, path or domain adds attributes, or another cookie (CVE-2024-47764,
// cookie for Node).
func TestAttackAttributeInjection(t *testing.T) {
	for _, c := range []sealed.Cookie{
		{Name: "a=b; Domain=evil.test; x"}, {Name: "a\r\nSet-Cookie: b"}, {Name: "s", Path: "/; Domain=evil.test"},
		{Name: "s", Path: "/\r\nSet-Cookie: b=c"}, {Name: "s", Domain: "shop.test; HttpOnly=x"}, {Name: "s", Domain: "shop.test\r\n"},
	} {
		if _, err := sealed.New(mustRing(t), sealed.Config[Session]{Cookie: c}); err == nil {
			t.Errorf("New takes %+v", c)
		}
	}
}

// A shared cache keeps a response that sets the cookie, or that was made for somebody
// (CVE-2023-30861, Flask; CVE-2025-48947, nextjs-auth0; RFC 9111, section 7.3).
func TestAttackSessionFromACache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, mustRing(t), sealed.Config[Session]{IdleTimeout: time.Hour})
		b := newBrowser(t)
		b.login(m, "alice")
		time.Sleep(20 * time.Minute) // so that a read refreshes the cookie
		_, res, err := b.get(m)
		if err != nil || !setsCookie(res) || res.Header.Get("Cache-Control") != "no-store" || res.Header.Get("Vary") != "Cookie" {
			t.Errorf("a response that refreshes the cookie, %v: %v", err, res.Header)
		}
		if _, res, err = b.get(m); err != nil || setsCookie(res) || res.Header.Get("Cache-Control") != "private" || res.Header.Get("Vary") != "Cookie" {
			t.Errorf("a response that only read it, %v: %v", err, res.Header)
		}
	})
}

// Thousands of small cookies take memory each (CVE-2025-58186, net/http).
func TestAttackManySmallCookies(t *testing.T) {
	m := attacked(t)
	for what, header := range map[string]string{
		"more than net/http parses": strings.Repeat("a=;", 1<<18), "as many as it does": strings.Repeat("a=;", 2900), "of our name": strings.Repeat(name+"=;", 2900),
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header["Cookie"] = []string{header}
		h := m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if s, err := m.Get(r.Context()); err == nil || s.User != "" {
				t.Errorf("%s: %+v, %v", what, s, err)
			}
		}))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		h.ServeHTTP(httptest.NewRecorder(), r)
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > 64<<10 {
			t.Errorf("%s: %d bytes", what, got)
		}
	}
}

// A length in CBOR reserves memory that the data does not have (CVE-2020-28491,
// jackson-dataformat-cbor): here by whoever has the key.
func TestAttackLengthWithoutData(t *testing.T) {
	m, f, _ := mustForge(t, sealed.Config[Session]{})
	head := plaintext(t, [16]byte{1}, time.Now().UnixMilli(), 0, hourMs, nil)
	head = head[:len(head)-1]                            // without the data
	extended := append([]byte{head[0] + 1}, head[1:]...) // with extensions, before which our own code skips the data
	for what, plaintext := range map[string][]byte{
		"a string of 1 TB":  append(head[:len(head):len(head)], mustHex(t, "a1017b000000ffffffffff")...),
		"an array of 1 T":   append(head[:len(head):len(head)], mustHex(t, "a1029b000000ffffffffff")...),
		"a map of 1 T":      append(head[:len(head):len(head)], mustHex(t, "bb000000ffffffffff")...),
		"bytes, 1 TB":       append(head[:len(head):len(head)], mustHex(t, "5b000000ffffffffff")...),
		"an extended array": append(extended[:len(extended):len(extended)], mustHex(t, "9bffffffffffffffffa0")...),
		"an extended map":   append(extended[:len(extended):len(extended)], mustHex(t, "bb7fffffffffffffffa0")...),
		"extended bytes":    append(extended[:len(extended):len(extended)], mustHex(t, "5bffffffffffffffffa0")...),
	} {
		cookie := f.cookie(plaintext)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		s, _, err := getWith(m, cookie)
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > 64<<10 || !errors.Is(err, sealed.ErrInvalid) || s.User != "" {
			t.Errorf("%s: %d bytes, %+v, %v", what, got, s, err)
		}
	}
}

// The same token in another spelling slips past what is recorded of its text (RFC 4648,
// section 3.5).
func TestAttackSecondSpellingOfAToken(t *testing.T) {
	m := attacked(t)
	b := newBrowser(t)
	token := ""
	for range 50 { // until the last character has bits that count for nothing
		b.update(m, func(s *Session) { s.User, s.Flash = "alice", s.Flash+"x" })
		if token = strings.TrimPrefix(b.cookie(), name+"="); len(token)%4 != 0 && strings.ContainsAny(token, "-_") {
			break
		}
	}
	if _, _, err := getWith(m, name+"="+token); err != nil {
		t.Fatal(err)
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, token[len(token)-1])
	for what, other := range map[string]string{
		"other bits at the end": token[:len(token)-1] + alphabet[last^1:last^1+1], "padding": token + "=",
		"the other alphabet": strings.NewReplacer("-", "+", "_", "/").Replace(token), "quotes": `"` + token + `"`,
	} {
		if _, _, err := getWith(m, name+"="+other); !errors.Is(err, sealed.ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A form of another site logs the visitor in as somebody else, or empties their session,
// since the browser keeps the cookie back but takes a new one (login CSRF: Barth, Jackson and Mitchell,
// "Robust Defenses for Cross-Site Request Forgery", 2008).
func TestAttackCrossSiteRequestBeginsASession(t *testing.T) {
	m := attacked(t)
	r := httptest.NewRequest("POST", "/login", nil)
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	w := httptest.NewRecorder()
	m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if err := m.Update(r.Context(), func(s *Session) { s.User = "attacker" }); !errors.Is(err, sealed.ErrCrossSite) {
			t.Errorf("Update: %v", err)
		}
	})).ServeHTTP(w, r)
	if setsCookie(w.Result()) {
		t.Errorf("set %q", w.Header()["Set-Cookie"])
	}
}

// A change of the session type lets data of one field count for another, or of one user's
// role for another's (mass assignment; CWE-915): names match exactly, and unknown fields count for nothing.
func TestAttackFieldThatComesClose(t *testing.T) {
	type Admin struct {
		Admin bool `cbor:"admin"`
	}
	ring, key := ringAndKey(t)
	m, f := mustNew(t, ring, sealed.Config[Admin]{}), newForger(t, key)
	for _, field := range []string{"Admin", "ADMIN", "admin ", "is_admin"} {
		cookie := f.cookie(plaintext(t, [16]byte{1}, time.Now().UnixMilli(), 0, hourMs, map[string]bool{field: true}))
		if s, _, err := getWith(m, cookie); err != nil || s.Admin {
			t.Errorf("a field %q: %+v, %v", field, s, err)
		}
	}
}
