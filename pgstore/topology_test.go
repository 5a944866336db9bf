package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/sealed"
	"example.com/sealed/internal/faulttest"
	"example.com/sealed/internal/testserver"
	"example.com/sealed/pgstore"
	"example.com/sealed/revoke"
)

// storeAs returns a store that connects with other parameters.
func storeAs(t *testing.T, server *testserver.Postgres, addr string, parameters map[string]string) *pgstore.Store {
	t.Helper()
	u, err := url.Parse(server.URL(addr))
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	for name, value := range parameters {
		if name == "user" {
			u.User = url.User(value)
			continue
		}
		q.Set(name, value)
	}
	u.RawQuery = q.Encode()
	p, err := pgxpool.New(t.Context(), u.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	s, err := pgstore.New(p, pgstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// grants is what the documentation has a role granted that does not own the tables.
const grants = `
	GRANT SELECT, INSERT, DELETE, UPDATE ON sealed_revocations TO app;
	GRANT USAGE ON SEQUENCE sealed_revocations_ord TO app;
	GRANT SELECT, UPDATE ON sealed_log TO app;
	GRANT SELECT, INSERT, UPDATE ON sealed_keys TO app;`

// A role that may make no tables does all that an instance does, in a schema of its own,
// whatever the sessions' lengths.
func TestLeastPrivilege(t *testing.T) {
	server := testserver.StartPostgres(t)
	execSQL(t, server, "CREATE SCHEMA site; CREATE ROLE app LOGIN; GRANT USAGE ON SCHEMA site TO app; REVOKE CREATE ON SCHEMA public FROM PUBLIC")
	mustMigrate(t, storeAs(t, server, server.Addr, map[string]string{"search_path": "site"}))
	execSQL(t, server, "SET search_path = site;"+grants)
	connect := func() *pgstore.Store {
		return storeAs(t, server, server.Addr, map[string]string{"user": "app", "search_path": "site"})
	}
	s := connect()
	if err := s.Migrate(t.Context()); err != nil {
		t.Errorf("Migrate, when there is nothing to do: %v", err)
	}
	a, b := faulttest.Follow(t, s, revoke.Policy{}), faulttest.Follow(t, connect(), revoke.Policy{})
	for n, lasts := range []time.Duration{time.Hour, 14 * 24 * time.Hour, 400 * 24 * time.Hour} {
		v := sealed.Revocation{ID: sealed.ID{byte(n), 4}, Until: time.Now().Add(lasts)}
		if err := a.Revoke(t.Context(), v); err != nil {
			t.Errorf("a session that lasts %v: %v", lasts, err)
		}
		if err := b.Refresh(t.Context()); err != nil {
			t.Error(err)
		}
		if err := b.Check(t.Context(), sealed.Info{ID: v.ID}); !errors.Is(err, sealed.ErrRevoked) {
			t.Errorf("a session that lasts %v, on the other instance: %v", lasts, err)
		}
	}
	if err := s.Prune(t.Context()); err != nil {
		t.Error(err)
	}
	version, err := s.Save(t.Context(), []byte("document"), "")
	if err != nil {
		t.Error(err)
	}
	if _, err := s.Save(t.Context(), []byte("document"), version); err != nil {
		t.Error(err)
	}
}

// Through pgbouncer, which gives each transaction another connection.
func TestPgbouncer(t *testing.T) {
	server := testserver.StartPostgres(t)
	mustMigrate(t, connect(t, server, server.Addr, pgstore.Config{}))
	bouncer := server.Pgbouncer(t)
	connect := func() *pgstore.Store {
		return storeAs(t, server, bouncer, map[string]string{"default_query_exec_mode": "exec"})
	}
	a, b := faulttest.Follow(t, connect(), revoke.Policy{}), faulttest.Follow(t, connect(), revoke.Policy{})
	for n := range byte(20) {
		if err := a.Revoke(t.Context(), revocation(n)); err != nil {
			t.Fatal(err)
		}
		if err := b.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := b.Check(t.Context(), sealed.Info{ID: sealed.ID{n, 1}}); !errors.Is(err, sealed.ErrRevoked) {
			t.Errorf("revocation %d: %v", n, err)
		}
	}
	if err := connect().Prune(t.Context()); err != nil {
		t.Error(err)
	}
	// As pgx comes, it prepares statements, which the next connection does not have.
	var err error
	for range 20 {
		if _, err = storeAs(t, server, bouncer, nil).Read(t.Context(), ""); err != nil {
			break
		}
	}
	if err == nil {
		t.Log("this pgbouncer keeps prepared statements (1.21 and newer can)")
	} else if !strings.Contains(err.Error(), "default_query_exec_mode=exec") {
		t.Errorf("with prepared statements: %v, want an error that says what to do", err)
	}
}

// An instance needs two connections, whatever it does at once.
func TestTwoConnections(t *testing.T) {
	server := testserver.StartPostgres(t)
	mustMigrate(t, connect(t, server, server.Addr, pgstore.Config{}))
	r := faulttest.Follow(t, storeAs(t, server, server.Addr, map[string]string{"pool_max_conns": "1", "application_name": "one"}), revoke.Policy{})
	observer := pool(t, server.URL(server.Addr))
	for n := range byte(50) {
		if err := r.Revoke(t.Context(), revocation(n)); err != nil {
			t.Fatal(err)
		}
		var count int
		var what string
		if err := observer.QueryRow(t.Context(), "SELECT count(*), string_agg(state||' '||query, ';') FROM pg_stat_activity WHERE application_name = 'one'").Scan(&count, &what); err != nil || count > 2 {
			t.Fatalf("%d connections, %v: %s", count, err, what)
		}
	}
}

// Reading writes nothing: what a revocation costs does not grow with the instances.
func TestReadingTakesNoTransactionNumbers(t *testing.T) {
	server := testserver.StartPostgres(t)
	mustMigrate(t, connect(t, server, server.Addr, pgstore.Config{}))
	var replicas []*revoke.Replica
	for range 12 {
		replicas = append(replicas, faulttest.Follow(t, storeAs(t, server, server.Addr, map[string]string{"pool_max_conns": "2"}), revoke.Policy{}))
	}
	p := pool(t, server.URL(server.Addr))
	next := func() (n int64) {
		if err := p.QueryRow(t.Context(), "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	const revocations = 60
	before := next()
	for n := range byte(revocations) {
		if err := replicas[int(n)%len(replicas)].Revoke(t.Context(), revocation(n)); err != nil {
			t.Fatal(err)
		}
		for _, r := range replicas {
			if err := r.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if each := float64(next()-before) / revocations; each > 1.5 {
		t.Errorf("%.1f transaction numbers for each revocation, with %d instances", each, len(replicas))
	}
}

// A primary that was cut off from its standby, which has taken its place, does not know
// it. Who still reads it notices, since nothing acknowledges its heartbeats: also when
// one was cancelled, and can be read.
func TestSplitBrain(t *testing.T) {
	old := testserver.StartPostgres(t)
	mustMigrate(t, connect(t, old, old.Addr, pgstore.Config{}))
	replication := testserver.NewProxy(t, old.Addr)
	successor := old.Standby(replication.Addr)
	execSQL(t, old, "ALTER SYSTEM SET synchronous_standby_names = '*'")
	execSQL(t, old, "SELECT pg_reload_conf()")
	policy := revoke.Policy{Poll: 200 * time.Millisecond, Timeout: time.Second, MaxStale: 8 * time.Second} // longer than until a heartbeat is cancelled
	left := faulttest.Follow(t, connect(t, old, old.Addr, pgstore.Config{}), policy)
	time.Sleep(4 * time.Second)
	if err := left.Health(); err != nil {
		t.Fatalf("while all is well: %v; %+v", err, left.Status())
	}
	replication.Set(testserver.BlackHole)
	successor.Promote()
	time.Sleep(policy.MaxStale + 2*time.Second)
	if err := left.Health(); !errors.Is(err, sealed.ErrUnverified) {
		t.Errorf("an instance that reads the primary of before: %v; %+v", err, left.Status())
	}
	p, err := pgxpool.New(t.Context(), old.URL(old.Addr))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var visible bool
	for end := time.Now().Add(10 * time.Second); !visible && time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err := p.QueryRow(t.Context(), "SELECT begun > proved FROM sealed_log").Scan(&visible); err != nil {
			t.Fatal(err)
		}
	}
	if !visible {
		t.Error("no heartbeat was cancelled, so that this test shows less than it says")
	}
	for end := time.Now().Add(policy.MaxStale); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err := left.Health(); !errors.Is(err, sealed.ErrUnverified) {
			t.Fatalf("after a heartbeat was cancelled: %v; %+v", err, left.Status())
		}
	}
}

// A transaction that is held open elsewhere makes no read slower, however much comes.
func TestReadsBesideAnOldTransaction(t *testing.T) {
	server, p, s := start(t)
	held, err := p.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer held.Rollback(context.Background())
	if _, err := held.Exec(t.Context(), "SELECT pg_current_xact_id()"); err != nil {
		t.Fatal(err)
	}
	execSQL(t, server, fmt.Sprintf(`INSERT INTO sealed_revocations (mark, until, entry)
		SELECT 1, now() + interval '1 hour', '\x0118'::bytea || decode(lpad(to_hex(n), 32, '0'), 'hex') || '\x0000019b00000000'::bytea FROM generate_series(1, %d) n`, 200_000))
	ids, cursor, err := readAll(t, s, "")
	if err != nil || len(ids) != 200_000 {
		t.Fatalf("%d read, %v", len(ids), err)
	}
	const times = 50
	began := time.Now()
	for range times {
		if ids, cursor, err = readAll(t, s, cursor); err != nil || len(ids) != 0 {
			t.Fatalf("%d read, %v", len(ids), err)
		}
	}
	if each := time.Since(began) / times; each > 50*time.Millisecond {
		t.Errorf("a read of nothing takes %v", each)
	}
}
