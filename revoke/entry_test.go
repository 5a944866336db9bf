package revoke_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"example.com/sealed"
	"example.com/sealed/revoke"
)

func TestEntriesComeBackAsTheyWere(t *testing.T) {
	at := time.UnixMilli(1_800_000_000_123)
	all := []sealed.Revocation{
		{ID: id(1), Until: at},
		{ID: id(2), From: at.Add(-time.Hour), Until: at},
		{Subject: "alice", Before: at.Add(-time.Hour), Until: at},
		{Subject: strings.Repeat("x", 65535), Before: at, Until: at},
	}
	var b []byte
	for _, v := range all {
		var err error
		if b, err = revoke.AppendEntry(b, v); err != nil {
			t.Fatal(err)
		}
	}
	got, err := revoke.ParseEntries(nil, b)
	if diff := cmp.Diff(all, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if _, err := revoke.AppendEntry(nil, sealed.Revocation{Subject: strings.Repeat("x", 65536)}); err == nil {
		t.Error("a subject is too long, and there is no error")
	}
}

// Nothing is forgotten too early, or refused too late.
func TestEntriesRoundToTheSafeSide(t *testing.T) {
	at := time.UnixMilli(1_800_000_000_123)
	b, err := revoke.AppendEntry(nil, sealed.Revocation{ID: id(1), From: at.Add(1), Until: at.Add(1)})
	if err != nil {
		t.Fatal(err)
	}
	got, err := revoke.ParseEntries(nil, b)
	if err != nil || !got[0].From.Equal(at) || !got[0].Until.Equal(at.Add(time.Millisecond)) {
		t.Errorf("%+v, %v", got, err)
	}
}

// An entry in the golden form: see FORMAT.md.
func TestEntryOfALaterVersion(t *testing.T) {
	session := append([]byte{1, 24}, make([]byte, 24)...)
	session[2] = 7
	longer := append([]byte{1, 40}, make([]byte, 40)...)
	longer[2] = 8
	optional := append([]byte{200, 3}, "new"...)
	b := append(append(append([]byte{}, optional...), longer...), session...)
	got, err := revoke.ParseEntries(nil, b)
	if err != nil || len(got) != 2 || got[0].ID[0] != 8 || got[1].ID[0] != 7 {
		t.Errorf("with what may be passed over: %+v, %v", got, err)
	}
	if got, err = revoke.ParseEntries(nil, append(session, 3, 3, 'n', 'e', 'w')); !errors.Is(err, revoke.ErrNewer) || len(got) != 1 {
		t.Errorf("with what must not be: %+v, %v, want ErrNewer", got, err)
	}
	for name, b := range map[string][]byte{
		"kind 0": {0, 0}, "cut off": session[:20], "no length": {1}, "short": {1, 3, 1, 2, 3},
		"a subject that is longer than its entry": append([]byte{2, 18}, append(make([]byte, 16), 0xff, 0xff)...),
		"a subject without a name":                append([]byte{2, 19}, make([]byte, 19)...),
		"a time that never comes":                 append([]byte{1, 24}, bytes.Repeat([]byte{0xff}, 24)...),
		"a length of ten bytes":                   {1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1},
	} {
		if _, err := revoke.ParseEntries(nil, b); err == nil || errors.Is(err, revoke.ErrNewer) {
			t.Errorf("%s: %v, want another error", name, err)
		}
	}
}

func FuzzParseEntries(f *testing.F) {
	for _, v := range []sealed.Revocation{{ID: id(1), Until: time.Now()}, {Subject: "alice", Before: time.Now(), Until: time.Now()}} {
		b, err := revoke.AppendEntry(nil, v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add(append([]byte{1, 24}, make([]byte, 24)...)) // of no session
	f.Add(append(append([]byte{1, 24, 7}, make([]byte, 17)...), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff))
	f.Add([]byte{200, 3, 'n', 'e', 'w'}) // nothing but what may be passed over
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := revoke.ParseEntries(nil, b)
		if err != nil {
			return
		}
		var again []byte
		for _, v := range all {
			if again, err = revoke.AppendEntry(again, v); err != nil {
				t.Fatalf("%+v: %v", v, err)
			}
		}
		second, err := revoke.ParseEntries(nil, again)
		if diff := cmp.Diff(all, second, cmpopts.EquateEmpty()); err != nil || diff != "" {
			t.Errorf("%v\n%s", err, diff)
		}
	})
}
