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
	"example.com/sealed/internal/mutation"
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

// What commits late, and losses that only one of the marks in a cursor can tell.
func TestLateAndLost(t *testing.T) {
	server, p, s := start(t)

	// Of two transactions, the first to write is the last to commit.
	slow, err := p.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Rollback(context.Background())
	if err := s.RevokeTx(t.Context(), slow, revocation(1)); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(t.Context(), []sealed.Revocation{revocation(2)}); err != nil {
		t.Fatal(err)
	}
	ids, cursor, err := readAll(t, s, "")
	if err != nil || len(ids) != 1 || ids[0] != (sealed.ID{2, 1}) {
		t.Fatalf("before the first commits: %v, %v", ids, err)
	}
	if err := slow.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ids, cursor, err = readAll(t, s, cursor); err != nil || len(ids) != 1 || ids[0] != (sealed.ID{1, 1}) {
		t.Errorf("after the first has committed: %v, %v, want that one", ids, err)
	}

	// A backup is restored, and time goes on until nothing else shows it.
	server.Kill()
	backup := server.Copy()
	server.Restart()
	retry(t, func() error { return s.Append(t.Context(), []sealed.Revocation{revocation(3)}) })
	if ids, cursor, err = readAll(t, s, cursor); err != nil || len(ids) != 1 {
		t.Fatalf("after a crash: %v, %v", ids, err)
	}
	server.Kill()
	server.Restore(backup)
	server.Restart()
	for n := range byte(20) {
		retry(t, func() error { return s.Append(t.Context(), []sealed.Revocation{revocation(10 + n)}) })
	}
	if _, _, err := readAll(t, s, cursor); !errors.Is(err, revoke.ErrGap) {
		t.Errorf("after a backup was restored: %v, want ErrGap", err)
	}

	// A standby is promoted that has everything, and gives numbers of transactions that
	// the old server has given to others.
	if _, cursor, err = readAll(t, s, ""); err != nil {
		t.Fatal(err)
	}
	standby := server.Standby(server.Addr)
	server.Kill()
	standby.Promote()
	after := connect(t, standby, standby.Addr, pgstore.Config{})
	if err := after.Append(t.Context(), []sealed.Revocation{revocation(40)}); err != nil {
		t.Fatal(err)
	}
	if ids, cursor, err = readAll(t, after, cursor); err != nil || len(ids) != 1 || ids[0] != (sealed.ID{40, 1}) {
		t.Errorf("after a promotion: %v, %v, want the new one", ids, err)
	}
	execSQL(t, standby, "VACUUM FULL sealed_revocations")
	if ids, _, err = readAll(t, after, cursor); err != nil || len(ids) != 0 {
		t.Errorf("after VACUUM FULL: %v, %v", ids, err)
	}
	execSQL(t, standby, "TRUNCATE sealed_revocations")
	if _, _, err := readAll(t, after, cursor); !errors.Is(err, revoke.ErrGap) {
		t.Errorf("after TRUNCATE: %v, want ErrGap", err)
	}
}

