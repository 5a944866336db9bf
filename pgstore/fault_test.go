package pgstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/sealed"
	"example.com/sealed/internal/faulttest"
	"example.com/sealed/internal/testserver"
	"example.com/sealed/pgstore"
	"example.com/sealed/revoke"
)

// faults is what can happen to a PostgreSQL server.
func faults(t *testing.T, server *testserver.Postgres) []faulttest.Fault {
	migrate := func(s *testserver.Postgres) {
		mustMigrate(t, connect(t, s, s.Addr, pgstore.Config{}))
	}
	return []faulttest.Fault{
		faulttest.New("killed, and restarted with its data", func(w *faulttest.World) {
			server.Kill()
			time.Sleep(faulttest.Bound)
			server.Restart()
		}, revoke.EventFailed),
		faulttest.New("killed, and restarted without", func(w *faulttest.World) {
			w.Lose(func() {
				server.Kill()
				server.Forget()
				server.Restart()
				migrate(server)
			})
		}, faulttest.Restored...),
		faulttest.New("killed, and restored from a backup", func(w *faulttest.World) {
			server.Kill()
			backup := server.Copy()
			server.Restart()
			time.Sleep(time.Second)
			w.Lose(func() {
				server.Kill()
				server.Restore(backup)
				server.Restart()
			})
		}, faulttest.Restored...),
		faulttest.New("stopped for twice the bound", func(w *faulttest.World) {
			server.Stop()
			time.Sleep(2 * faulttest.Bound)
			server.Continue()
		}, faulttest.Stale...),
		faulttest.New("truncated", func(w *faulttest.World) {
			w.Lose(func() { execSQL(t, server, "TRUNCATE sealed_revocations") })
		}, faulttest.Restored...),
		faulttest.New("truncated behind the back of one that is cut off", func(w *faulttest.World) {
			w.Proxies[0].Set(testserver.BlackHole)
			time.Sleep(faulttest.Bound)
			w.Lose(func() { execSQL(t, server, "TRUNCATE sealed_revocations") })
		}, faulttest.Restored...),
		faulttest.New("a write transaction held open", func(w *faulttest.World) {
			conn, err := pgx.Connect(t.Context(), server.URL(server.Addr))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.Background())
			held, err := conn.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			s := connect(t, server, server.Addr, pgstore.Config{})
			if err := s.RevokeTx(t.Context(), held, sealed.Revocation{ID: sealed.ID{0xff}, Until: time.Now().Add(time.Hour)}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * faulttest.Bound)
			if err := held.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.Acknowledged(sealed.ID{0xff})
		}),
		faulttest.New("a standby promoted that lacks what was acknowledged", func(w *faulttest.World) {
			replication := testserver.NewProxy(t, server.Addr)
			standby := server.Standby(replication.Addr)
			replication.Set(testserver.BlackHole)
			time.Sleep(time.Second)
			w.Lose(func() {
				w.All(testserver.Refuse)
				server.Kill()
				standby.Promote()
				for _, p := range w.Proxies {
					p.Retarget(standby.Addr)
				}
			})
		}, faulttest.Restored...),
	}
}

// Three replicas follow the log on a real server while that, or the network, fails.
func TestFaults(t *testing.T) {
	few := make(chan struct{}, 4) // servers at once
	for n, fault := range append(faults(t, nil), faulttest.Network()...) {
		t.Run(fault.Name, func(t *testing.T) {
			t.Parallel()
			few <- struct{}{}
			defer func() { <-few }()
			server := testserver.StartPostgres(t)
			if own := faults(t, server); n < len(own) {
				fault = own[n]
			}
			mustMigrate(t, connect(t, server, server.Addr, pgstore.Config{}))
			faulttest.Run(t, server.Addr, func(t *testing.T, addr string) revoke.Log {
				return connect(t, server, addr, pgstore.Config{})
			}, fault)
		})
	}
}
