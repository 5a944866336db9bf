package sealed_test

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/sealed"
)

// The session of an older version of a program, and that of a newer one, which has a
// field more at every level.
type (
	olderItem struct {
		SKU string `cbor:"1,keyasint"`
		Qty int    `cbor:"2,keyasint,omitempty"`
	}
	olderBase struct {
		Region string `cbor:"region,omitempty"`
	}
	older struct {
		olderBase
		User    string               `cbor:"1,keyasint,omitempty"`
		N       int                  `cbor:"2,keyasint,omitempty"`
		Address *olderItem           `cbor:"3,keyasint,omitempty"`
		Cart    []olderItem          `cbor:"4,keyasint,omitempty"`
		ByName  map[string]olderItem `cbor:"5,keyasint,omitempty"`
		Pair    [2]olderItem         `cbor:"6,keyasint"`
	}

	newerItem struct {
		SKU  string `cbor:"1,keyasint"`
		Qty  int    `cbor:"2,keyasint,omitempty"`
		Note string `cbor:"note,omitempty"`
	}
	newerBase struct {
		Region string `cbor:"region,omitempty"`
		City   string `cbor:"city,omitempty"`
	}
	newer struct {
		newerBase
		User      string               `cbor:"1,keyasint,omitempty"`
		N         int                  `cbor:"2,keyasint,omitempty"`
		Address   *newerItem           `cbor:"3,keyasint,omitempty"`
		Cart      []newerItem          `cbor:"4,keyasint,omitempty"`
		ByName    map[string]newerItem `cbor:"5,keyasint,omitempty"`
		Pair      [2]newerItem         `cbor:"6,keyasint"`
		NeedsTOTP bool                 `cbor:"7,keyasint,omitempty"`
		Negative  string               `cbor:"-1,keyasint,omitempty"`
		Text      []string             `cbor:"1,omitempty"` // beside the integer 1
	}
)

func newerSession() newer {
	return newer{
		newerBase{"eu", "Graz"}, "alice", 1, &newerItem{"home", 1, "ring twice"},
		[]newerItem{{"mug", 1, "blue"}, {"tee", 2, ""}, {"mug", 1, "red"}},
		map[string]newerItem{"gift": {"pen", 1, "engraved"}, "other": {"cap", 1, "green"}},
		[2]newerItem{{"a", 1, "first"}, {"b", 2, "second"}}, true, "minus", []string{"x"},
	}
}

// through has the older version change a session of the newer one, and returns what the
// newer one then has.
func through(t *testing.T, read bool, change func(*older)) newer {
	t.Helper()
	ring := mustRing(t)
	m1 := mustNew(t, ring, sealed.Config[older]{Subject: func(s older) string { return s.User }})
	m2 := mustNew(t, ring, sealed.Config[newer]{Subject: func(s newer) string { return s.User }})
	res := request(m2, func(_ http.ResponseWriter, r *http.Request) {
		if err := m2.Update(r.Context(), func(s *newer) { *s = newerSession() }); err != nil {
			t.Fatal(err)
		}
	})
	cookie := cookieOf(res)
	res = request(m1, func(_ http.ResponseWriter, r *http.Request) {
		if read {
			if _, err := m1.Get(r.Context()); err != nil {
				t.Error(err)
			}
		}
		for range 2 { // the second changes nothing
			if err := m1.Update(r.Context(), change); err != nil {
				t.Error(err)
			}
		}
	}, cookie)
	if setsCookie(res) {
		cookie = cookieOf(res)
	}
	s, _, err := getWith(m2, cookie)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOlderVersionKeepsWhatItDoesNotKnow(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*older)
		want   func(*newer)
	}{
		"nothing changes":        {func(*older) {}, func(*newer) {}},
		"a field":                {func(s *older) { s.N = 7 }, func(s *newer) { s.N = 7 }},
		"an embedded field":      {func(s *older) { s.Region = "us" }, func(s *newer) { s.Region = "us" }},
		"a struct inside":        {func(s *older) { s.Address.Qty = 9 }, func(s *newer) { s.Address.Qty = 9 }},
		"a struct inside goes":   {func(s *older) { s.Address = nil }, func(s *newer) { s.Address = nil }},
		"a value of a map":       {func(s *older) { s.ByName["gift"] = olderItem{"pen", 5} }, func(s *newer) { s.ByName["gift"] = newerItem{"pen", 5, "engraved"} }},
		"a key of a map goes":    {func(s *older) { delete(s.ByName, "gift") }, func(s *newer) { delete(s.ByName, "gift") }},
		"an element of an array": {func(s *older) { s.Pair[1].Qty = 8 }, func(s *newer) { s.Pair[1].Qty = 8 }},
		"an element of a slice":  {func(s *older) { s.Cart[0].Qty = 3 }, func(s *newer) { s.Cart[0].Qty = 3 }},
		"a slice loses its first": {
			func(s *older) {
				if len(s.Cart) == 3 {
					s.Cart = s.Cart[1:]
				}
			},
			func(s *newer) { s.Cart = []newerItem{{"tee", 2, ""}, {"mug", 1, "blue"}} }, // which of two alike, it cannot know
		},
		"a slice grows in front": {
			func(s *older) {
				if len(s.Cart) == 3 {
					s.Cart = append([]olderItem{{"cap", 1}}, s.Cart...)
				}
			},
			func(s *newer) { s.Cart = append([]newerItem{{"cap", 1, ""}}, s.Cart...) },
		},
		"a slice is sorted": {
			func(s *older) { s.Cart[0], s.Cart[1] = olderItem{"tee", 2}, olderItem{"mug", 1} },
			func(s *newer) { s.Cart[0], s.Cart[1] = s.Cart[1], s.Cart[0] },
		},
	} {
		for _, read := range []bool{false, true} {
			want := newerSession()
			tt.want(&want)
			if diff := cmp.Diff(want, through(t, read, tt.change), cmp.AllowUnexported(newer{}, newerBase{})); diff != "" {
				t.Errorf("%s, read before %v (-want +got):\n%s", name, read, diff)
			}
		}
	}
}

