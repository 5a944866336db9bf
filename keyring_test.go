package sealed_test

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/sealed"
)

// states returns the IDs and states of a ring's keys.
func states(ring *sealed.Keyring) string {
	var s []string
	for _, k := range ring.Keys() {
		s = append(s, k.ID+" "+string(k.State))
	}
	return strings.Join(s, ", ")
}

// wantStates checks the order and the states of a ring's keys.
func wantStates(t *testing.T, ring *sealed.Keyring, want string) {
	t.Helper()
	if got := states(ring); got != want {
		t.Errorf("keys %s, want %s", got, want)
	}
}

func TestParseKeyringTakesTheFirstKeyAsPrimary(t *testing.T) {
	a, b, c := sealed.GenerateKey(), sealed.GenerateKey(), sealed.GenerateKey()
	ring, err := sealed.ParseKeyring("\n " + a.Text() + ",\t" + b.Text() + "\r\n" + c.Text() + "\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []sealed.KeyInfo{
		{ID: a.ID(), State: sealed.KeyPrimary},
		{ID: b.ID(), State: sealed.KeyRetiring},
		{ID: c.ID(), State: sealed.KeyRetiring},
	}
	if diff := cmp.Diff(want, ring.Keys()); diff != "" {
		t.Errorf("Keys (-want +got):\n%s", diff)
	}
	if _, err := sealed.ParseKeyring(a.Text() + "\v" + b.Text() + "\f" + c.Text()); err != nil {
		t.Error(err)
	}
}

func TestParseKeyringRefusesTextWithoutShowingIt(t *testing.T) {
	a, b := sealed.GenerateKey(), sealed.GenerateKey()
	for name, text := range map[string]string{
		"empty": "", "only separators": " ,\n", "one bad": a.Text() + " " + b.Text()[:40], "twice": a.Text() + " " + a.Text(),
	} {
		_, err := sealed.ParseKeyring(text)
		if err == nil || strings.Contains(err.Error(), a.Text()[13:]) || strings.Contains(err.Error(), b.Text()[13:40]) {
			t.Errorf("%s: error %v, want one without the text", name, err)
		}
		if name == "one bad" && !strings.Contains(err.Error(), "key 2 of 2") {
			t.Errorf("%s: error %v does not say which key", name, err)
		}
	}
}

func TestZeroKeyIsRefused(t *testing.T) {
	if _, err := sealed.NewKeyring(sealed.Key{}); err == nil {
		t.Error("NewKeyring took the zero Key")
	}
	if err := mustRing(t).Add(sealed.Key{}, time.Now()); err == nil {
		t.Error("the zero Key was added")
	}
}

func TestRotateMakesAKeyThatIsPendingForTheLead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring, first := ringAndKey(t)
		second, err := ring.Rotate(time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		wantStates(t, ring, second.ID()+" pending, "+first.ID()+" primary")
		info := ring.Keys()[0]
		if now := time.Now(); !info.Created.Equal(now) || !info.Activates.Equal(now.Add(time.Hour)) {
			t.Errorf("created %v, activates %v", info.Created, info.Activates)
		}
		time.Sleep(time.Hour)
		wantStates(t, ring, second.ID()+" primary, "+first.ID()+" retiring")
	})
}

func TestRotateRefusesANegativeLead(t *testing.T) {
	if _, err := mustRing(t).Rotate(-1); err == nil {
		t.Error("Rotate took a negative lead")
	}
}

func TestLaterOfTwoRotationsInOneInstantIsPrimary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring := mustRing(t)
		_, _ = ring.Rotate(0)
		last, _ := ring.Rotate(0)
		if got := ring.Keys()[0]; got.ID != last.ID() || got.State != sealed.KeyPrimary {
			t.Errorf("after two rotations the primary is %+v, want %s", got, last.ID())
		}
	})
}

func TestKeySealsInTheMillisecondThatItWasMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring := mustRing(t)
		m := mustNew(t, ring, sealed.Config[Session]{})
		time.Sleep(500 * time.Microsecond)
		key, _ := ring.Rotate(0)
		if _, info, err := m.Open(t.Context(), mustSeal(t, m, Session{User: "alice"})); err != nil || info.KeyID != key.ID() {
			t.Errorf("sealed with %s, want %s: %v", info.KeyID, key.ID(), err)
		}
	})
}

