package sealed_test

import (
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"example.com/sealed"
)

// scalars has each kind of a plain type, and nothing else.
type scalars struct {
	Bool   bool              `cbor:"1,keyasint,omitempty"`
	Int    int64             `cbor:"2,keyasint"`
	Small  int8              `cbor:"-3,keyasint"`
	Uint   uint64            `cbor:"4,keyasint"`
	Float  float64           `cbor:"5,keyasint"`
	Single float32           `cbor:"6,keyasint"`
	Text   string            `cbor:"text,omitempty"`
	Bytes  []byte            `cbor:"7,keyasint"`
	Fixed  [4]byte           `cbor:"8,keyasint"`
	Lines  []string          `cbor:"9,keyasint"`
	Counts map[string]int    `cbor:"10,keyasint"`
	Named  map[label][]point `cbor:"11,keyasint"`
	Next   *point            `cbor:"12,keyasint"`
	Flags  []bool
}

type label string

type point struct {
	_    struct{} `cbor:",toarray"`
	X, Y int
	Note string
}

// randomText returns a text that is UTF-8 mostly.
func randomText(rng *rand.Rand) string {
	b := make([]byte, rng.IntN(40))
	for i := range b {
		b[i] = byte('a' + rng.IntN(26))
	}
	switch {
	case len(b) == 0:
	case rng.IntN(4) == 0:
		return string(b) + "é→😀\x00"
	case rng.IntN(30) == 0:
		b[rng.IntN(len(b))] = 0x80 | byte(rng.IntN(128))
	}
	return string(b)
}

func randomScalars(rng *rand.Rand) (s scalars, valid bool) {
	valid = true
	text := func() string {
		t := randomText(rng)
		valid = valid && utf8.ValidString(t)
		return t
	}
	s = scalars{
		Bool: rng.IntN(2) == 0, Int: rng.Int64() >> rng.IntN(64) * (1 - 2*rng.Int64N(2)), Small: int8(rng.IntN(256)),
		Uint: rng.Uint64() >> rng.IntN(64), Float: rng.NormFloat64() * float64(rng.IntN(3)), Single: float32(rng.IntN(5)) / 2,
		Text: text(), Bytes: []byte(randomText(rng)), Fixed: [4]byte{0xff, 1, byte(rng.IntN(256)), 0},
	}
	for range rng.IntN(4) {
		s.Lines = append(s.Lines, text())
		s.Flags = append(s.Flags, true)
	}
	if rng.IntN(2) == 0 {
		s.Counts = map[string]int{text(): rng.IntN(300), text(): -1}
		s.Named = map[label][]point{label(text()): {{X: 1, Note: text()}, {Y: -1 << 31}}}
		s.Next = &point{Note: text()}
	}
	return s, valid
}

// What is accepted comes back as it was, and what is not UTF-8 is not accepted.
func TestPlainDataComesBack(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[scalars]{})
	rng := rand.New(rand.NewPCG(5, 5))
	refused := 0
	for n := range 5000 {
		want, valid := randomScalars(rng)
		token, err := m.Seal(want)
		if (err == nil) != valid {
			t.Fatalf("%d: Seal of %+v: %v; its text is UTF-8: %v", n, want, err, valid)
		}
		if !valid {
			refused++
			continue
		}
		got, _, err := m.Open(t.Context(), token)
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(point{})); err != nil || diff != "" {
			t.Fatalf("%d: %v (-want +got)\n%s", n, err, diff)
		}
	}
	if refused < 100 {
		t.Errorf("only %d were refused", refused)
	}
}

// halfKept encodes what it does not decode.
type halfKept struct{ Value string }

func (h halfKept) MarshalBinary() ([]byte, error) { return []byte(h.Value), nil }

func (h *halfKept) UnmarshalBinary(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	return errNotKept
}

var errNotKept = errorText("it does not decode")

type errorText string

func (e errorText) Error() string { return string(e) }

// choosy encodes as any struct does, and decodes only what it knows.
type choosy struct{ Role string }

func (c *choosy) UnmarshalCBOR(b []byte) error {
	var fields struct{ Role string }
	if err := cbor.Unmarshal(b, &fields); err != nil {
		return err
	}
	if c.Role = fields.Role; c.Role == "nobody" {
		return errNotKept
	}
	return nil
}

