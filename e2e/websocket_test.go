package e2e_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/coder/websocket"

	"example.com/sealed"
	"example.com/sealed/sealedtest"
)

type session struct {
	User string `cbor:"1,keyasint,omitempty"`
}

// The handshake of a real WebSocket library carries the cookie, and the
// connection works.
func TestWebSocketLibrary(t *testing.T) {
	m := sealedtest.Manager(t, sealed.Config[session]{})
	server := httptest.NewServer(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := m.Update(r.Context(), func(s *session) { s.User = "alice" }); err != nil {
			t.Error(err)
		}
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.CloseNow()
		kind, message, err := conn.Read(r.Context())
		if err != nil {
			t.Error(err)
		}
		if err := conn.Write(r.Context(), kind, append([]byte("echo "), message...)); err != nil {
			t.Error(err)
		}
		conn.Close(websocket.StatusNormalClosure, "")
	})))
	defer server.Close()
	ctx := context.Background()
	conn, res, err := websocket.Dial(ctx, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	if s, err := sealedtest.Get(t, m, res.Cookies()); err != nil || s.User != "alice" {
		t.Errorf("the handshake's cookie holds %+v, %v", s, err)
	}
	if err := conn.Write(ctx, websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, got, err := conn.Read(ctx); err != nil || string(got) != "echo hello" {
		t.Errorf("got %q, %v", got, err)
	}
}
