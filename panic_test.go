package sealed_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"example.com/sealed"
)

// A function of the application that panics takes its request with it, as any panic does:
// it leaves no lock behind, for which the request, or another call of it, would wait for ever.
func TestPanicInAFunctionOfTheApplication(t *testing.T) {
	var armed atomic.Value
	armed.Store("")
	boom := func(who string) {
		if armed.CompareAndSwap(who, "") {
			panic("oops")
		}
	}
	list := &fakeList{
		check:  func(context.Context, sealed.Info) error { boom("Check"); return nil },
		revoke: func(context.Context, sealed.Revocation) error { boom("Revoke"); return nil },
	}
	m := mustNew(t, mustRing(t), sealed.Config[Session]{
		Subject:     func(s Session) string { boom("Subject"); return s.User },
		TermsFor:    func(Session) sealed.Terms { boom("TermsFor"); return sealed.Terms{} },
		Observe:     func(context.Context, sealed.Event) { boom("Observe") },
		Revocations: list,
	})
	b := newBrowser(t)
	b.login(m, "alice")
	update := func(ctx context.Context) { // with nothing that panics
		who := armed.Swap("")
		m.Update(ctx, func(s *Session) { s.Flash += "x" })
		armed.Store(who)
	}
	calls := map[string]func(http.ResponseWriter, context.Context){
		"Get":           func(_ http.ResponseWriter, ctx context.Context) { m.Get(ctx) },
		"Peek":          func(_ http.ResponseWriter, ctx context.Context) { m.Peek(ctx) },
		"Info":          func(_ http.ResponseWriter, ctx context.Context) { m.Info(ctx) },
		"Verify":        func(_ http.ResponseWriter, ctx context.Context) { m.Verify(ctx) },
		"Update":        func(_ http.ResponseWriter, ctx context.Context) { m.Update(ctx, func(s *Session) { s.Flash += "x" }) },
		"Renew":         func(_ http.ResponseWriter, ctx context.Context) { m.Renew(ctx) },
		"Destroy":       func(_ http.ResponseWriter, ctx context.Context) { m.Destroy(ctx) },
		"RevokeSubject": func(_ http.ResponseWriter, ctx context.Context) { m.RevokeSubject(ctx, "alice") },
		"the commit": func(w http.ResponseWriter, ctx context.Context) {
			update(ctx)
			w.WriteHeader(http.StatusOK)
		},
		"Unwrap": func(w http.ResponseWriter, ctx context.Context) {
			update(ctx)
			w.(interface{ Unwrap() http.ResponseWriter }).Unwrap()
		},
	}
	panicked := map[string]bool{}
	for _, who := range []string{"Subject", "TermsFor", "Observe", "Check", "Revoke"} {
		for name, call := range calls {
			done := make(chan struct{})
			go func() {
				defer close(done)
				b.clone().visit(m, func(w http.ResponseWriter, r *http.Request) {
					func() {
						defer func() {
							if recover() != nil {
								panicked[who] = true
							}
						}()
						armed.Store(who)
						call(w, r.Context())
					}()
					armed.Store("")
					m.Verify(r.Context())
				})
			}()
			select {
			case <-done:
			case <-time.After(10 * time.Second):
				t.Fatalf("%s panics in %s: the request hangs", who, name)
			}
		}
		if !panicked[who] {
			t.Errorf("%s was never called", who)
		}
	}
}
