package e2e_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/coder/websocket"
	gorilla "github.com/gorilla/websocket"
	xnet "golang.org/x/net/websocket"

	"example.com/sealed"
	"example.com/sealed/sealedtest"
)

type session struct {
	User string `cbor:"1,keyasint,omitempty"`
}

// upgrades are the libraries that people use, each as a handler that echoes one message.
// Those of gorilla and golang.org/x/net write the 101 to the connection themselves.
var upgrades = map[string]func(t *testing.T, w http.ResponseWriter, r *http.Request){
	"coder": func(t *testing.T, w http.ResponseWriter, r *http.Request) {
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
	},
	"gorilla, without headers": func(t *testing.T, w http.ResponseWriter, r *http.Request) { echoGorilla(t, w, r, nil) },
	"gorilla, with a header of its own": func(t *testing.T, w http.ResponseWriter, r *http.Request) {
		echoGorilla(t, w, r, http.Header{"X-Own": {"1"}, "Set-Cookie": {"other=1"}})
	},
	"gorilla, with the writer's headers": func(t *testing.T, w http.ResponseWriter, r *http.Request) { echoGorilla(t, w, r, w.Header()) },
	"golang.org/x/net": func(t *testing.T, w http.ResponseWriter, r *http.Request) {
		xnet.Server{Handler: func(conn *xnet.Conn) {
			var message string
			if err := xnet.Message.Receive(conn, &message); err != nil {
				t.Error(err)
			}
			if err := xnet.Message.Send(conn, "echo "+message); err != nil {
				t.Error(err)
			}
			io.Copy(io.Discard, conn)
		}}.ServeHTTP(w, r)
	},
}

func echoGorilla(t *testing.T, w http.ResponseWriter, r *http.Request, header http.Header) {
	upgrader := gorilla.Upgrader{}
	conn, err := upgrader.Upgrade(w, r, header)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	kind, message, err := conn.ReadMessage()
	if err != nil {
		t.Error(err)
	}
	if err := conn.WriteMessage(kind, append([]byte("echo "), message...)); err != nil {
		t.Error(err)
	}
	conn.ReadMessage() // until the client closes it
}

// The handshake carries the cookie, once, and the connection works, over TCP and TLS.
func TestWebSocketLibraries(t *testing.T) {
	for name, upgrade := range upgrades {
		for _, secure := range []bool{false, true} {
			for what, change := range map[string]func(*sealed.Manager[session], *http.Request) error{
				"Update": func(m *sealed.Manager[session], r *http.Request) error {
					return m.Update(r.Context(), func(s *session) { s.User = "bob" })
				},
				"Renew": func(m *sealed.Manager[session], r *http.Request) error { return m.Renew(r.Context()) },
				"":      func(*sealed.Manager[session], *http.Request) error { return nil },
			} {
				t.Run(name+" "+what, func(t *testing.T) {
					m := sealedtest.Manager(t, sealed.Config[session]{Subject: func(s session) string { return s.User }})
					h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						if err := change(m, r); err != nil {
							t.Error(err)
						}
						upgrade(t, w, r)
					}))
					server := httptest.NewUnstartedServer(h)
					if secure {
						server.StartTLS()
					} else {
						server.Start()
					}
					defer server.Close()
					want := map[string]string{"Update": "bob", "Renew": "alice"}[what]
					dial(t, m, server, want, name == "gorilla, with a header of its own")
				})
			}
		}
	}
}

// dial upgrades a connection with alice's cookie, checks whose session the response's
// cookie holds, if any, and that the connection echoes.
func dial(t *testing.T, m *sealed.Manager[session], server *httptest.Server, want string, other bool) {
	t.Helper()
	header := http.Header{"Origin": {server.URL}}
	for _, c := range sealedtest.Cookies(t, m, session{User: "alice"}) {
		header.Add("Cookie", c.Name+"="+c.Value)
	}
	conn, res, err := websocket.Dial(t.Context(), server.URL, &websocket.DialOptions{HTTPHeader: header, HTTPClient: server.Client()})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	var own []*http.Cookie
	others := 0
	for _, c := range res.Cookies() {
		if c.Name == "other" {
			others++
		} else {
			own = append(own, c)
		}
	}
	if (others == 1) != other {
		t.Errorf("%d cookies of the handler's own", others)
	}
	switch {
	case want == "" && len(own) > 0, want != "" && len(own) != 1:
		t.Errorf("Set-Cookie %q, want one of %q", res.Header["Set-Cookie"], want)
	case want != "":
		if s, err := sealedtest.Get(t, m, own); err != nil || s.User != want {
			t.Errorf("the handshake's cookie holds %+v, %v, want %s", s, err, want)
		}
	}
	if err := conn.Write(t.Context(), websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, got, err := conn.Read(t.Context()); err != nil || string(got) != "echo hello" {
		t.Errorf("got %q, %v", got, err)
	}
	conn.Close(websocket.StatusNormalClosure, "")
}