// What belongs to alice does not go to bob, nor to nobody.
func TestWhatIsNotKnownGoesWithTheSubject(t *testing.T) {
	for _, subject := range []string{"", "bob"} {
		got := through(t, false, func(s *older) { *s = older{User: subject, N: 5} })
		if diff := cmp.Diff(newer{User: subject, N: 5}, got, cmp.AllowUnexported(newer{}, newerBase{})); diff != "" {
			t.Errorf("to %q (-want +got):\n%s", subject, diff)
		}
	}
}

// What an anonymous visitor has, such as a cart, goes along to the login.
func TestWhatIsNotKnownComesAlongToLogin(t *testing.T) {
	ring := mustRing(t)
	m1, m2 := mustNew(t, ring, sealed.Config[older]{Subject: func(s older) string { return s.User }}), mustNew(t, ring, sealed.Config[newer]{})
	res := request(m2, func(_ http.ResponseWriter, r *http.Request) {
		m2.Update(r.Context(), func(s *newer) { s.NeedsTOTP = true })
	})
	res = request(m1, func(_ http.ResponseWriter, r *http.Request) {
		m1.Update(r.Context(), func(s *older) { s.User = "alice" })
	}, cookieOf(res))
	if s, _, err := getWith(m2, cookieOf(res)); err != nil || !s.NeedsTOTP || s.User != "alice" {
		t.Errorf("then %+v, %v", s, err)
	}
}

// The size that is checked is that of the whole.
func TestWhatIsNotKnownCountsForTheSize(t *testing.T) {
	ring := mustRing(t)
	type big struct {
		Text  string `cbor:"1,keyasint,omitempty"`
		Extra []byte `cbor:"2,keyasint,omitempty"`
	}
	type small struct {
		Text string `cbor:"1,keyasint,omitempty"`
	}
	m1, m2 := mustNew(t, ring, sealed.Config[small]{}), mustNew(t, ring, sealed.Config[big]{})
	res := request(m2, func(_ http.ResponseWriter, r *http.Request) {
		if err := m2.Update(r.Context(), func(s *big) { s.Extra = make([]byte, 1800) }); err != nil {
			t.Fatal(err)
		}
	})
	request(m1, func(_ http.ResponseWriter, r *http.Request) {
		if err := m1.Update(r.Context(), func(s *small) { s.Text = string(make([]byte, 600)) }); err == nil {
			t.Error("Update took what does not fit with the rest")
		}
	}, cookieOf(res))
}

func TestAnyComesBackInTypesThatJSONTakes(t *testing.T) {
	type session struct{ V any }
	m := mustNew(t, mustRing(t), sealed.Config[session]{})
	want := session{map[string]any{"n": int64(5), "min": int64(-7), "list": []any{int64(1), "x", 1.5, true, nil}, "map": map[string]any{"b": []byte("x")}}}
	token, err := m.Seal(session{map[string]any{"n": 5, "min": int8(-7), "list": []any{uint16(1), "x", 1.5, true, nil}, "map": map[string][]byte{"b": []byte("x")}}})
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := m.Open(t.Context(), token)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if _, err := m.Seal(session{map[int]string{1: "x"}}); err == nil {
		t.Error("a map that would not come back was accepted")
	}
}
