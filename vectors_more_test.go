package sealed_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"example.com/sealed"
	"example.com/sealed/revoke"
)

// The vectors of keys, Cookie headers and revocations: see FORMAT.md.

type weakVector struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// A headerVector is what a request's Cookie lines give.
type headerVector struct {
	Name    string   `json:"name"`
	Key     int      `json:"key"`
	Cookie  string   `json:"cookie"`
	Purpose string   `json:"purpose"`
	Chunks  int      `json:"chunks"` // how many cookies a session may be split over
	Lines   []string `json:"lines"`
	ID      string   `json:"id,omitempty"` // of the request's session; none if absent
}

// A revocationVector is what entries of the log say of one session.
type revocationVector struct {
	Name    string `json:"name"`
	Entries string `json:"entries"`
	ID      string `json:"id"`
	Subject string `json:"subject"`
	Created int64  `json:"created"`
	Result  string `json:"result"` // "valid", "renewed" (to be read, not changed), "revoked"; or "newer", "malformed": the entries cannot be read
}

func weakVectors() []weakVector {
	text := func(name string, secret []byte) weakVector { return weakVector{name, keyText(secret)} }
	counting := make([]byte, 32)
	for i := range counting {
		counting[i] = byte(0x80 + 3*i)
	}
	random, err := hex.DecodeString(sha256Hex("sealed test vector key 1"))
	if err != nil {
		panic(err)
	}
	filled := append(bytes.Clone(random[:24]), bytes.Repeat([]byte{0}, 8)...)
	loose := keyText(random)
	return []weakVector{
		text("of printable text", []byte("correct horse battery staple 123")),
		text("of bytes in arithmetic progression", counting),
		text("of equal bytes", bytes.Repeat([]byte{0xaa}, 32)),
		text("with a run of eight equal bytes", filled),
		text("of sixteen distinct bytes", append(bytes.Clone(random[:16]), random[:16]...)),
		text("of 31 bytes", random[:31]),
		{"with loose bits", loose[:len(loose)-1] + string(nextBase64(loose[len(loose)-1]))},
		{"padded", loose + "="},
		{"without its prefix", strings.TrimPrefix(loose, "sealed-key-1-")},
	}
}

func headerVectors(t *testing.T, f forger) (all []headerVector) {
	id := func(n byte) [16]byte { return [16]byte{n, 0xfe} }
	token := func(n byte, created, lastUsed int64, size int) string {
		nonce := mustHex(t, sha256Hex("header"+string('a'+rune(n))))[:24]
		plain := plaintext(t, id(n), created, lastUsed, hourMs, map[int]any{1: strings.Repeat("x", size)})
		return base64.RawURLEncoding.EncodeToString(f.raw(nonce, plain, name, ""))
	}
	add := func(what string, want byte, lines ...string) {
		x := headerVector{Name: what, Cookie: name, Chunks: 3, Lines: lines}
		if want != 0 {
			session := id(want)
			x.ID = hex.EncodeToString(session[:])
		}
		all = append(all, x)
	}
	pair := func(suffix, value string) string { return name + suffix + "=" + value }
	a, b := token(1, vectorNow-60_000, 10_000, 5), token(2, vectorNow-30_000, 0, 5)
	same := token(3, vectorNow-50_000, 0, 5) // last used with a
	long, other := token(4, vectorNow-1000, 0, 300), token(5, vectorNow-2000, 0, 300)
	expired := token(6, vectorNow-2*hourMs, 0, 5)

	add("one cookie among others", 1, "x=1; "+pair("", a)+"; "+name+"2=y; y")
	add("in another line", 1, "x=1", pair("", a))
	add("the one used last", 2, pair("", a)+"; "+pair("", b))
	add("the one used last, first", 2, pair("", b)+"; "+pair("", a))
	add("last used at the same time: the first", 1, pair("", a)+"; "+pair("", same))
	add("the same, the other way round", 3, pair("", same)+"; "+pair("", a))
	add("one that is no session hides none", 1, pair("", "junk")+"; "+pair("", expired)+"; "+pair("", a))
	add("the fourth", 1, strings.Repeat(pair("", "junk")+"; ", 3)+pair("", a))
	add("the fifth is not tried", 0, strings.Repeat(pair("", "junk")+"; ", 4)+pair("", a))
	add("names are compared byte for byte", 0, strings.ToLower(name)+"="+a)
	add("a quoted value is another", 0, name+`="`+a+`"`)

	split := func(token string, parts ...int) (pieces []string) {
		for _, n := range parts {
			pieces, token = append(pieces, token[:n]), token[n:]
		}
		return append(pieces, token)
	}
	p, q := split(long, 200), split(other, 200)
	add("split over two", 4, pair("", "2."+p[0])+"; "+pair(".1", p[1]))
	add("the parts in any order", 4, pair(".1", p[1])+"; "+pair("", "2."+p[0]))
	r := split(long, 200, 100)
	add("split over three", 4, pair("", "3."+r[0])+"; "+pair(".1", r[1])+"; "+pair(".2", r[2]))
	add("a part is missing", 0, pair("", "3."+r[0])+"; "+pair(".1", r[1]))
	add("the parts of two", 0, pair("", "2."+p[0])+"; "+pair(".1", q[1]))
	add("two split ones, each from its own parts", 4, pair("", "2."+q[0])+"; "+pair("", "2."+p[0])+"; "+pair(".1", q[1])+"; "+pair(".1", p[1]))
	add("a whole one does not count among the split ones", 4, pair("", a)+"; "+pair("", "2."+p[0])+"; "+pair(".1", p[1]))
	add("parts that were left over", 1, pair("", a)+"; "+pair(".1", p[1])+"; "+pair(".2", "junk"))
	add("split over one", 0, pair("", "1."+a))
	add("a leading zero", 0, pair("", "02."+p[0])+"; "+pair(".1", p[1]))
	add("more parts than the reader takes", 0, pair("", "4."+r[0][:100])+"; "+pair(".1", r[0][100:])+"; "+pair(".2", r[1])+"; "+pair(".3", r[2]))
	add("a part's number with a leading zero", 0, pair("", "2."+p[0])+"; "+pair(".01", p[1]))
	return all
}

