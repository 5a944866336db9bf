package sealed_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/sealed"
)

// A program has had two forms of its session: in the second a field has another type, and
// one another key.
type formerSession struct {
	User string   `cbor:"1,keyasint,omitempty"`
	Cart []string `cbor:"2,keyasint,omitempty"`
	Lang string   `cbor:"3,keyasint,omitempty"`
}

type latterSession struct {
	User   string         `cbor:"1,keyasint,omitempty"`
	Cart   map[string]int `cbor:"2,keyasint,omitempty"`
	Locale string         `cbor:"4,keyasint,omitempty"`
}

func toLatter(data []byte) (latterSession, bool) {
	old, err := sealed.Decode[formerSession](data)
	if err != nil {
		return latterSession{}, false
	}
	s := latterSession{User: old.User, Locale: old.Lang}
	for _, item := range old.Cart {
		if s.Cart == nil {
			s.Cart = map[string]int{}
		}
		s.Cart[item]++
	}
	return s, true
}

func toFormer(data []byte) (formerSession, bool) {
	newer, err := sealed.Decode[latterSession](data)
	if err != nil {
		return formerSession{}, false
	}
	s := formerSession{User: newer.User, Lang: newer.Locale}
	for item, n := range newer.Cart {
		for range n {
			s.Cart = append(s.Cart, item)
		}
	}
	return s, true
}

// change changes the session of a type, and fails the test if it cannot.
func change[T any](b *browser, m *sealed.Manager[T], f func(*T)) *http.Response {
	b.t.Helper()
	return b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		if err := m.Update(r.Context(), f); err != nil {
			b.t.Errorf("Update: %v", err)
		}
	})
}

// In a rolling deployment each version reads and changes what the other has written.
func TestMigrateInBothDirections(t *testing.T) {
	ring := mustRing(t)
	former := mustNew(t, ring, sealed.Config[formerSession]{Migrate: toFormer, Subject: func(s formerSession) string { return s.User }})
	latter := mustNew(t, ring, sealed.Config[latterSession]{Migrate: toLatter, Subject: func(s latterSession) string { return s.User }})
	b := newBrowser(t)
	change(b, former, func(s *formerSession) { s.User, s.Cart, s.Lang = "alice", []string{"tea"}, "de" })
	for range 3 {
		change(b, latter, func(s *latterSession) { s.Cart["tea"]++ })
		change(b, former, func(s *formerSession) { s.Cart = append(s.Cart, "tea") })
	}
	want := latterSession{User: "alice", Cart: map[string]int{"tea": 7}, Locale: "de"}
	for range 2 { // what the first call returned is not handed out twice
		got, _, err := getWith(latter, b.cookie())
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("at the end: %v (-want +got)\n%s", err, diff)
		}
	}
	if got, _, err := getWith(former, b.cookie()); err != nil || len(got.Cart) != 7 || got.Lang != "de" {
		t.Errorf("and by the former version: %+v, %v", got, err)
	}
}

// A read writes nothing, so that two versions do not write in turns; an Update does, and
// from then on nothing is to be migrated, and nothing of the old form is left.
func TestMigratedSessionIsWrittenByUpdate(t *testing.T) {
	ring := mustRing(t)
	former := mustNew(t, ring, sealed.Config[formerSession]{})
	asked := 0
	latter := mustNew(t, ring, sealed.Config[latterSession]{Migrate: func(data []byte) (latterSession, bool) {
		asked++
		s, ok := toLatter(data)
		clear(data) // is the function's own
		return s, ok
	}})
	b := newBrowser(t)
	change(b, former, func(s *formerSession) { s.Lang = "de" })
	res := b.visit(latter, func(_ http.ResponseWriter, r *http.Request) {
		for range 3 {
			if s, err := latter.Get(r.Context()); err != nil || s.Locale != "de" {
				t.Errorf("Get: %+v, %v", s, err)
			}
		}
	})
	if asked == 0 || setsCookie(res) {
		t.Errorf("a read asked %d times, and set %q", asked, res.Header["Set-Cookie"])
	}
	change(b, latter, func(*latterSession) {})
	asked = 0
	if s, _, err := getWith(latter, b.cookie()); err != nil || s.Locale != "de" || asked != 0 {
		t.Errorf("after Update: %+v, %v, asked %d times", s, err, asked)
	}
	if s, _, err := getWith(former, b.cookie()); err != nil || s.Lang != "" {
		t.Errorf("the former version reads %+v, %v, want nothing of the old form", s, err)
	}
}

// What Migrate does not know is read as without it.
func TestMigrateThatDoesNotKnowTheData(t *testing.T) {
	type strange struct {
		Cart  int    `cbor:"2,keyasint,omitempty"`
		Extra string `cbor:"9,keyasint,omitempty"`
	}
	ring := mustRing(t)
	other := mustNew(t, ring, sealed.Config[strange]{})
	latter := mustNew(t, ring, sealed.Config[latterSession]{Migrate: toLatter})

	b := newBrowser(t)
	change(b, other, func(s *strange) { s.Extra = "kept" })
	change(b, latter, func(s *latterSession) { s.Locale = "de" })
	if s, _, err := getWith(other, b.cookie()); err != nil || s.Extra != "kept" {
		t.Errorf("of a field that neither knows: %+v, %v", s, err)
	}
	change(b, other, func(s *strange) { s.Cart = 5 })
	if _, _, err := getWith(latter, b.cookie()); !errors.Is(err, sealed.ErrInvalid) {
		t.Errorf("of a type that neither knows: %v, want ErrInvalid", err)
	}
}

// Tokens outside cookies are sessions, too.
func TestMigrateOpens(t *testing.T) {
	ring := mustRing(t)
	former := mustNew(t, ring, sealed.Config[formerSession]{})
	latter := mustNew(t, ring, sealed.Config[latterSession]{Migrate: toLatter})
	token, err := former.Seal(formerSession{Lang: "de"})
	if err != nil {
		t.Fatal(err)
	}
	if s, _, err := latter.Open(t.Context(), token); err != nil || s.Locale != "de" {
		t.Errorf("Open: %+v, %v", s, err)
	}
}

func TestDecodeIsExact(t *testing.T) {
	encoded := func(s formerSession) (data []byte) {
		ring := mustRing(t)
		token, err := mustNew(t, ring, sealed.Config[formerSession]{}).Seal(s)
		if err != nil {
			t.Fatal(err)
		}
		m := mustNew(t, ring, sealed.Config[struct{ X int }]{Migrate: func(b []byte) (s struct{ X int }, ok bool) { data = b; return s, true }})
		if _, _, err := m.Open(t.Context(), token); err != nil {
			t.Fatal(err)
		}
		return data
	}
	cart := encoded(formerSession{Cart: []string{"secret"}})
	if s, err := sealed.Decode[formerSession](cart); err != nil || len(s.Cart) != 1 {
		t.Errorf("its own type: %+v, %v", s, err)
	}
	for what, err := range map[string]error{
		"another type":    second(sealed.Decode[latterSession](cart)),
		"a missing field": second(sealed.Decode[struct{ User string }](cart)),
		"no CBOR":         second(sealed.Decode[formerSession]([]byte{0xff})),
	} {
		if !errors.Is(err, sealed.ErrInvalid) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want ErrInvalid", what, err)
		}
	}
}
