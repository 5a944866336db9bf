package pgstore_test

import (
	"context"
	"errors"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/sealed"
	"example.com/sealed/internal/testserver"
	"example.com/sealed/pgstore"
	"example.com/sealed/revoke"
)

// Transactions that hold all four connections of the pool do not wait for one more.
func TestRevokeTxOnAFullPool(t *testing.T) {
	_, p, s := start(t)
	for _, until := range []time.Duration{time.Hour, 40 * 24 * time.Hour} {
		var begun, all sync.WaitGroup
		begun.Add(4)
		for n := range byte(4) {
			all.Go(func() {
				err := pgx.BeginFunc(soon(t), p, func(tx pgx.Tx) error {
					begun.Done()
					begun.Wait()
					return s.RevokeTx(soon(t), tx, sealed.Revocation{ID: sealed.ID{n, 7}, Until: time.Now().Add(until)})
				})
				if err != nil {
					t.Errorf("until %v: %v", until, err)
				}
			})
		}
		all.Wait()
	}
}

// No transaction waits for its client: if the network broke down, the server would
// keep its locks. Answers take half a second here, so that one that waits is seen.
func TestNoTransactionWaits(t *testing.T) {
	server := testserver.StartPostgres(t)
	observer := pool(t, server.URL(server.Addr))
	proxy := testserver.NewProxy(t, server.Addr)
	s := connect(t, server, proxy.Addr, pgstore.Config{})
	proxy.Set(testserver.Slow)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, do := range []func() error{
			func() error { return s.Migrate(ctx) },
			func() error {
				return s.Append(ctx, []sealed.Revocation{{ID: sealed.ID{1}, Until: time.Now().Add(60 * 24 * time.Hour)}})
			},
			func() error { _, err := s.Read(ctx, ""); return err },
			func() error { return s.Prune(ctx) },
			func() error { _, err := s.Save(ctx, []byte("keys"), ""); return err },
			func() error { _, _, err := s.Load(ctx); return err },
		} {
			if err := do(); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	}()
	defer func() { cancel(); <-done }()
	for {
		select {
		case <-done:
			return
		case <-time.After(20 * time.Millisecond):
		}
		var query string
		err := observer.QueryRow(t.Context(), "SELECT coalesce(max(query), '') FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'").Scan(&query)
		if err != nil || query != "" {
			t.Fatalf("a transaction waits after %q (%v)", query, err)
		}
	}
}

// What was read survives a crash whatever the server's default, and whatever that of a
// transaction of the caller's: others rely on it.
func TestWhatWasReadIsDurable(t *testing.T) {
	server := testserver.StartPostgres(t, "-c", "synchronous_commit=off", "-c", "wal_writer_delay=10s")
	p := pool(t, server.URL(server.Addr))
	s := mustMigrate(t, connect(t, server, server.Addr, pgstore.Config{}))
	if err := s.Append(t.Context(), []sealed.Revocation{revocation(1)}); err != nil {
		t.Fatal(err)
	}
	if err := pgx.BeginFunc(t.Context(), p, func(tx pgx.Tx) error { return s.RevokeTx(t.Context(), tx, revocation(2)) }); err != nil {
		t.Fatal(err)
	}
	_, cursor, err := readAll(t, s, "")
	if err != nil {
		t.Fatal(err)
	}
	server.Kill()
	server.Restart()
	s = connect(t, server, server.Addr, pgstore.Config{})
	if _, _, err := readAll(t, s, cursor); err != nil {
		t.Errorf("after a crash: %v", err)
	}
}

// An instance that starts, and migrates, gets in nobody's way.
func TestMigrateWhileATransactionIsOpen(t *testing.T) {
	server, p, s := start(t)
	held, err := p.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer held.Rollback(context.Background())
	if err := s.RevokeTx(t.Context(), held, revocation(1)); err != nil {
		t.Fatal(err)
	}
	if err := connect(t, server, server.Addr, pgstore.Config{}).Migrate(soon(t)); err != nil {
		t.Errorf("Migrate: %v", err)
	}
	if err := s.RevokeTx(soon(t), held, sealed.Revocation{ID: sealed.ID{8}, Until: time.Now().Add(60 * 24 * time.Hour)}); err != nil {
		t.Errorf("a further RevokeTx: %v", err)
	}
}

// A dump brings rows of transactions that the new server has not had: reading says
// so until Migrate has taken them over, and then misses none.
func TestDump(t *testing.T) {
	old, fresh := testserver.StartPostgres(t), testserver.StartPostgres(t)
	s := mustMigrate(t, connect(t, old, old.Addr, pgstore.Config{}))
	for range 200 { // far ahead of the fresh server
		execSQL(t, old, "SELECT pg_current_xact_id()")
	}
	const n = 7000 // more than a page
	var all []sealed.Revocation
	for i := range n {
		all = append(all, sealed.Revocation{ID: sealed.ID{byte(i), byte(i >> 8), 5}, Until: time.Now().Add(time.Hour)})
	}
	if err := s.Append(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	dump := exec.Command("bash", "-c", `set -o pipefail; pg_dump "$0" | psql -q -v ON_ERROR_STOP=1 "$1"`, old.URL(old.Addr), fresh.URL(fresh.Addr))
	if out, err := dump.CombinedOutput(); err != nil {
		t.Fatalf("pg_dump: %v\n%s", err, out)
	}
	restored := connect(t, fresh, fresh.Addr, pgstore.Config{})
	if _, _, err := readAll(t, restored, ""); err == nil || errors.Is(err, revoke.ErrGap) {
		t.Errorf("before Migrate: %v, want an error", err)
	}
	mustMigrate(t, restored)
	ids, cursor, err := readAll(t, restored, "")
	if err != nil || len(ids) != n {
		t.Errorf("%d of %d read, %v", len(ids), n, err)
	}
	if ids, _, err = readAll(t, restored, cursor); err != nil || len(ids) != 0 {
		t.Errorf("%d read again, %v", len(ids), err)
	}
}

// Pruning leaves the fence of those who have read to the end: a quiet week is no loss.
func TestPruneMakesNoGap(t *testing.T) {
	_, p, s := start(t)
	var old []sealed.Revocation
	for n := range byte(250) {
		old = append(old, sealed.Revocation{ID: sealed.ID{n, 3}, Until: time.Now().Add(-8 * 24 * time.Hour)})
	}
	if err := s.Append(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	_, cursor, err := readAll(t, s, "")
	if err != nil {
		t.Fatal(err)
	}
	for n := range byte(2) {
		if err := s.Append(t.Context(), []sealed.Revocation{revocation(n)}); err != nil {
			t.Fatal(err)
		}
		if err := s.Prune(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, cursor, err = readAll(t, s, cursor); err != nil {
			t.Errorf("Read of what came before pruning: %v", err)
		}
	}
	var left int
	if err := p.QueryRow(t.Context(), "SELECT count(*) FROM sealed_revocations").Scan(&left); err != nil || left > 110 {
		t.Errorf("%d rows are left of 250 that have expired, %v", left, err)
	}
}

// A login that changes, as with tokens of a cloud, is the listener's as well.
func TestBeforeConnect(t *testing.T) {
	server := testserver.StartPostgres(t)
	config, err := pgxpool.ParseConfig("postgres://nobody@" + server.Addr + "/postgres?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	config.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error { c.User = "postgres"; return nil }
	p, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	s, err := pgstore.New(p, pgstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	mustMigrate(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := s.Wait(ctx, ""); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait: %v, want the deadline", err)
	}
}
