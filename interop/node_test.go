package interop_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/big"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/sealed"
)

// install installs what the program requires, once.
func install(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("node/node_modules"); err == nil {
		return
	}
	npm := exec.Command("npm", "ci", "--no-audit", "--no-fund")
	npm.Dir = "node"
	if out, err := npm.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
}

// Another language checks every vector.
func TestNodeChecksTheVectors(t *testing.T) {
	install(t)
	node := exec.Command("node", "--test")
	node.Dir = "node"
	out, err := node.CombinedOutput()
	if err != nil {
		t.Fatalf("node --test: %v\n%s", err, out)
	}
	if strings.Contains(string(out), "# pass 0") {
		t.Errorf("no test ran:\n%s", out)
	}
}

// A peer is the program, and what is sent to it and back.
type peer struct {
	t   *testing.T
	in  io.WriteCloser
	out *bufio.Reader
}

func startNode(t *testing.T) *peer {
	t.Helper()
	install(t)
	node := exec.Command("node", "exchange.js")
	node.Dir, node.Stderr = "node", os.Stderr
	in, err := node.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := node.Wait(); err != nil {
			t.Errorf("node exchange.js: %v", err)
		}
	})
	return &peer{t, in, bufio.NewReaderSize(out, 1<<20)}
}

func (p *peer) ask(request map[string]any, answer any) {
	p.t.Helper()
	line, err := json.Marshal(request)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		p.t.Fatal(err)
	}
	if line, err = p.out.ReadBytes('\n'); err != nil {
		p.t.Fatal(err)
	}
	if err := json.Unmarshal(line, answer); err != nil {
		p.t.Fatalf("%v: %s", err, line)
	}
}

// everything has a field of each kind that a session can have.
type everything struct {
	Text    string           `cbor:"1,keyasint"`
	Int     int64            `cbor:"2,keyasint"`
	Uint    uint64           `cbor:"3,keyasint"`
	Float   float64          `cbor:"4,keyasint"`
	Bool    bool             `cbor:"5,keyasint"`
	Bytes   []byte           `cbor:"6,keyasint"`
	Time    time.Time        `cbor:"7,keyasint"`
	Big     *big.Int         `cbor:"8,keyasint"`
	Texts   []string         `cbor:"9,keyasint"`
	Counts  map[string]int   `cbor:"10,keyasint"`
	ByInt   map[int]string   `cbor:"11,keyasint"`
	Nested  []nested         `cbor:"12,keyasint"`
	Pointer *nested          `cbor:"13,keyasint"`
	Tuple   tuple            `cbor:"-5,keyasint"`
	Named   map[string][]int `cbor:"named"`
	None    []string         `cbor:"none,omitempty"`
}

type nested struct {
	A string
	B int `cbor:"b"`
}

type tuple struct {
	_ struct{} `cbor:",toarray"`
	X int
	Y string
}

func text(r *rand.Rand, most int) string {
	alphabet := []rune("abc ÄÖ漢字😀\"\\\x00\n")
	var b strings.Builder
	for range r.IntN(most + 1) {
		b.WriteRune(alphabet[r.IntN(len(alphabet))])
	}
	return b.String()
}

func integer(r *rand.Rand) int64 {
	n := int64(r.Uint64() >> r.IntN(64))
	if r.IntN(2) == 0 {
		n = -n
	}
	return n
}

func float(r *rand.Rand) float64 {
	special := []float64{0, math.Copysign(0, -1), 1, 1.5, 1e300, 5e-324, math.MaxFloat64, 100000, 16777217}
	if r.IntN(2) == 0 {
		return special[r.IntN(len(special))]
	}
	return r.NormFloat64()
}

