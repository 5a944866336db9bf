package sealed_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/sealed"
)

func TestEventFields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rec recorder
		list := &fakeList{}
		type ctxKey struct{}
		m, f, ring := mustForge(t, sealed.Config[Session]{Subject: user, Revocations: list, Cookie: sealed.Cookie{MaxChunks: 3},
			Observe: func(ctx context.Context, e sealed.Event) {
				if ctx.Value(ctxKey{}) == nil && e.Bytes != 1 {
					t.Errorf("%v: not the request's context", e.Kind)
				}
				rec.observe(ctx, e)
			}})
		keyID := ring.Keys()[0].ID
		visit := func(cookie string, h func(http.ResponseWriter, *http.Request)) *http.Response {
			r := httptest.NewRequestWithContext(context.WithValue(t.Context(), ctxKey{}, 1), "GET", "/", nil)
			if cookie != "" {
				r.Header.Set("Cookie", cookie)
			}
			w := httptest.NewRecorder()
			m.Handler(http.HandlerFunc(h)).ServeHTTP(w, r)
			return w.Result()
		}
		read := func(_ http.ResponseWriter, r *http.Request) { m.Get(r.Context()) }
		id := sealed.ID{7}
		cookie := name + "=" + f.token(plaintext(t, id, time.Now().UnixMilli(), 0, hourMs, Session{User: "alice"}), name, "")

		visit(name+"="+f.token(plaintext(t, id, 1, 0, 2, Session{}, map[int]any{1: true}), name, ""), read)
		if e := rec.events[0]; e.KeyID != keyID || !errors.Is(e.Err, sealed.ErrInvalid) {
			t.Errorf("undecodable: %+v", e)
		}
		rec.want(t, "an extension", "rejected undecodable")

		visit(name+"="+f.token(nil, name, ""), read)
		rec.want(t, "an empty record", "rejected undecodable")

		// The fifth cookie of the name is counted, with its error.
		five := strings.Repeat(name+"=x; ", 4) + name + "=x"
		visit(five, read)
		if e := rec.events[4]; e.Reason != "duplicate" || !errors.Is(e.Err, sealed.ErrInvalid) {
			t.Errorf("the fifth: %+v", e)
		}
		rec.take()

		// Failing list: which session, and why; late change: why.
		down := errors.New("down")
		list.revokes(down)
		visit(cookie, func(w http.ResponseWriter, r *http.Request) {
			m.Renew(r.Context())
			w.WriteHeader(200)
			m.Renew(r.Context())
		})
		if e := rec.events[1]; e.ID != id || !errors.Is(e.Err, down) {
			t.Errorf("revocation failed: %+v", e)
		}
		if e := rec.events[2]; !errors.Is(e.Err, sealed.ErrCommitted) {
			t.Errorf("late change: %+v", e)
		}
		rec.want(t, "failing", "opened", "revocation failed", "late change")
		list.revokes(nil)

		// Renewed: the new ID. Sealed once, though the handler writes.
		var next sealed.ID
		visit(cookie, func(w http.ResponseWriter, r *http.Request) {
			m.Renew(r.Context())
			info, _ := m.Info(r.Context())
			next = info.ID
			w.Write([]byte("x"))
		})
		if e := rec.events[1]; e.ID != next || next == id {
			t.Errorf("renewed: %+v, want %v", e, next)
		}
		rec.want(t, "renewed", "opened", "renewed", "sealed")

		visit(cookie, func(_ http.ResponseWriter, r *http.Request) { m.Destroy(r.Context()) })
		if e := rec.events[1]; e.ID != id {
			t.Errorf("destroyed: %+v", e)
		}
		rec.want(t, "destroyed", "opened", "destroyed")

		// The bytes of all lines.
		res := visit("", func(_ http.ResponseWriter, r *http.Request) {
			m.Update(r.Context(), func(s *Session) { s.Flash = strings.Repeat("x", 5000) })
		})
		if got, want := rec.events[0].Bytes, len(strings.Join(res.Header["Set-Cookie"], "")); got != want || len(res.Header["Set-Cookie"]) < 2 {
			t.Errorf("sealed %d bytes, want %d", got, want)
		}
		rec.take()
	})
	// Seal's event.
	var rec recorder
	ring := mustRing(t)
	m := mustNew(t, ring, sealed.Config[Session]{Observe: rec.observe})
	if _, err := ring.Rotate(0); err != nil {
		t.Fatal(err)
	}
	token, _ := m.Seal(Session{User: "alice"})
	_, info, err := m.Open(t.Context(), token)
	if e := rec.events[0]; err != nil || e.ID != info.ID || e.KeyID != info.KeyID || info.KeyID != ring.Keys()[0].ID || e.KeyID == "" {
		t.Errorf("Seal: %+v, %+v, %v", e, info, err)
	}
}
