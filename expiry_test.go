package sealed_test

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/sealed"
)

func TestInfoTellsTheLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, mustRing(t), sealed.Config[Session]{Lifetime: time.Hour})
		b := newBrowser(t)
		b.login(m, "alice")
		created := time.Now().UTC()
		want := sealed.Info{Created: created, LastUsed: created, Expires: created.Add(time.Hour)}
		got := b.info(m)
		want.ID, want.KeyID = got.ID, got.KeyID
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Info (-want +got):\n%s", diff)
		}
	})
}

func TestSessionEndsWithItsLifetimeHoweverItIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, mustRing(t), sealed.Config[Session]{Lifetime: time.Hour})
		b := newBrowser(t)
		b.login(m, "alice")
		time.Sleep(time.Hour - time.Millisecond)
		b.update(m, func(s *Session) { s.Flash = "use does not lengthen it" })
		if s, _, err := b.get(m); err != nil || s.User != "alice" {
			t.Errorf("a millisecond before the end: %+v, %v", s, err)
		}
		time.Sleep(time.Millisecond)
		b.wantErr(m, sealed.ErrExpired)
	})
}

func TestTodaysLifetimeShortensSessionsButDoesNotLengthenThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring := mustRing(t)
		hour := mustNew(t, ring, sealed.Config[Session]{Lifetime: time.Hour})
		day := mustNew(t, ring, sealed.Config[Session]{Lifetime: 24 * time.Hour})
		short, long := newBrowser(t), newBrowser(t)
		short.login(hour, "alice")
		long.login(day, "alice")
		if got, want := long.info(hour).Expires, time.Now().Add(time.Hour); !got.Equal(want) {
			t.Errorf("a day's session under an hour's config expires %v, want %v", got, want)
		}
		time.Sleep(time.Hour)
		short.wantErr(day, sealed.ErrExpired)
		long.wantErr(hour, sealed.ErrExpired)
		if _, _, err := long.get(day); err != nil {
			t.Error(err)
		}
	})
}

func TestSessionOfAClockFiveMinutesAheadIsValid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f, _ := mustForge(t, sealed.Config[Session]{})
		now, hour := time.Now().UnixMilli(), time.Hour.Milliseconds()
		const skew = 5 * 60 * 1000
		for _, tt := range []struct {
			name              string
			created, lastUsed int64
			want              error
		}{
			{"created 5 minutes ahead", now + skew, 0, nil},
			{"created further ahead", now + skew + 1, 0, sealed.ErrInvalid},
			{"used 5 minutes ahead", now - 60_000, 60_000 + skew, nil},
			{"used further ahead", now - 60_000, 60_000 + skew + 1, sealed.ErrInvalid},
		} {
			token := f.token(plaintext(t, [16]byte{1}, tt.created, tt.lastUsed, hour, Session{}), "", purpose)
			if _, _, err := m.Open(t.Context(), token); !errors.Is(err, tt.want) {
				t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
			}
		}
	})
}

func TestMaxAgeIsWhatIsLeftUnderTodaysLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring := mustRing(t)
		day := mustNew(t, ring, sealed.Config[Session]{Persistent: true})
		hour := mustNew(t, ring, sealed.Config[Session]{Persistent: true, Lifetime: time.Hour})
		b := newBrowser(t)
		if res := b.login(day, "alice"); res.Cookies()[0].MaxAge != 24*3600 {
			t.Errorf("Max-Age %d, want a day", res.Cookies()[0].MaxAge)
		}
		time.Sleep(time.Minute)
		if res := b.update(hour, func(s *Session) { s.Flash = "x" }); res.Cookies()[0].MaxAge != 3540 {
			t.Errorf("Max-Age %d, want 59 minutes", res.Cookies()[0].MaxAge)
		}
	})
}

func TestMaxAgeIsRoundedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, mustRing(t), sealed.Config[Session]{Lifetime: time.Hour, IdleTimeout: time.Hour, Persistent: true})
		b := newBrowser(t)
		b.login(m, "alice")
		time.Sleep(30 * time.Minute)
		b.get(m)
		time.Sleep(30*time.Minute - 1500*time.Millisecond)
		if res := b.update(m, func(s *Session) { s.Flash = "y" }); res.Cookies()[0].MaxAge != 2 {
			t.Errorf("1.5 s left: Max-Age %d, want 2", res.Cookies()[0].MaxAge)
		}
	})
}

func TestUpdateAfterTheEndIsAnErrorAndLeavesTheCookie(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, mustRing(t), sealed.Config[Session]{Lifetime: time.Hour, IdleTimeout: time.Hour, Persistent: true})
		b := newBrowser(t)
		b.login(m, "alice")
		time.Sleep(time.Hour - 1500*time.Millisecond)
		res := b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
			m.Get(r.Context())
			time.Sleep(time.Minute)
			if err := m.Update(r.Context(), func(s *Session) { s.Flash = "late" }); !errors.Is(err, sealed.ErrExpired) {
				t.Errorf("Update: %v, want ErrExpired", err)
			}
			if i, err := m.Info(r.Context()); err != nil || i.LastUsed.After(i.Expires) {
				t.Errorf("used after its end: %+v, %v", i, err)
			}
		})
		if setsCookie(res) {
			t.Errorf("the cookie was touched: %q", res.Header["Set-Cookie"])
		}
	})
}