// Not in a bubble, whose clock has no monotonic reading.
func TestKeysTimesAreWallTimes(t *testing.T) {
	ring := mustRing(t)
	if _, err := ring.Rotate(0); err != nil {
		t.Fatal(err)
	}
	if s := ring.Keys()[0].Created.String(); strings.Contains(s, "m=") {
		t.Errorf("Created has a monotonic reading: %s", s)
	}
}

func TestAddedKeysAreInOrderOfActivation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring, a := ringAndKey(t)
		b, c, d := sealed.GenerateKey(), sealed.GenerateKey(), sealed.GenerateKey()
		now := time.Now()
		for _, err := range []error{ring.Add(b, now.Add(time.Minute)), ring.Add(c, now.Add(-time.Minute)), ring.Add(d, time.Time{})} {
			if err != nil {
				t.Error(err)
			}
		}
		wantStates(t, ring, b.ID()+" pending, "+c.ID()+" primary, "+a.ID()+" retiring, "+d.ID()+" retiring")
		time.Sleep(time.Minute)
		if got := ring.Keys()[0].State; got != sealed.KeyPrimary {
			t.Errorf("at its activation the key is %s", got)
		}
	})
}

func TestAddRefusesAKeyThatIsInTheRing(t *testing.T) {
	ring, b := mustRing(t), sealed.GenerateKey()
	now := time.Now()
	if err := ring.Add(b, now.Add(time.Minute)); err != nil {
		t.Error(err)
	}
	if err := ring.Add(b, now); err == nil {
		t.Error("a key was added twice")
	}
}

func TestRevokedKeyStaysAndIsNotAddedAgain(t *testing.T) {
	ring, first := ringAndKey(t)
	second, _ := ring.Rotate(0)
	if err := ring.Revoke(first.ID()); err != nil {
		t.Fatal(err)
	}
	if err := ring.Add(first, time.Time{}); err == nil {
		t.Error("a revoked key was added again")
	}
	wantStates(t, ring, second.ID()+" primary, "+first.ID()+" revoked")
}

func TestOnlyUsableKeyIsNeitherRevokedNorRemoved(t *testing.T) {
	ring, first := ringAndKey(t)
	m := mustNew(t, ring, sealed.Config[Session]{})
	b := newBrowser(t)
	b.login(m, "alice")
	for _, f := range []func(string) error{ring.Revoke, ring.Remove} {
		if err := f(first.ID()); err == nil {
			t.Error("the only key could be taken away")
		}
		wantStates(t, ring, first.ID()+" primary")
	}
	if _, _, err := b.get(m); err != nil {
		t.Error(err)
	}
	second, _ := ring.Rotate(0)
	if err := ring.Revoke(first.ID()); err != nil {
		t.Fatal(err)
	}
	if err := ring.Remove(second.ID()); err == nil {
		t.Error("the only usable key could be removed")
	}
}

func TestRevokeAndRemoveOfAnUnknownIDIsAnError(t *testing.T) {
	ring := mustRing(t)
	for _, f := range []func(string) error{ring.Revoke, ring.Remove} {
		if err := f("no such ID"); err == nil {
			t.Error("an unknown ID is no error")
		}
	}
}

func TestRemoveRemovesOneKey(t *testing.T) {
	first, second, third := sealed.GenerateKey(), sealed.GenerateKey(), sealed.GenerateKey()
	ring := ringOf(t, first, second, third)
	if err := ring.Remove(second.ID()); err != nil {
		t.Error(err)
	}
	wantStates(t, ring, first.ID()+" primary, "+third.ID()+" retiring")
}

func TestRevokedKeyCanBeRemoved(t *testing.T) {
	ring, first := ringAndKey(t)
	second, _ := ring.Rotate(0)
	if err := ring.Revoke(first.ID()); err != nil {
		t.Fatal(err)
	}
	if err := ring.Remove(first.ID()); err != nil {
		t.Error(err)
	}
	wantStates(t, ring, second.ID()+" primary")
}

func TestRequestsAreServedWhileKeysComeAndGo(t *testing.T) {
	ring := mustRing(t)
	m := mustNew(t, ring, sealed.Config[Session]{})
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			b := newBrowser(t)
			b.login(m, "alice")
			for {
				select {
				case <-done:
					return
				default:
				}
				if s, _, err := b.get(m); err != nil || s.User != "alice" {
					t.Errorf("%+v, %v", s, err)
					return
				}
			}
		})
	}
	for range 100 {
		if _, err := ring.Rotate(0); err != nil {
			t.Error(err)
		}
		ring.Keys()
	}
	close(done)
	wg.Wait()
}
