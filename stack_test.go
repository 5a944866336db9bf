package sealed_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/debug"
	"testing"
	"unsafe"

	"example.com/sealed"
)

// Whoever uses a session on a new goroutine, as net/http starts one for each request over
// HTTP/2, has its stack grow once, and before there is much on it to be moved.
func TestStackGrowsOnce(t *testing.T) {
	m := mustNew(t, mustRing(t), sealed.Config[reference]{})
	b := newBrowser(t)
	b.visit(m, func(_ http.ResponseWriter, r *http.Request) {
		if err := m.Update(r.Context(), func(s *reference) { *s = referenceSession() }); err != nil {
			t.Error(err)
		}
	})
	cookie := b.cookie()
	runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection may halve a stack, which moves it, too
	for name, use := range map[string]func(context.Context) error{
		"Get":    func(ctx context.Context) error { _, err := m.Get(ctx); return err },
		"Update": func(ctx context.Context) error { return m.Update(ctx, func(s *reference) { s.Cart[0].Qty++ }) },
	} {
		// distance is that on the stack from the handler to where the session was looked for.
		// If the stack has moved since, it is another one.
		var distance uintptr
		h := m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			var here byte
			probe := stackProbe{Context: r.Context()}
			if err := use(&probe); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			distance = uintptr(unsafe.Pointer(&here)) - probe.at
		}))
		serve := func() uintptr {
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Cookie", cookie)
			h.ServeHTTP(httptest.NewRecorder(), r)
			return distance
		}
		serve() // what is made once for the type is there
		stays := make(chan bool)
		go func() {
			first := serve()
			stays <- serve() == first
		}()
		if !<-stays {
			t.Errorf("%s: the stack has grown after the session was looked for", name)
		}
	}
}

// A stackProbe notes where on the stack it is first asked for a value.
type stackProbe struct {
	context.Context
	at uintptr
}

func (p *stackProbe) Value(key any) any {
	if p.at == 0 {
		var here byte
		p.at = uintptr(unsafe.Pointer(&here))
	}
	return p.Context.Value(key)
}