// short encodes as any bytes do, and decodes only a few.
type short []byte

func (s *short) UnmarshalBinary(b []byte) error {
	if len(b) > 2 {
		return errNotKept
	}
	*s = slices.Clone(b)
	return nil
}

type tree struct{ Left, Right *tree }

// Types that are not plain are tried: what would not come back is refused.
func TestDataThatWouldNotComeBackIsRefused(t *testing.T) {
	deep := &tree{}
	for range 40 {
		deep = &tree{Left: deep}
	}
	refuses(t, "keys that become equal", map[any]int{"x": 1}, map[any]int{int8(1): 1, uint16(1): 2})
	refuses(t, "keys that are not UTF-8", map[any]int{"é": 1}, map[any]int{"caf\xe9": 1})
	refuses(t, "an encoding of its own", []halfKept{}, []halfKept{{"x"}})
	refuses(t, "deeper than is decoded", tree{Left: &tree{}}, *deep)
	refuses(t, "a decoding of its own", choosy{Role: "user"}, choosy{Role: "nobody"})
	refuses(t, "bytes with a decoding of their own", short{1}, short{1, 2, 3})
	refuses(t, "text beside a time", dated{time.Unix(1e9, 5).UTC(), "é"}, dated{Text: "\xff"})
}

type dated struct {
	Time time.Time
	Text string
}

// refuses has one value of a type come back, and another be refused.
func refuses[V any](t *testing.T, what string, good, bad V) {
	t.Helper()
	type session struct{ Value V }
	m := mustNew(t, mustRing(t), sealed.Config[session]{})
	if _, err := m.Seal(session{bad}); err == nil {
		t.Errorf("%s: Seal takes what Open would refuse", what)
	}
	token, err := m.Seal(session{good})
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	got, _, err := m.Open(t.Context(), token)
	if diff := cmp.Diff(good, got.Value); err != nil || diff != "" {
		t.Errorf("%s: %v (-want +got)\n%s", what, err, diff)
	}
}

// Times keep their nanoseconds.
func TestTimesKeepTheirNanoseconds(t *testing.T) {
	type stamped struct{ At time.Time }
	m := mustNew(t, mustRing(t), sealed.Config[stamped]{})
	at := time.Date(2026, 1, 2, 3, 4, 5, 123456789, time.UTC)
	token, err := m.Seal(stamped{at})
	if err != nil {
		t.Fatal(err)
	}
	if s, _, err := m.Open(t.Context(), token); err != nil || !s.At.Equal(at) {
		t.Errorf("got %v, %v, want %v", s.At, err, at)
	}
}

type failing struct{ User string }

func (f failing) MarshalCBOR() ([]byte, error) {
	if f.User == "" {
		return []byte{0xa0}, nil
	}
	return nil, errFailing
}

func TestEncodersErrorIsInSealsError(t *testing.T) {
	if _, err := mustNew(t, mustRing(t), sealed.Config[failing]{}).Seal(failing{"x"}); !errors.Is(err, errFailing) {
		t.Errorf("%v, want the encoder's error", err)
	}
}

func TestUpdateRefusesTextThatIsNotUTF8(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user})
	b := newBrowser(t)
	b.login(m, "alice")
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		if err := m.Update(r.Context(), func(s *Session) { s.Flash = "caf\xe9" }); err == nil {
			t.Error("Update took a string that is not UTF-8, which Get would refuse")
		}
	})
	if s, _, err := b.get(m); err != nil || s.User != "alice" || s.Flash != "" {
		t.Errorf("then %+v, %v; want the session as it was", s, err)
	}
}

func TestSealRefusesTextThatIsNotUTF8(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{Subject: user})
	if _, err := m.Seal(Session{Flash: "\xff"}); err == nil {
		t.Error("Seal took it")
	}
}

func TestUpdateRefusesWhatIsNestedTooDeeply(t *testing.T) {
	type chain struct{ Next *chain }
	m := mustNew(t, mustRing(t), sealed.Config[chain]{})
	request(m, func(_ http.ResponseWriter, r *http.Request) {
		err := m.Update(r.Context(), func(s *chain) {
			for range 40 {
				s.Next = &chain{}
				s = s.Next
			}
		})
		if err == nil {
			t.Error("Update took a session nested more deeply than Get would decode")
		}
	})
}

