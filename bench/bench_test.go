package bench

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"example.com/sealed/internal/testserver"
)

// A sink is a ResponseWriter that costs as little as one can.
type sink struct{ header http.Header }

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) Write(b []byte) (int, error) { return len(b), nil }
func (s *sink) WriteHeader(int)             {}

// BenchmarkInProcess measures one request of a visitor who is logged in, without a
// network before the application.
func BenchmarkInProcess(b *testing.B) {
	redis, postgres := testserver.StartRedis(b), testserver.StartPostgres(b)
	servers := Servers{Redis: redis.Addr, Postgres: postgres.URL(postgres.Addr)}
	for _, c := range Contenders {
		sessions, end, err := c.Open(b.Context(), servers)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(end)
		handler := NewHandler(sessions)
		login := httptest.NewRecorder()
		handler.ServeHTTP(login, httptest.NewRequest("POST", "https://shop.example/login", nil))
		for _, op := range []struct{ name, method string }{{"untouched", "GET"}, {"read", "GET"}, {"change", "POST"}} {
			b.Run(c.Name+"/"+op.name, func(b *testing.B) {
				r := httptest.NewRequest(op.method, "https://shop.example/"+op.name, nil)
				for _, cookie := range login.Result().Cookies() {
					r.AddCookie(cookie)
				}
				w := &sink{http.Header{}}
				b.ReportAllocs()
				for b.Loop() {
					clear(w.header)
					handler.ServeHTTP(w, r.WithContext(b.Context())) // a request of its own, for those that keep things in it
				}
			})
		}
	}
}