func revocationVectors() (all []revocationVector) {
	const at, until = vectorNow - 1000, vectorNow + 3_600_000
	var id, other [16]byte
	copy(id[:], "sixteen bytes...")
	copy(other[:], "sixteen others..")
	number := func(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
	entry := func(kind byte, body ...[]byte) []byte {
		b := bytes.Join(body, nil)
		return append([]byte{kind, byte(len(b))}, b...)
	}
	session := func(id [16]byte, more ...[]byte) []byte {
		return entry(1, append([][]byte{id[:], number(until)}, more...)...)
	}
	subject := func(name string, before uint64) []byte {
		return entry(2, number(before), number(until), []byte{0, byte(len(name))}, []byte(name))
	}
	add := func(name, result string, created int64, entries ...[]byte) {
		all = append(all, revocationVector{name, hex.EncodeToString(bytes.Join(entries, nil)), hex.EncodeToString(id[:]), "alice", created, result})
	}
	add("nothing", "valid", at)
	add("another session, another subject", "valid", at, session(other), subject("bob", at))
	add("the session", "revoked", at, session(id))
	add("the session, from later on", "renewed", at, session(id, number(vectorNow+5000)))
	add("the session, from before", "revoked", at, session(id, number(vectorNow-5000)))
	add("the session twice: the earlier counts", "revoked", at, session(id, number(vectorNow+5000)), session(id))
	add("the session twice, the other way round", "revoked", at, session(id), session(id, number(vectorNow+5000)))
	add("the subject, in that millisecond", "revoked", at, subject("alice", at))
	add("the subject, before the session began", "valid", at, subject("alice", at-1))
	add("the subject twice: the later counts", "revoked", at, subject("alice", at), subject("alice", at-5000))
	add("further bytes of a body", "revoked", at, session(id, number(0), []byte("more")))
	add("a kind that may be passed over", "revoked", at, entry(200, []byte("new")), session(id))
	add("a kind that must not", "newer", at, session(id), entry(3, []byte("new")))
	add("cut off", "malformed", at, session(id)[:20])
	add("a subject without a name", "malformed", at, subject("", at))
	return all
}

func checkHeaders(t *testing.T, v vectors) {
	for _, x := range v.Headers {
		key, err := sealed.ParseKey(v.Keys[x.Key].Text)
		if err != nil {
			t.Fatal(err)
		}
		m, err := sealed.New(ringOf(t, key), sealed.Config[anyData]{Purpose: x.Purpose, Cookie: sealed.Cookie{Name: x.Cookie, MaxChunks: x.Chunks}})
		if err != nil {
			t.Fatal(err)
		}
		request(m, func(_ http.ResponseWriter, r *http.Request) {
			got := ""
			if info, err := m.Info(r.Context()); err == nil {
				got = info.ID.String()
			}
			if got != x.ID {
				t.Errorf("%s: session %q, want %q", x.Name, got, x.ID)
			}
		}, x.Lines...)
	}
}

func checkRevocations(t *testing.T, v vectors) {
	for _, x := range v.Revocations {
		entries, err := revoke.ParseEntries(nil, mustHex(t, x.Entries))
		got := "malformed"
		switch {
		case errors.Is(err, revoke.ErrNewer):
			got = "newer"
		case err == nil:
			list := revoke.NewList()
			for _, e := range entries {
				if err := list.Revoke(t.Context(), e); err != nil {
					t.Fatal(err)
				}
			}
			id, err := sealed.ParseID(x.ID)
			if err != nil {
				t.Fatal(err)
			}
			switch err := list.Check(t.Context(), sealed.Info{ID: id, Subject: x.Subject, Created: time.UnixMilli(x.Created)}); {
			case err == nil:
				got = "valid"
			case errors.Is(err, sealed.ErrRenewed):
				got = "renewed"
			case errors.Is(err, sealed.ErrRevoked):
				got = "revoked"
			}
		}
		if got != x.Result {
			t.Errorf("%s: %s, want %s", x.Name, got, x.Result)
		}
	}
}