func TestTypesThatEncodeThemselvesComeBack(t *testing.T) {
	type all struct {
		Addr  netip.Addr
		Big   *big.Int
		Float float64
		Bytes []byte
		Map   map[string]int
		Any   any
		Array [3]uint8
		Bool  *bool
	}
	yes := true
	n, _ := new(big.Int).SetString("123456789012345678901234567890", 10)
	want := all{netip.MustParseAddr("2001:db8::1"), n, 0.1, []byte{1, 2}, map[string]int{"a": 1}, "any", [3]uint8{1, 2, 3}, &yes}
	m := mustNew(t, mustRing(t), sealed.Config[all]{})
	got, _, err := m.Open(t.Context(), mustSeal(t, m, want))
	sameBig := cmp.Comparer(func(a, b *big.Int) bool { return a.Cmp(b) == 0 })
	if diff := cmp.Diff(want, got, sameBig, cmpopts.EquateComparable(netip.Addr{})); err != nil || diff != "" {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
}

func TestEqualMapsEncodeAlike(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[map[string]int]{})
	fill := func(_ http.ResponseWriter, r *http.Request) {
		err := m.Update(r.Context(), func(s *map[string]int) {
			*s = map[string]int{}
			for i := range 30 {
				(*s)[fmt.Sprint("key", i)] = i
			}
		})
		if err != nil {
			t.Error(err)
		}
	}
	cookie := cookieOf(request(m, fill))
	for range 5 {
		if res := request(m, fill, cookie); setsCookie(res) {
			t.Fatal("the same map set a cookie")
		}
	}
}

func TestFieldNamesAreMatchedExactly(t *testing.T) {
	type plain struct{ User string }
	ring, key := ringAndKey(t)
	m := mustNew(t, ring, sealed.Config[plain]{})
	token := newForger(t, key).token(plaintext(t, [16]byte{1}, time.Now().UnixMilli(), 0, hourMs, map[string]string{"user": "mallory"}), "", purpose)
	if s, _, err := m.Open(t.Context(), token); err != nil || s.User != "" {
		t.Errorf("a field of another case: %+v, %v", s, err)
	}
}

func TestTypeWithOneMoreFieldOpens(t *testing.T) {
	type grown struct {
		Session
		More string `cbor:"9,keyasint,omitempty"`
	}
	ring := mustRing(t)
	token := mustSeal(t, mustNew(t, ring, sealed.Config[Session]{}), Session{User: "secret-user"})
	if s, _, err := mustNew(t, ring, sealed.Config[grown]{}).Open(t.Context(), token); err != nil || s.User != "secret-user" {
		t.Errorf("a type with one more field: %+v, %v", s, err)
	}
}

// The error is for a log, where data has no place.
func TestErrorOfChangedTypeNamesTypesButNoData(t *testing.T) {
	type changed struct {
		User int64 `cbor:"1,keyasint"`
	}
	type text struct{ At string }
	type stamped struct{ At time.Time }
	ring := mustRing(t)
	sessions := mustNew(t, ring, sealed.Config[Session]{})

	token := mustSeal(t, sessions, Session{User: "secret-user"})
	_, _, err := mustNew(t, ring, sealed.Config[changed]{}).Open(t.Context(), token)
	if !errors.Is(err, sealed.ErrInvalid) || strings.Contains(err.Error(), "secret-user") || !strings.Contains(err.Error(), "int64") {
		t.Errorf("error %v, want ErrInvalid that names the types only", err)
	}
	token = mustSeal(t, mustNew(t, ring, sealed.Config[string]{}), "very-secret")
	if _, _, err := sessions.Open(t.Context(), token); err == nil || !strings.Contains(err.Error(), "the session") || strings.Contains(err.Error(), "very-secret") {
		t.Errorf("a text in place of a session: %v", err)
	}
	token = mustSeal(t, mustNew(t, ring, sealed.Config[text]{}), text{"very-secret"})
	if _, _, err := mustNew(t, ring, sealed.Config[stamped]{}).Open(t.Context(), token); !errors.Is(err, sealed.ErrInvalid) || strings.Contains(err.Error(), "very-secret") {
		t.Errorf("a text in place of a time: %v", err)
	}
}
