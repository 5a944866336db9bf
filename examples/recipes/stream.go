package recipes

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/coder/websocket"
)

// Events sends what comes from source to those who are logged in, as server-sent events. The
// session is judged every few seconds: a visitor who logs out elsewhere gets no more.
func Events(m *Sessions, every time.Duration, source func(context.Context) <-chan string) http.Handler {
	return RequireLogin(m, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		messages, judge := source(r.Context()), time.NewTicker(every)
		defer judge.Stop()
		for {
			select {
			case <-r.Context().Done():
				return
			case <-judge.C:
				if m.Verify(r.Context()) != nil {
					return
				}
			case message, ok := <-messages:
				if !ok {
					return
				}
				fmt.Fprintf(w, "data: %s\n\n", message)
				if http.NewResponseController(w).Flush() != nil {
					return
				}
			}
		}
	}))
}

// Socket echoes over a WebSocket, and closes it when the session has ended.
func Socket(m *Sessions, every time.Duration) http.Handler {
	return RequireLogin(m, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil) // which refuses other origins
		if err != nil {
			return
		}
		defer conn.CloseNow()
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		go func() {
			judge := time.NewTicker(every)
			defer judge.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-judge.C:
					if m.Verify(r.Context()) != nil {
						conn.Close(websocket.StatusPolicyViolation, "logged out")
						return
					}
				}
			}
		}()
		for {
			kind, message, err := conn.Read(ctx)
			if err != nil || conn.Write(ctx, kind, message) != nil {
				return
			}
		}
	}))
}