func random(r *rand.Rand) (s everything) {
	s = everything{
		Text: text(r, 60), Int: integer(r), Uint: r.Uint64() >> r.IntN(64), Float: float(r), Bool: r.IntN(2) == 0,
		Time:  time.Unix(r.Int64N(1<<33), r.Int64N(1e9)).UTC(),
		Big:   new(big.Int).Lsh(big.NewInt(integer(r)), uint(r.IntN(80))),
		Tuple: tuple{X: int(int32(integer(r))), Y: text(r, 3)},
	}
	if r.IntN(3) > 0 {
		s.Bytes = []byte(text(r, 9) + "x")
		s.Counts = map[string]int{"": 1, "b": 2, "aa": 3, "ä": 4}
		s.ByInt = map[int]string{-1: "a", 0: "b", 24: "c", 100000: "d"}
		s.Pointer = &nested{text(r, 5), r.IntN(100)}
		s.Named = map[string][]int{"x": {1, -2, 3}, "y": {}}
	}
	for range r.IntN(4) {
		s.Texts = append(s.Texts, text(r, 20))
		s.Nested = append(s.Nested, nested{text(r, 5), r.IntN(1000)})
	}
	if r.IntN(5) == 0 {
		s.Texts = append(s.Texts, strings.Repeat("long ", r.IntN(1500)))
	}
	return s
}

// One key, one purpose, and the default cookie, split if need be: as both sides have it.
const (
	cookieName = "__Host-session"
	purpose    = "interop"
	chunks     = 8
	longest    = 3000 // characters of a token in a cookie that Node writes
	sessions   = 500
)

// Sessions go to and fro: what Node reads of a cookie that Go has written, and writes into
// another, Go reads as it was.
func TestSessionsGoToNodeAndBack(t *testing.T) {
	node := startNode(t)
	key := sealed.GenerateKey()
	keys, err := sealed.NewKeyring(key)
	if err != nil {
		t.Fatal(err)
	}
	m, err := sealed.New(keys, sealed.Config[everything]{Purpose: purpose, Cookie: sealed.Cookie{MaxChunks: chunks}})
	if err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	split := 0
	for range sessions {
		want := random(r)
		line, info := write(t, m, want)

		var read struct {
			ID               string
			Created, Expires int64
			Data             json.RawMessage
		}
		node.ask(map[string]any{
			"op": "read", "key": key.Text(), "lines": []string{line}, "name": cookieName, "purpose": purpose, "chunks": chunks, "now": time.Now().UnixMilli(),
		}, &read)
		if read.ID != info.ID.String() || read.Created != info.Created.UnixMilli() || read.Created+read.Expires != info.Expires.UnixMilli() {
			t.Fatalf("Node reads the session %s of %d to %d, want %+v", read.ID, read.Created, read.Created+read.Expires, info)
		}
		wantText, err := json.Marshal(want.Text)
		if err != nil {
			t.Fatal(err)
		}
		pair := fmt.Appendf(nil, `[{"int":"1"},%s]`, wantText)
		if !bytes.Contains(normal(t, read.Data), normal(t, pair)) {
			t.Fatalf("Node does not read %s in %.200s", pair, read.Data)
		}

		var cookies [][2]string
		node.ask(map[string]any{
			"op": "write", "key": key.Text(), "name": cookieName, "purpose": purpose, "longest": longest, "now": time.Now().UnixMilli(), "id": read.ID, "data": read.Data,
		}, &cookies)
		if len(cookies) > 1 {
			split++
		}
		if diff := cmp.Diff(want, readBack(t, m, cookies), cmp.Comparer(func(a, b *big.Int) bool { return a.Cmp(b) == 0 })); diff != "" {
			t.Fatalf("after the way through Node (-want +got):\n%s", diff)
		}
	}
	if split == 0 || split == sessions {
		t.Errorf("%d of %d sessions were split, want some", split, sessions)
	}
}

// normal is JSON in one form, whoever has written it.
func normal(t *testing.T, b []byte) []byte {
	t.Helper()
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// write returns the Cookie line of a session, and what Go says of it.
func write(t *testing.T, m *sealed.Manager[everything], s everything) (line string, info sealed.Info) {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		err := m.Update(r.Context(), func(v *everything) { *v = s })
		if err == nil {
			info, err = m.Info(r.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
	})).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	var pairs []string
	for _, c := range w.Result().Cookies() {
		pairs = append(pairs, c.Name+"="+c.Value)
	}
	return strings.Join(pairs, "; "), info
}

func readBack(t *testing.T, m *sealed.Manager[everything], cookies [][2]string) (s everything) {
	t.Helper()
	r := httptest.NewRequest("GET", "/", nil)
	for _, c := range cookies {
		r.AddCookie(&http.Cookie{Name: c[0], Value: c[1]})
	}
	m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var err error
		if s, err = m.Get(r.Context()); err != nil {
			t.Fatal(err)
		}
	})).ServeHTTP(httptest.NewRecorder(), r)
	return s
}
