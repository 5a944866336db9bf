package sealed_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/sealed"
)

// A recordTest forges records, and checks that they are refused, as undecodable.
type recordTest struct {
	t    *testing.T
	m    *sealed.Manager[Session]
	f    forger
	rec  recorder
	id   [16]byte
	now  int64
	good []byte // a record of alice's
}

func newRecordTest(t *testing.T) *recordTest {
	t.Helper()
	x := &recordTest{t: t, id: [16]byte{1, 2, 3}, now: time.Now().UnixMilli()}
	x.m, x.f, _ = mustForge(t, sealed.Config[Session]{Observe: x.rec.observe})
	x.good = plaintext(t, x.id, x.now, 500, hourMs, Session{User: "alice"})
	return x
}

func (x *recordTest) refused(what string, plain []byte) {
	x.t.Helper()
	if s, _, err := x.m.Open(x.t.Context(), x.f.token(plain, "", purpose)); !errors.Is(err, sealed.ErrInvalid) || s.User != "" {
		x.t.Errorf("%s: %+v, %v, want ErrInvalid", what, s, err)
	}
	x.rec.want(x.t, what, "rejected undecodable")
	wantCookie(x.t, x.m, what, x.f.token(plain, name, purpose), sealed.ErrInvalid)
	x.rec.want(x.t, what+", as a cookie", "rejected undecodable")
}

func (x *recordTest) opens(what string, plain []byte) {
	x.t.Helper()
	if _, _, err := x.m.Open(x.t.Context(), x.f.token(plain, "", purpose)); err != nil {
		x.t.Errorf("%s: %v", what, err)
	}
	x.rec.want(x.t, what, "opened")
}

// data returns the good record with other data, which starts at byte 35.
func (x *recordTest) data(b ...byte) []byte {
	x.t.Helper()
	if same := append(x.good[:35:35], deterministic(x.t, Session{User: "alice"})...); !bytes.Equal(same, x.good) {
		x.t.Fatal("the data starts elsewhere")
	}
	return append(x.good[:35:35], b...)
}

func TestTruncatedRecordIsRefused(t *testing.T) {
	x := newRecordTest(t)
	for i := range x.good {
		x.refused(fmt.Sprintf("the first %d bytes", i), x.good[:i])
	}
}

func TestRecordInAnotherFormIsRefused(t *testing.T) {
	x := newRecordTest(t)
	// Its last use is 0, at byte 27, and the data starts at byte 33.
	unused := plaintext(t, x.id, x.now, 0, hourMs, Session{User: "alice"})
	edit := func(f func(b []byte) []byte) []byte { return f(append([]byte(nil), unused...)) }
	wantCookie(t, x.m, "a good one", x.f.token(unused, name, purpose), nil)
	x.rec.want(t, "a good one", "opened")
	for what, plain := range map[string][]byte{
		"nothing inside":   nil,
		"trailing byte":    append(unused[:len(unused):len(unused)], 0),
		"no data":          unused[:33],
		"array of 4":       edit(func(b []byte) []byte { b[0] = 0x84; return b }),
		"array of 7":       edit(func(b []byte) []byte { b[0] = 0x87; return b }),
		"indefinite array": edit(func(b []byte) []byte { b[0] = 0x9f; return append(b, 0xff) }),
		"ID as text":       edit(func(b []byte) []byte { b[1] = 0x70; return b }),
		"short ID":         plaintext(t, x.id, x.now, 0, hourMs, Session{})[1:],
		"long form of 0": edit(func(b []byte) []byte {
			return append(append(append([]byte(nil), b[:27]...), 0x18, 0), b[28:]...)
		}),
		"data of another type": plaintext(t, x.id, x.now, 0, hourMs, "text"),
	} {
		x.refused(what, plain)
	}
}

func TestRecordTimesAreBounded(t *testing.T) {
	x := newRecordTest(t)
	for what, created := range map[string]uint64{"created in 2^48": 1 << 48, "created in 2^63": 1 << 63, "created in 2^64-1": 1<<64 - 1} {
		x.refused(what, deterministic(t, []any{x.id[:], created, 0, hourMs, Session{User: "alice"}}))
	}
	x.refused("negative time", plaintext(t, x.id, -1, 0, hourMs, Session{}))
	x.refused("huge created", plaintext(t, x.id, 1<<62, 0, hourMs, Session{}))
	x.refused("huge expires", plaintext(t, x.id, x.now, 0, 1<<62, Session{}))
	x.refused("expires in 2^48", plaintext(t, x.id, x.now, 500, 1<<48, Session{User: "alice"}))
	x.opens("expires in 2^48-1", plaintext(t, x.id, x.now, 500, 1<<48-1, Session{User: "alice"}))
}