// Rows that are lost one by one, as by a server that had not all of them yet. A loss is
// that of a fence: the last row, what was found with it, and what is needed longest.
func TestLostRows(t *testing.T) {
	server, p, s := start(t)
	long := sealed.Revocation{ID: sealed.ID{9, 9}, Until: time.Now().Add(30 * 24 * time.Hour)}
	if err := s.Append(t.Context(), []sealed.Revocation{long}); err != nil {
		t.Fatal(err)
	}
	_, cursor, err := readAll(t, s, "")
	if err != nil {
		t.Fatal(err)
	}
	for n := range byte(3) { // found together, and the first is the last to commit
		err := pgx.BeginFunc(t.Context(), p, func(tx pgx.Tx) error {
			if err := s.RevokeTx(t.Context(), tx, revocation(10*n+1)); err != nil {
				return err
			}
			return s.Append(t.Context(), []sealed.Revocation{revocation(10*n + 2)})
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, cursor, err = readAll(t, s, cursor); err != nil {
			t.Fatal(err)
		}
		var which string
		switch n {
		case 0:
			which = "DELETE FROM sealed_revocations WHERE xid = (SELECT xid FROM sealed_revocations ORDER BY xid DESC OFFSET 1 LIMIT 1)"
		case 1:
			which = "UPDATE sealed_revocations SET mark = mark + 1 WHERE xid = (SELECT max(xid) FROM sealed_revocations)"
		case 2:
			which = "DELETE FROM sealed_revocations WHERE until > now() + interval '1 day'"
		}
		execSQL(t, server, which)
		if _, _, err := readAll(t, s, cursor); !errors.Is(err, revoke.ErrGap) {
			t.Errorf("after %s: %v, want ErrGap", which, err)
		}
		if _, cursor, err = readAll(t, s, ""); err != nil {
			t.Fatal(err)
		}
	}
}

// The last row is a fence also when it has expired: below it no number is given again.
func TestLostLastRowThatHasExpired(t *testing.T) {
	server, _, s := start(t)
	if err := s.Append(t.Context(), []sealed.Revocation{revocation(1)}); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(t.Context(), []sealed.Revocation{{ID: sealed.ID{2}, Until: time.Now().Add(-3 * time.Hour)}}); err != nil {
		t.Fatal(err)
	}
	_, cursor, err := readAll(t, s, "")
	if err != nil {
		t.Fatal(err)
	}
	execSQL(t, server, "DELETE FROM sealed_revocations WHERE until < now()")
	if _, _, err := readAll(t, s, cursor); !errors.Is(err, revoke.ErrGap) {
		t.Errorf("%v, want ErrGap", err)
	}
}

// A row that is found late is a fence, together with what came in the meantime.
func TestLostLateRow(t *testing.T) {
	server, p, s := start(t)
	slow, err := p.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Rollback(context.Background())
	if err := s.RevokeTx(t.Context(), slow, revocation(1)); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(t.Context(), []sealed.Revocation{revocation(2)}); err != nil {
		t.Fatal(err)
	}
	_, cursor, err := readAll(t, s, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := slow.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(t.Context(), []sealed.Revocation{revocation(3)}); err != nil {
		t.Fatal(err)
	}
	ids, cursor, err := readAll(t, s, cursor)
	if err != nil || len(ids) != 2 {
		t.Fatalf("%v, %v, want the late one and the new one", ids, err)
	}
	execSQL(t, server, "DELETE FROM sealed_revocations WHERE xid = (SELECT min(xid) FROM sealed_revocations)")
	if _, _, err := readAll(t, s, cursor); !errors.Is(err, revoke.ErrGap) {
		t.Errorf("without the late one: %v, want ErrGap", err)
	}
}

// retry tries for a while: a pool has to find out that its connections are dead.
func retry(t *testing.T, try func() error) {
	t.Helper()
	var err error
	for range 20 {
		if err = try(); err == nil {
			return
		}
	}
	t.Fatal(err)
}

// The tests of losses fail when what they test is taken out.
func TestMutations(t *testing.T) {
	mutation.Catch(t, "TestLateAndLost|TestLostRows|TestLostLateRow", mutation.Mutations{
		"a cursor by number":          {{"c.Open = openBefore(a.snapshot, c.Last.Xid)", "c.Open = nil"}},
		"no fence":                    {{"case a.missing:", "case a.missing && false:"}},
		"a fence by number":           {{" AND r.mark = f.mark", ""}},
		"what comes late is none":     {{"c.found(a.late)\n", ""}, {"a.late.revocations...)", "a.late.revocations...)\n_ = len(a.late.fences)"}},
		"the last row is the fence":   {{"append(append(all, *c.Last), c.Others...)", "append(all, *c.Last)"}},
		"what is needed long is none": {{"all = append(all, *c.Longest)", ""}},
	})
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
	if err := s.RevokeTx(t.Context(), nil, sealed.Revocation{}); err == nil {
		t.Error("RevokeTx of nothing in particular")
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
