package pgstore_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/sealed"
	"example.com/sealed/internal/testserver"
	"example.com/sealed/keystore"
	"example.com/sealed/keystore/keystoretest"
	"example.com/sealed/pgstore"
	"example.com/sealed/revoke"
	"example.com/sealed/revoke/revoketest"
)

func pool(t testing.TB, url string) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	config.MaxConns = 4
	p, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func connect(t testing.TB, server *testserver.Postgres, addr string, config pgstore.Config) *pgstore.Store {
	t.Helper()
	s, err := pgstore.New(pool(t, server.URL(addr)), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// start starts a server, and opens a store on it with the pool of a caller.
func start(t *testing.T) (*testserver.Postgres, *pgxpool.Pool, *pgstore.Store) {
	t.Helper()
	server := testserver.StartPostgres(t)
	p := pool(t, server.URL(server.Addr))
	s, err := pgstore.New(p, pgstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return server, p, mustMigrate(t, s)
}

func mustMigrate(t testing.TB, s *pgstore.Store) *pgstore.Store {
	t.Helper()
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// A suite gives each subtest tables of its own on one server.
type suite struct {
	server *testserver.Postgres
	last   *testing.T
	pool   *pgxpool.Pool // of the subtest
	n      int
}

func (s *suite) open(t *testing.T) *pgstore.Store {
	t.Helper()
	if t != s.last {
		s.n++
		s.last, s.pool = t, pool(t, s.server.URL(s.server.Addr))
	}
	store, err := pgstore.New(s.pool, pgstore.Config{Prefix: s.prefix()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return mustMigrate(t, store)
}

func (s *suite) prefix() string { return "t" + strings.Repeat("x", s.n) }

func TestKeystoreContract(t *testing.T) {
	s := &suite{server: testserver.StartPostgres(t)}
	keystoretest.Run(t, func(t *testing.T) keystore.Store { return s.open(t) })
}

func execSQL(t *testing.T, server *testserver.Postgres, sql string) {
	t.Helper()
	ctx := soon(t) // it may wait for others
	conn, err := pgx.Connect(ctx, server.URL(server.Addr))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(ctx, sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func TestLogContract(t *testing.T) {
	s := &suite{server: testserver.StartPostgres(t)}
	revoketest.Run(t, func(t *testing.T) revoke.Log { return s.open(t) }, map[string]func(*testing.T, revoke.Log){
		"the table was truncated": func(t *testing.T, _ revoke.Log) {
			execSQL(t, s.server, "TRUNCATE "+s.prefix()+"_revocations")
		},
		"its last rows are gone": func(t *testing.T, _ revoke.Log) {
			table := s.prefix() + "_revocations"
			execSQL(t, s.server, "DELETE FROM "+table+" WHERE (xid, ord) IN (SELECT xid, ord FROM "+table+" ORDER BY xid DESC LIMIT 10)")
		},
		"no data after a restart": func(t *testing.T, _ revoke.Log) {
			s.server.Kill()
			s.server.Forget()
			s.server.Restart()
			s.pool.Reset()
			s.open(t)
		},
	})
}

func revocation(n byte) sealed.Revocation {
	return sealed.Revocation{ID: sealed.ID{n, 1}, Until: time.Now().Add(time.Hour)}
}

// readAll reads to the end, and returns what it found.
func readAll(t *testing.T, l revoke.Log, cursor string) (ids []sealed.ID, next string, err error) {
	t.Helper()
	for {
		page, err := l.Read(t.Context(), cursor)
		if err != nil {
			return nil, cursor, err
		}
		for _, v := range page.Revocations {
			ids = append(ids, v.ID)
		}
		if cursor = page.Cursor; !page.More {
			return ids, cursor, nil
		}
	}
}

func TestMigrateAtOnce(t *testing.T) {
	server := testserver.StartPostgres(t)
	var all sync.WaitGroup
	for range 8 {
		s := connect(t, server, server.Addr, pgstore.Config{})
		all.Go(func() {
			for range 2 {
				if err := s.Migrate(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

func TestNew(t *testing.T) {
	for _, prefix := range []string{"A", "a-b", "a;drop table x", "1a", strings.Repeat("a", 31), "é", "a%s"} {
		if _, err := pgstore.New(new(pgxpool.Pool), pgstore.Config{Prefix: prefix}); err == nil {
			t.Errorf("New accepts the prefix %q", prefix)
		}
	}
	if _, err := pgstore.New(nil, pgstore.Config{}); err == nil {
		t.Error("New accepts no pool")
	}
}

// Without its tables the store says so.
func TestNotMigrated(t *testing.T) {
	server := testserver.StartPostgres(t)
	s := connect(t, server, server.Addr, pgstore.Config{})
	if _, err := s.Read(t.Context(), ""); err == nil || errors.Is(err, revoke.ErrGap) || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("Read: %v", err)
	}
	if err := s.Append(t.Context(), []sealed.Revocation{revocation(1)}); err == nil {
		t.Error("Append has succeeded")
	}
	if _, _, err := s.Load(t.Context()); err == nil {
		t.Error("Load has succeeded")
	}
}

// A revocation goes with the caller's transaction, and with nothing else.
func TestRevokeTx(t *testing.T) {
	server, p, s := start(t)
	r, err := revoke.Follow(s, revoke.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close(context.Background()) })
	if err := r.Ready(soon(t)); err != nil {
		t.Fatal(err)
	}
	execSQL(t, server, "CREATE TABLE users (name text PRIMARY KEY, password text)")
	before := time.Now()
	alice := sealed.Revocation{Subject: "alice", Before: before, Until: before.Add(400 * 24 * time.Hour)}
	info := sealed.Info{ID: sealed.ID{1}, Subject: "alice", Created: before.Add(-time.Minute)}
	failed := errors.New("the caller changes its mind")
	for _, want := range []error{failed, nil} {
		err := pgx.BeginFunc(t.Context(), p, func(tx pgx.Tx) error {
			if _, err := tx.Exec(t.Context(), "INSERT INTO users VALUES ('alice', 'new')"); err != nil {
				return err
			}
			if err := s.RevokeTx(t.Context(), tx, alice); err != nil {
				return err
			}
			return want
		})
		if !errors.Is(err, want) {
			t.Fatal(err)
		}
		if err := r.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := r.Check(t.Context(), info); (want == nil) != errors.Is(err, sealed.ErrRevoked) {
			t.Errorf("with the transaction's end %v: %v", want, err)
		}
	}
	for _, v := range []sealed.Revocation{{}, {ID: sealed.ID{1}}, {Subject: "alice", Until: time.Now().Add(time.Hour)}} {
		err := pgx.BeginFunc(t.Context(), p, func(tx pgx.Tx) error {
			if err := s.RevokeTx(t.Context(), tx, v); err == nil {
				t.Errorf("RevokeTx takes %+v, which no replica could read", v)
			}
			_, err := tx.Exec(t.Context(), "UPDATE users SET password = 'newer'")
			return err
		})
		if err != nil {
			t.Errorf("after RevokeTx of %+v the transaction cannot go on: %v", v, err)
		}
	}
}

// A write transaction that is held open keeps nobody from revoking, from hearing of
// it, or from pruning.
func TestHeldTransaction(t *testing.T) {
	_, p, s := start(t)
	if err := s.Append(t.Context(), []sealed.Revocation{{ID: sealed.ID{9}, Until: time.Now().Add(-20 * 24 * time.Hour)}}); err != nil {
		t.Fatal(err)
	}
	held, err := p.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer held.Rollback(context.Background())
	if err := s.RevokeTx(t.Context(), held, revocation(1)); err != nil {
		t.Fatal(err)
	}
	_, cursor, err := readAll(t, s, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for n := range byte(30) { // each in a week of its own
		v := sealed.Revocation{ID: sealed.ID{n, 2}, Until: time.Now().Add(time.Duration(n) * 7 * 24 * time.Hour)}
		if err := s.Append(ctx, []sealed.Revocation{v}); err != nil {
			t.Fatalf("Append for week %d: %v", n, err)
		}
		var ids []sealed.ID
		if ids, cursor, err = readAll(t, s, cursor); err != nil || n > 0 && (len(ids) != 1 || ids[0] != v.ID) {
			t.Fatalf("week %d: read %v, %v, want the new one alone", n, ids, err)
		}
	}
	if err := s.Prune(ctx); err != nil {
		t.Errorf("Prune: %v", err)
	}
	if err := held.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ids, _, err := readAll(t, s, cursor); err != nil || len(ids) != 1 || ids[0] != (sealed.ID{1, 1}) {
		t.Errorf("after it has committed: %v, %v, want its own", ids, err)
	}
	if err := s.Prune(t.Context()); err != nil {
		t.Errorf("Prune: %v", err)
	}
}

// A hint comes at once, over a connection of its own, and again after that was cut.
func TestHints(t *testing.T) {
	server := testserver.StartPostgres(t)
	proxy := testserver.NewProxy(t, server.Addr)
	writer := mustMigrate(t, connect(t, server, server.Addr, pgstore.Config{}))
	s := connect(t, server, proxy.Addr, pgstore.Config{})
	hint := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- s.Wait(ctx, "") }()
		for n := byte(0); ; n++ { // until it listens
			if err := writer.Append(ctx, []sealed.Revocation{revocation(n)}); err != nil {
				return err
			}
			select {
			case err := <-done:
				return err
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	if err := hint(); err != nil {
		t.Errorf("no hint: %v", err)
	}
	proxy.Set(testserver.Refuse)
	if err := hint(); err == nil {
		t.Error("a hint over a connection that was cut")
	}
	proxy.Set(testserver.Pass)
	if err := hint(); err != nil {
		t.Errorf("no hint after the network has come back: %v", err)
	}
	s.Close()
	if err := s.Wait(t.Context(), ""); err == nil {
		t.Error("Wait after Close")
	}
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// onPostgres calls f with the URL of a server that ends with it.
func onPostgres(f func(url string) error) {
	err := testserver.Guard(func(h *testserver.Host) error {
		server := testserver.StartPostgres(h)
		return f(server.URL(server.Addr))
	})
	if err != nil {
		panic(err)
	}
}