// The last use is at most the end, and may be that.
func TestRecordUsedAfterItsEndIsRefused(t *testing.T) {
	x := newRecordTest(t)
	x.refused("used after its end", plaintext(t, x.id, x.now-2*hourMs, hourMs+1, hourMs, Session{}))
	wantCookie(t, x.m, "used last at its end", x.f.token(plaintext(t, x.id, x.now-30_000, 60_000, 60_000, Session{User: "alice"}), name, purpose), nil)
}

func TestRecordWithPaddingOrNoExtensionsOpens(t *testing.T) {
	x := newRecordTest(t)
	for what, ext := range map[string]map[int]any{"padding": {0: []byte("......")}, "no extensions": {}} {
		wantCookie(t, x.m, what, x.f.token(plaintext(t, x.id, x.now, 0, hourMs, Session{User: "alice"}, ext), name, purpose), nil)
	}
}

func TestUnknownOrMalformedExtensionsAreRefused(t *testing.T) {
	x := newRecordTest(t)
	for what, ext := range map[string]any{
		"an unknown extension":             map[int]any{1: true},
		"padding and an unknown extension": map[int]any{0: []byte{}, 1: true},
		"padding that is text":             map[int]any{0: "xx"},
		"extensions as an array":           []any{},
		"extensions by name":               map[string]any{"0": []byte{}},
	} {
		x.refused(what, plaintext(t, x.id, x.now, 0, hourMs, Session{}, ext))
	}
	x.refused("data after extensions", append(plaintext(t, x.id, x.now, 0, hourMs, Session{}, map[int]any{}), 0))
	extended := append([]byte{0x86}, x.good[1:]...)
	for what, ext := range map[string][]byte{
		"an unknown one with bytes":    {0xa1, 1, 0x41, 0},
		"two, the second as padding":   {0xa2, 0, 0x42, 1, 0xf5},
		"bytes after the padding":      {0xa1, 0, 0x41, 0, 0},
		"padding that is cut":          {0xa1, 0, 0x42, 0},
		"no map":                       {0xf6},
		"padding without a value":      {0xa1, 0},
		"padding with a long head":     {0xa1, 0, 0x58, 1, 0},
		"padding of indefinite length": {0xa1, 0, 0x5f, 0x41, 0, 0xff},
	} {
		x.refused(what, append(append([]byte(nil), extended...), ext...))
	}
	x.refused("no extensions in a record that says so", extended)
}

func TestDuplicateKeysAndIndefiniteLengthsInDataAreRefused(t *testing.T) {
	x := newRecordTest(t)
	x.refused("duplicate keys", x.data(0xa2, 1, 0x61, 'a', 1, 0x61, 'b'))
	x.refused("indefinite length", x.data(0xbf, 0xff))
	x.refused("a promise of 2^32 elements", x.data(0xa1, 2, 0x9a, 0xff, 0xff, 0xff, 0xff))
}

func TestDataIsNestedAtMost32Levels(t *testing.T) {
	x := newRecordTest(t)
	nested := func(n int) []byte {
		return x.data(append(append([]byte{0xa1, 0x18, 99}, bytes.Repeat([]byte{0x81}, n)...), 0)...)
	}
	x.opens("nested 32 levels", nested(31))
	x.refused("nested too deeply", nested(32))
	x.refused("deeply nested data", x.data(append([]byte(strings.Repeat("\x81", 40)), 0)...))
}

func TestArrayOf40000ElementsOpens(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[Session]{})
	many, err := m.Seal(Session{Cart: make([]string, 40_000)})
	if err != nil {
		t.Fatal(err)
	}
	if s, _, err := m.Open(t.Context(), many); err != nil || len(s.Cart) != 40_000 {
		t.Errorf("40,000 elements: %v", err)
	}
}

func TestNumbersOfEachLengthComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, ms := range []int64{1, 23, 24, 255, 256, 65535, 65536, 1<<32 - 1, 1 << 32} {
			m := mustNew(t, mustRing(t), sealed.Config[Session]{Lifetime: time.Duration(ms) * time.Millisecond, IdleTimeout: time.Duration(ms) * time.Millisecond})
			token, err := m.Seal(Session{User: "alice"})
			if err != nil {
				t.Fatal(err)
			}
			if _, info, err := m.Open(t.Context(), token); err != nil || info.Expires.Sub(info.Created).Milliseconds() != ms {
				t.Errorf("%d ms: %+v, %v", ms, info, err)
			}
		}
	})
}
